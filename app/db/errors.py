"""Errors of the database as errors of the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from psycopg import errors

from app.web.errors import AppError, Code

log = structlog.get_logger("database")

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
    """SERVICE_UNAVAILABLE for an error that is not ours and may pass; else the error itself."""
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
