"""One record at a time: lock it, insert it, change it. What becomes of a row beside that is the triggers' business."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import RowMapping, Select, Table, bindparam, func, insert, literal_column, select, true, update
from sqlalchemy.exc import IntegrityError

from app.access.permissions import Permission
from app.db.constraints import constraint_name
from app.db.transaction import Transaction
from app.models import Record
from app.web import strict_json
from app.web.errors import AppError, Code

# What a client is told when a write runs into a constraint, found out after the write was undone.
Explanations = Mapping[str, Callable[[], Awaitable[AppError]]]


class Records:
    """The records of one table. `owned` says that `crm_is_own(row)` exists for it."""

    def __init__(self, model: type[Record], missing: Code, *, owned: bool) -> None:
        table = model.__table__
        assert isinstance(table, Table)  # noqa: S101 -- not a subquery
        self.table = table
        self._missing = missing
        own = func.crm_is_own(literal_column(table.name)) if owned else true()
        stored = [column for column in table.columns if column.computed is None]
        self._locked: Select[Any] = (
            select(*stored, func.coalesce(own, False).label("is_own"))
            .where(table.c.id == bindparam("record_id"))
            .with_for_update()
        )

    async def lock(self, tx: Transaction, record_id: int) -> RowMapping:
        """A live record, locked for a change by this person.

        Raises AppError: not found, not the person's own, or not the version that If-Match asks for; in that order.
        """
        row = await self._find(tx, record_id)
        if row is None or row.get("deleted_at") is not None:
            raise AppError(self._missing, status=404)
        if not (row["is_own"] or tx.actor.can(Permission.MANAGE_ALL)):
            raise AppError(Code.INSUFFICIENT_PERMISSIONS, "This record is not yours: you may read it, not change it")
        tx.precondition.check(row["version"])
        return row

    async def lock_trashed(self, tx: Transaction, record_id: int) -> RowMapping:
        """A record in the trash, locked. Raises AppError: not found, or NOT_DELETED."""
        row = await self._find(tx, record_id)
        if row is None:
            raise AppError(self._missing, status=404)
        if row["deleted_at"] is None:
            raise AppError(Code.NOT_DELETED)
        return row

    async def insert(self, tx: Transaction, values: Mapping[str, Any], explain: Explanations | None = None) -> int:
        """Store a new record of the person's tenant and return its id."""
        statement = insert(self.table).values(tenant_id=tx.actor.tenant_id, **values).returning(self.table.c.id)
        result = await _guarded(tx, statement, explain or {})
        return int(result.scalar_one())

    async def update(
        self, tx: Transaction, row: RowMapping, changes: Mapping[str, Any], explain: Explanations | None = None
    ) -> bool:
        """Write those of the changes that differ from the locked row; returns whether there was one."""
        real = {name: value for name, value in changes.items() if _differs(row[name], value)}
        if real:
            await _guarded(tx, update(self.table).where(self.table.c.id == row["id"]).values(**real), explain or {})
        return bool(real)

    async def trash(self, tx: Transaction, row: RowMapping) -> None:
        """Put a locked record into the trash."""
        await tx.connection.execute(
            update(self.table).where(self.table.c.id == row["id"]).values(deleted_at=func.now())
        )

    async def restore(self, tx: Transaction, row: RowMapping, explain: Explanations | None = None) -> None:
        """Take a locked record out of the trash."""
        await _guarded(
            tx, update(self.table).where(self.table.c.id == row["id"]).values(deleted_at=None), explain or {}
        )

    async def _find(self, tx: Transaction, record_id: int) -> RowMapping | None:
        found = await tx.connection.execute(self._locked, {"record_id": record_id})
        row: RowMapping | None = found.mappings().one_or_none()
        return row


async def _guarded(tx: Transaction, statement: Any, explain: Explanations) -> Any:
    """Execute; where a constraint has an explanation, undo the one statement and raise that."""
    if not explain:
        return await tx.connection.execute(statement)
    try:
        async with tx.connection.begin_nested():
            return await tx.connection.execute(statement)
    except IntegrityError as error:
        explanation = explain.get(constraint_name(error) or "")
        if explanation is None:
            raise
        raise await explanation() from error


def _differs(present: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        # In JSON, unlike in Python, true is not 1.
        return strict_json.encode_sorted(present) != strict_json.encode_sorted(wanted)
    return bool(present != wanted)
