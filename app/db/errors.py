"""Errors of the database as errors of the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from psycopg import errors

from app.web.errors import AppError, Code, bad_field

log = structlog.get_logger("database")

# Constraint → what a client reads, and for a 400 the body's field that is to blame.
REFUSALS: dict[str, tuple[Code, str | None]] = {
    "customers_live_email_key": (Code.EMAIL_EXISTS, None),
    # Also of what comes out of the trash along with something else.
    **{
        f"{table}_live_external_id_key": (Code.EXTERNAL_ID_EXISTS, None)
        for table in ("customers", "contacts", "deals", "activities", "notes")
    },
    "pipeline_stages_name_key": (Code.STAGE_EXISTS, None),
    "deals_stage_fkey": (Code.STAGE_IN_USE, None),
    "stage_history_from_stage_fkey": (Code.STAGE_IN_USE, None),
    "stage_history_to_stage_fkey": (Code.STAGE_IN_USE, None),
    "deals_contact_fkey": (Code.CONTACT_NOT_FOUND, "contact_id"),
    "notes_link_check": (Code.MISSING_LINK, "customer_id"),
    "tags_name_key": (Code.TAG_EXISTS, None),
    "customer_tags_tag_fkey": (Code.TAG_NOT_FOUND, "tag_ids"),
}

# A statement or lock that took too long, a server that is full, going or gone: trying again is right.
TRANSIENT_ERRORS = (
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.IdleInTransactionSessionTimeout,
)
# Connection lost, resources used up, somebody intervened, the system failed: the classes of the standard's codes.
PASSING_CLASSES = {"08", "53", "57", "58"}


def translate(error: Exception) -> Exception:
    """The refusal that a database error means to clients; the error itself where it is a fault of ours."""
    if isinstance(error, errors.IntegrityError) and (refusal := REFUSALS.get(error.diag.constraint_name or "")):
        code, field = refusal
        return bad_field(code, field) if field else AppError(code)
    if (
        isinstance(error, (OSError, *TRANSIENT_ERRORS))
        or (
            isinstance(error, errors.Error)
            # libpq's own failures (refused, reset, no route) and the pool's carry no code.
            and (
                error.sqlstate[:2] in PASSING_CLASSES if error.sqlstate else isinstance(error, errors.OperationalError)
            )
        )
    ):
        log.warning("database unavailable", reason=type(error).__name__)
        return AppError(Code.SERVICE_UNAVAILABLE)
    return error


@contextmanager
def translate_errors() -> Iterator[None]:
    """What the database refuses inside, as an AppError."""
    try:
        yield
    except Exception as error:
        translated = translate(error)
        if translated is error:
            raise
        raise translated from error
