"""Reading the audit log. Values are shown as the records' own answers show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Select, bindparam, case, cast, func, literal, select, type_coerce
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import BigInteger

from app.admin.audit.schemas import AuditEntry, AuditQuery, Difference, VersionQuery
from app.models import AuditEntry as Row
from app.models import AuditSeal, PipelineStage, Record, UserReference
from app.records.counts import FACET, Counted
from app.records.filters import one_of, since, until, user_in
from app.records.json_columns import selected, view_columns
from app.records.listing import Listing
from app.records.transaction import Transaction
from app.web.errors import AppError, Code
from app.web.paging import SortOrder
from app.web.structs import present_user

Values = dict[str, Any] | None


def _presenter(column_type: Any) -> Callable[[Any], Any] | None:
    """How a stored JSON value of such a column is shown, if not as it is stored."""
    if isinstance(column_type, UserReference):
        return present_user
    if column_type.python_type is Decimal:
        return _without_zeros
    return _as_time if column_type.python_type is datetime else None


def _as_time(text: str) -> datetime | str:
    """A time as records show it. Old entries may have years that Python does not know: they stay as they are stored."""
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return text


def _without_zeros(amount: Decimal | int) -> Decimal:
    """An amount without the zeros that it is stored with."""
    whole, plain = Decimal(amount).to_integral_value(), Decimal(amount).normalize()
    return whole if plain == whole else plain


# Column names mean the same in every table, so one map serves all resource types.
PRESENTERS = {
    column.name: presenter
    for record in Record.__subclasses__()
    for column in record.__table__.columns
    if (presenter := _presenter(column.type)) is not None
}
c = Row.__table__.c
stage = PipelineStage.__table__.c
seal = AuditSeal.__table__.c


def _with_stage_name(values: ColumnElement[Any]) -> ColumnElement[Any]:
    """A deal's row has the id of its stage; clients see its name."""
    name = select(stage.name).where(stage.id == cast(values["stage_id"].astext, BigInteger)).scalar_subquery()
    named = values.op("-")("stage_id").op("||")(func.jsonb_build_object("stage", name))
    return case((values.has_key("stage_id"), named), else_=values).label(None)


def _of_seal(value: ColumnElement[Any]) -> ColumnElement[Any]:
    return select(value).where(seal.tenant_id == c.tenant_id, seal.entry_id == c.id).scalar_subquery().label(None)


COLUMNS = view_columns(
    AuditEntry,
    Row.__table__,
    changes=literal(None),
    old_values=type_coerce(_with_stage_name(c.old_values), JSONB),
    new_values=type_coerce(_with_stage_name(c.new_values), JSONB),
    sequence=_of_seal(seal.sequence),
    hash=_of_seal(func.encode(seal.hash, "hex")),
)


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Stored values as answers show them."""
    return {
        name: value if value is None or name not in PRESENTERS else PRESENTERS[name](value)
        for name, value in values.items()
    }


def _entry(*stored: Any) -> AuditEntry:
    entry = AuditEntry(*stored)
    entry.old_values, entry.new_values = (values and present(values) for values in (entry.old_values, entry.new_values))
    old, new = entry.old_values or {}, entry.new_values or {}
    # For an update, the trigger stored what differs. For a whole record, empty fields are left out.
    whole = not (old and new)
    entry.changes = {
        name: Difference(old.get(name), new.get(name))
        for name in new or old
        if not whole or (new or old)[name] is not None
    }
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
