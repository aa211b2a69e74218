"""Erasing a record for good, with all that belongs to it, and the signed receipt that says so.

The database does it (`crm_erase_record`): what is reached follows from its own foreign keys and triggers.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Struct, to_builtins
from sqlalchemy import bindparam, select, text

from app.models import AuditEntry
from app.records.resources import Resource
from app.records.signatures import RECEIPT, is_signed, sign
from app.records.transaction import Transaction
from app.settings import Settings
from app.web.errors import AppError, Code, Fault, invalid
from app.web.structs import present_user


class Limits(NamedTuple):
    """What one erasure reaches at most."""

    records: int
    entries: int


AT_ONCE = Limits(1000, 10_000)
# One transaction, of 7 seconds on a small machine: while it is open, the feed waits for it.
IN_JOB = Limits(10_000, 100_000)

audit = AuditEntry.__table__.c
ERASE_RECORD = text("""
    SELECT records, counts, entries, erasure
    FROM crm_erase_record(:resource, :record_id, :created_at, :reason, :most_records, :most_entries)
""")
MEASURE = text("""
    SELECT records, entries FROM crm_measure_erasure(:resource, :record_id, :most_records, :most_entries)
""")
ENTRY = select(audit.id, audit.created_at, audit.user_id, audit.user_name).where(audit.id == bindparam("entry_id"))
LAST_VALUES = (
    select(audit.old_values)
    .where(
        audit.resource_type == bindparam("kind"),
        audit.resource_id == bindparam("record_id"),
        audit.action == "delete",
        audit.old_values.is_not(None),
    )
    .order_by(audit.id.desc())
    .limit(1)
)


class Eraser(Struct):
    """The person who erased a record."""

    id: int | str | None
    name: str | None


class Receipt(Struct):
    """What was erased, when, by whom and why, by which audit entry. It is signed by this service. `created_at` tells
    the record from another one that has its id after a restore.
    """

    organization: str
    type: str
    id: int
    created_at: datetime
    erased: dict[str, int]
    reason: str
    erased_at: datetime
    erased_by: Eraser
    entry_id: int
    signature: str = ""

    def signed(self, settings: Settings) -> Receipt:
        """The same, with its signature."""
        self.signature = sign(settings, RECEIPT, self._body())
        return self

    def is_genuine(self, settings: Settings) -> bool:
        """Whether this service signed it."""
        return is_signed(settings, RECEIPT, self._body(), self.signature)

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = to_builtins(self)
        del body["signature"]
        return body


class Erased(Struct):
    """How many records of each type were erased, and the receipt; a dry run has none."""

    erased: dict[str, int]
    receipt: Receipt | None


def receipt_of(tenant: str, kind: str, record_id: int, details: Mapping[str, Any], entry: tuple[Any, ...]) -> Receipt:
    """The receipt that an entry of the action `erase` stands for, not signed yet."""
    entry_id, erased_at, user_id, user_name = entry
    return Receipt(
        organization=tenant,
        type=kind,
        id=record_id,
        created_at=datetime.fromisoformat(details["created_at"]),
        erased=details["erased"],
        reason=details["reason"],
        erased_at=erased_at,
        erased_by=Eraser(None if user_id is None else present_user(str(user_id)), user_name),
        entry_id=entry_id,
    )


def too_many(limits: Limits, who: str) -> AppError:
    """The refusal of an erasure that is too large."""
    return AppError(
        Code.TOO_MANY_RECORDS,
        f"{who} at most {limits.records} records and {limits.entries} audit entries, and this would be more: erase its"
        " contacts first, or let a part of it be purged from the trash",
    )


async def identify(tx: Transaction, resource: Resource, record_id: int, *, confirm: str) -> datetime:
    """When the record was made that has this name: live, in the trash or deleted for good before.

    Raises AppError: not found, INVALID_REQUEST if `confirm` is not its name.
    """
    title, created_at = await _identity(tx, resource, record_id)
    if title.split() != confirm.split():
        raise invalid(Fault("confirm", f"must be the name of the {resource.kind} as it is shown"))
    return created_at


async def measure(tx: Transaction, resource: Resource, record_id: int) -> int:
    """How many records a job would erase with this one. Raises AppError TOO_MANY_RECORDS."""
    given = {"resource": resource.table.name, "record_id": record_id}
    limits = {"most_records": IN_JOB.records, "most_entries": IN_JOB.entries}
    records, entries = (await tx.connection.execute(MEASURE, given | limits)).one()
    if records > IN_JOB.records or entries > IN_JOB.entries:
        raise too_many(IN_JOB, "A job erases")
    return int(records)


async def erase(
    tx: Transaction,
    resource: Resource,
    record_id: int,
    created_at: datetime,
    *,
    reason: str,
    limits: Limits,
    settings: Settings,
) -> Erased | None:
    """Erase the record that was made at this moment, with all that belongs to it; None if that is more than the limits.

    Raises AppError: not found, ON_HOLD.
    """
    given = {"resource": resource.table.name, "record_id": record_id, "created_at": created_at, "reason": reason}
    most = {"most_records": limits.records, "most_entries": limits.entries}
    records, counts, entries, entry_id = (await tx.connection.execute(ERASE_RECORD, given | most)).one()
    if records > limits.records or entries > limits.entries:
        return None
    if entry_id is None:  # somebody else erased it meanwhile
        raise AppError(resource.not_found, status=404)
    if tx.dry_run:
        return Erased(counts, None)
    entry = (await tx.connection.execute(ENTRY, {"entry_id": entry_id})).one()
    details = {"reason": reason, "erased": counts, "created_at": created_at.isoformat()}
    receipt = receipt_of(tx.actor.tenant_id, resource.kind, record_id, details, tuple(entry))
    return Erased(counts, receipt.signed(settings))


async def _identity(tx: Transaction, resource: Resource, record_id: int) -> tuple[str, datetime]:
    """What a record is called, and when it was made. Of one that was deleted for good, the log knows it."""
    c = resource.table.c
    names = [c[name] for name in resource.title]
    row = (await tx.connection.execute(select(c.created_at, *names).where(c.id == record_id))).one_or_none()
    if row is not None:
        created_at, *parts = row
    else:
        given = {"kind": resource.kind, "record_id": record_id}
        values = (await tx.connection.execute(LAST_VALUES, given)).scalar_one_or_none()
        if values is None:
            raise AppError(resource.not_found, status=404)
        created_at, parts = datetime.fromisoformat(values["created_at"]), [values.get(name) for name in resource.title]
    return " ".join(part for part in parts if part), created_at
