"""Imports as the database reads them."""

from __future__ import annotations

from typing import Any

from msgspec import convert
from sqlalchemy import Select, bindparam, delete, select, text, update

from app.access.permissions import Permission
from app.admin.imports.schemas import Import, ImportBrief, ImportColumn, ImportQuery, ImportStatus, ImportSummary
from app.files.unpacked import Column
from app.models import Import as Row
from app.records.filters import one_of, own_or_all, own_or_all_of, user_in
from app.records.json_columns import JsonColumn, selected, view_columns
from app.records.listing import Listing
from app.records.transaction import Transaction
from app.web.errors import AppError, Code
from app.web.paging import SortOrder

c = Row.__table__.c
SUMMARY = JsonColumn(c.summary, ImportSummary | None)
COLUMNS = view_columns(Import, Row.__table__, columns=JsonColumn(c.columns, list[ImportColumn]), summary=SUMMARY)
LISTING = Listing(
    "imports",
    ImportBrief,
    view_columns(ImportBrief, Row.__table__, summary=SUMMARY),
    Row.__table__,
    key=c.id,
    query=ImportQuery,
    filters={"kind": one_of(c.kind), "status": one_of(c.status), "user_id": user_in(c.user_id)},
    scope={"sent_by": user_in(c.user_id)},
    default_sort=("created_at", SortOrder.DESC),
)
VISIBLE = (c.id == bindparam("import_id"), own_or_all(c.user_id))
ONE: Select[Any] = select(*selected(COLUMNS)).where(*VISIBLE)
LOCKED: Select[Any] = select(Row.__table__).where(*VISIBLE).with_for_update()
DELETED = delete(Row).where(c.id == bindparam("import_id"))
# Nobody can run it any more without a check: that would be a run of some of its rows.
FAILED = update(Row).where(c.id == bindparam("import_id")).values(status=ImportStatus.FAILED.value)
DELETE_ROWS = text("""
    WITH gone AS (
        DELETE FROM import_rows WHERE import_id = :import_id AND number IN (
            SELECT number FROM import_rows WHERE import_id = :import_id ORDER BY number LIMIT :most
        ) RETURNING number
    ) SELECT count(*) FROM gone
""")
DELETED_AT_ONCE = 10_000
PRUNE = text("SELECT crm_prune_imports(:days, :most)")
KEPT = select(c.id).where(c.object_key == bindparam("key"))


def visible(tx: Transaction, import_id: int) -> dict[str, Any]:
    """The parameters that find an import for this person: agents see their own, others everybody's."""
    return {"import_id": import_id} | own_or_all_of(tx.actor.user_id, sees_all=tx.actor.can(Permission.MANAGE_ALL))


async def get(tx: Transaction, import_id: int) -> Import:
    """Raises AppError IMPORT_NOT_FOUND, also for an agent and somebody else's."""
    row = (await tx.connection.execute(ONE, visible(tx, import_id))).one_or_none()
    if row is None:
        raise AppError(Code.IMPORT_NOT_FOUND)
    return Import(*row)


async def get_for_update(tx: Transaction, import_id: int) -> Any:
    """The row with all its columns, locked until the transaction ends. Raises AppError IMPORT_NOT_FOUND."""
    row = (await tx.connection.execute(LOCKED, visible(tx, import_id))).mappings().one_or_none()
    if row is None:
        raise AppError(Code.IMPORT_NOT_FOUND)
    return row


def columns_of(row: Any) -> list[Column]:
    """What is known of the columns of an import's file."""
    return convert(row["columns"], list[Column])
