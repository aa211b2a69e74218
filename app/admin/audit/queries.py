"""Reading the audit log. Values are shown as the records' own answers show them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, func, literal, select, type_coerce
from sqlalchemy.dialects.postgresql import JSONB

from app.admin.audit.schemas import AuditEntry, AuditQuery, VersionQuery
from app.models import AuditEntry as Row
from app.models import AuditSeal
from app.records.audit_values import differences, present, with_stage_name
from app.records.counts import FACET, Counted
from app.records.filters import one_of, since, until, user_in
from app.records.json_columns import selected, view_columns
from app.records.listing import Listing
from app.records.transaction import Transaction
from app.web.errors import AppError, Code
from app.web.paging import SortOrder

c = Row.__table__.c
seal = AuditSeal.__table__.c


def _of_seal(value: ColumnElement[Any]) -> ColumnElement[Any]:
    return select(value).where(seal.tenant_id == c.tenant_id, seal.entry_id == c.id).scalar_subquery().label(None)


COLUMNS = view_columns(
    AuditEntry,
    Row.__table__,
    changes=literal(None),
    old_values=type_coerce(with_stage_name(c.old_values), JSONB),
    new_values=type_coerce(with_stage_name(c.new_values), JSONB),
    sequence=_of_seal(seal.sequence),
    hash=_of_seal(func.encode(seal.hash, "hex")),
)


def _entry(*stored: Any) -> AuditEntry:
    entry = AuditEntry(*stored)
    entry.old_values, entry.new_values = (values and present(values) for values in (entry.old_values, entry.new_values))
    entry.changes = differences(entry.old_values, entry.new_values)
    return entry


LISTING = Listing(
    "audit",
    _entry,
    COLUMNS,
    Row.__table__,
    key=c.id,
    query=AuditQuery,
    filters={
        "resource_type": one_of(c.resource_type),
        "resource_id": one_of(c.resource_id),
        "action": one_of(c.action),
        "user_id": user_in(c.user_id),
        "request_id": one_of(c.request_id),
        "operation_id": one_of(c.operation_id),
        "from_": since(c.created_at),
        "to": until(c.created_at),
    },
    default_sort=("created_at", SortOrder.DESC),
    counted=Counted("audit_entries", {"resource_type": one_of(FACET)}),
)
VERSIONS = Listing(
    "versions",
    _entry,
    COLUMNS,
    Row.__table__,
    key=c.id,
    query=VersionQuery,
    scope={"resource_type": one_of(c.resource_type), "resource_id": one_of(c.resource_id)},
    # By id: of two changes at a time, the one that waited has the earlier moment.
    sorts={"created_at": c.id},
    default_sort=("created_at", SortOrder.DESC),
)
OF_OPERATION: Select[Any] = (
    select(*selected(COLUMNS))
    .where(c.operation_id == bindparam("operation_id"))
    .order_by(c.id)
    .limit(bindparam("most"))
)
COUNT_OF_OPERATION = select(func.count()).where(c.operation_id == bindparam("operation_id"))
ONE: Select[Any] = select(*selected(COLUMNS)).where(c.id == bindparam("entry_id"))


async def get(tx: Transaction, entry_id: int) -> AuditEntry:
    """Raises AppError AUDIT_NOT_FOUND."""
    row = (await tx.connection.execute(ONE, {"entry_id": entry_id})).one_or_none()
    if row is None:
        raise AppError(Code.AUDIT_NOT_FOUND)
    return _entry(*row)


async def of_operation(tx: Transaction, operation_id: UUID, most: int) -> tuple[list[AuditEntry], int]:
    """The first entries of an operation, in order, and how many there are in all."""
    operation = {"operation_id": operation_id}
    rows = await tx.connection.execute(OF_OPERATION, operation | {"most": most})
    entries = [_entry(*row) for row in rows]
    if len(entries) < most:
        return entries, len(entries)
    return entries, (await tx.connection.execute(COUNT_OF_OPERATION, operation)).scalar_one()
