"""One record at a time: lock it, insert it, change it. What becomes of a row beside that is the triggers' business."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple

from psycopg.errors import IntegrityError
from sqlalchemy import (
    ColumnElement,
    Executable,
    RowMapping,
    Select,
    Table,
    bindparam,
    func,
    insert,
    literal_column,
    select,
    update,
)

from app.access.permissions import Permission
from app.db.execution import Rows
from app.db.transaction import Transaction
from app.models import Record
from app.web import strict_json
from app.web.errors import AppError, Code, Fault, bad_field, invalid

# What a client is told when a write runs into a constraint, found out after the write was undone.
Explanations = Mapping[str, Callable[[], Awaitable[AppError]]]


# Of one table's statements for writing, of which there are as many as sets of columns that a client may send.
MOST_KEPT = 200
# What a reference to a row that is not there, or that one may not see, is called.
MISSING = {
    "customers": Code.CUSTOMER_NOT_FOUND,
    "contacts": Code.CONTACT_NOT_FOUND,
    "deals": Code.DEAL_NOT_FOUND,
    "activities": Code.ACTIVITY_NOT_FOUND,
    "notes": Code.NOTE_NOT_FOUND,
}


class Reference(NamedTuple):
    """A column that refers to a record that can be in the trash, and the question whether that one is live."""

    column: str
    missing: Code
    find: Select[Any]


class Records:
    """The records of one table. `owned` says that they belong to people: that the table has a policy `own`; a tenant
    may have `most` of them.
    """

    def __init__(self, model: type[Record], missing: Code, *, owned: bool, most: int | None = None) -> None:
        table = model.__table__
        assert isinstance(table, Table)  # noqa: S101 -- not a subquery
        self.table = table
        self._missing = missing
        self._most = most
        self._count = select(func.count()).select_from(table)
        self._owned = owned
        self._references = list(_references(table))
        stored = [column for column in table.columns if column.computed is None]
        self._locked: Select[Any] = select(*stored).where(table.c.id == bindparam("record_id")).with_for_update()
        self._in_trash = update(table).where(table.c.id == bindparam("record_id")).values(deleted_at=func.now())
        # Prebuilt as reads are: for the columns that are written, and those that are returned.
        self._insert = lru_cache(MOST_KEPT)(partial(_insert, table))
        self._update = lru_cache(MOST_KEPT)(partial(_update, table))
        self._live = select(table.c.id).where(table.c.id == bindparam("record_id"))
        if "deleted_at" in table.c:
            self._live = self._live.where(table.c.deleted_at.is_(None))
        self._held = self._live.with_for_update()
        self._owns = select(func.crm_owns(literal_column(f"'{table.name}'"), bindparam("record_id")))

    async def lock(self, tx: Transaction, record_id: int) -> RowMapping:
        """A live record, locked for a change by this person.

        Raises AppError: not found, not the person's own, or not the version that If-Match asks for; in that order.
        """
        row = await self._find(tx, record_id)
        if row is None or row.get("deleted_at") is not None:
            raise AppError(self._missing, status=404)
        await self.require_own(tx, record_id)
        tx.precondition.check(row["version"])
        return row

    async def require_own(self, tx: Transaction, record_id: int) -> None:
        """Raise AppError INSUFFICIENT_PERMISSIONS unless this person may change what hangs on this record."""
        if not self._owned or tx.actor.can(Permission.MANAGE_ALL):
            return
        if not (await tx.connection.execute(self._owns, {"record_id": record_id})).scalar_one():
            raise AppError(Code.INSUFFICIENT_PERMISSIONS, "This record is not yours: you may read it, not change it")

    async def require(self, tx: Transaction, record_id: int) -> None:
        """Raise AppError unless this is a live record that the person sees."""
        if (await tx.connection.execute(self._live, {"record_id": record_id})).first() is None:
            raise AppError(self._missing, status=404)

    async def hold(self, tx: Transaction, record_id: int, *, own: bool = True) -> None:
        """Keep a live record as it is, and what hangs on it to oneself, until the transaction ends.

        Raises AppError: not found, or with `own` not the person's own.
        """
        if (await tx.connection.execute(self._held, {"record_id": record_id})).first() is None:
            raise AppError(self._missing)
        if own:
            await self.require_own(tx, record_id)

    async def hold_parent(self, tx: Transaction, record_id: int) -> None:
        """Keep a record as it is for what comes back to it. Raises AppError PARENT_DELETED where it is in the trash."""
        if (await tx.connection.execute(self._held, {"record_id": record_id})).first() is None:
            raise _parent_deleted(self._missing, record_id)

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
        stored = await self.insert_returning(tx, values, (self.table.c.id,), explain)
        return int(stored[0])

    async def insert_returning(
        self,
        tx: Transaction,
        values: Mapping[str, Any],
        columns: tuple[ColumnElement[Any], ...],
        explain: Explanations | None = None,
    ) -> Any:
        """Store a new record and return these columns of it, as they are before any trigger ran after it."""
        if self._most is not None and (await tx.connection.execute(self._count)).scalar_one() >= self._most:
            raise AppError(Code.LIMIT_REACHED, data={"max": self._most})
        values = {"tenant_id": tx.actor.tenant_id, **self.dated(tx, values)}
        explain = self._explain_external_id(tx, values.get("external_id")) | dict(explain or {})
        return (await _guarded(tx, self._insert(tuple(values), columns), values, explain)).one()

    def dated(self, tx: Transaction, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a new record, with the created_at of those who may bring history along: admins and managers.
        From others it is ignored, as every read-only field is. Raises AppError, a 400, for one in the future.
        """
        kept = dict(values)
        made = kept.pop("created_at", None)
        if made is None or not tx.actor.can(Permission.MANAGE_ALL):
            return kept
        if made > datetime.now(UTC):
            raise invalid(Fault("created_at", "can't be in the future"))
        return kept | {"created_at": made}

    async def update(
        self, tx: Transaction, row: RowMapping, changes: Mapping[str, Any], explain: Explanations | None = None
    ) -> bool:
        """Write those of the changes that differ from the locked row; returns whether there was one."""
        real = {name: value for name, value in changes.items() if _differs(row[name], value)}
        if real:
            explain = self._explain_external_id(tx, real.get("external_id")) | dict(explain or {})
            await _guarded(tx, self._update(tuple(real)), _named(row, real), explain)
        return bool(real)

    async def check_references(self, tx: Transaction, values: Mapping[str, Any]) -> None:
        """Raise AppError, a 400, for the first id in these values that is no live record that this person sees.

        Of a change, these are the values that differ: what a record refers to already may be in the trash, or
        somebody else's. What is found is kept out of the trash until the transaction ends.
        """
        for column, missing, find in self._references:
            record_id = values.get(column)
            if record_id is not None and not (await tx.connection.execute(find, {"referred": record_id})).first():
                raise bad_field(missing, column)

    async def trash(self, tx: Transaction, row: RowMapping) -> None:
        """Put a locked record into the trash."""
        await tx.connection.execute(self._in_trash, {"record_id": row["id"]})

    async def restore(
        self,
        tx: Transaction,
        row: RowMapping,
        changes: Mapping[str, Any] = MappingProxyType({}),
        explain: Explanations | None = None,
    ) -> None:
        """Take a locked record out of the trash, and what went there with it. Raises AppError PARENT_DELETED."""
        for column, missing, find in self._references:
            if row[column] is not None and not (await tx.connection.execute(find, {"referred": row[column]})).first():
                raise _parent_deleted(missing, row[column])
        back = {"deleted_at": None, **changes}
        explain = (
            self._explain_external_id(tx, row.get("external_id"))
            | self._explain_external_ids_along(tx, row["deleted_at"])
            | dict(explain or {})
        )
        await _guarded(tx, self._update(tuple(back)), _named(row, back), explain)

    def _explain_external_id(self, tx: Transaction, external_id: str | None) -> dict[str, Any]:
        if external_id is None:
            return {}
        return {f"{self.table.name}_live_external_id_key": partial(self._external_id_exists, tx, external_id)}

    async def _external_id_exists(self, tx: Transaction, external_id: str) -> AppError:
        c = self.table.c
        held = select(c.id).where(c.external_id == external_id, c.deleted_at.is_(None))
        holder = (await tx.connection.execute(held)).scalar_one_or_none()
        # None: the holder is one that this person may not see.
        data = None if holder is None else {f"{_type_of(self._missing)}_id": holder}
        return AppError(Code.EXTERNAL_ID_EXISTS, data=data)

    def _explain_external_ids_along(self, tx: Transaction, trashed_at: datetime) -> dict[str, Any]:
        others = (table for table in self.table.metadata.tables.values() if table is not self.table)
        return {
            f"{table.name}_live_external_id_key": partial(_external_id_exists_along, tx, table, trashed_at)
            for table in others
            if "external_id" in table.c
        }

    async def _find(self, tx: Transaction, record_id: int) -> RowMapping | None:
        found = await tx.connection.execute(self._locked, {"record_id": record_id})
        row: RowMapping | None = found.mappings().one_or_none()
        return row


async def _external_id_exists_along(tx: Transaction, table: Table, trashed_at: datetime) -> AppError:
    """Of what comes back with a record: what went into the trash at the same moment."""
    live, back = table.c, table.alias("back").c
    held = select(live.id).where(
        back.deleted_at == trashed_at, live.external_id == back.external_id, live.deleted_at.is_(None)
    )
    holder = (await tx.connection.execute(held.order_by(live.id).limit(1))).scalar_one_or_none()
    kind = _type_of(MISSING[table.name])
    message = f"Another {kind} has the external_id of one that would be restored too"
    data = {"type": kind} | ({} if holder is None else {f"{kind}_id": holder})
    return AppError(Code.EXTERNAL_ID_EXISTS, message, data=data)


def _type_of(missing: Code) -> str:
    return missing.name.removesuffix("_NOT_FOUND").lower()


def _parent_deleted(missing: Code, record_id: int) -> AppError:
    return AppError(Code.PARENT_DELETED, data={"parent": {"type": _type_of(missing), "id": record_id}})


def _references(table: Table) -> Iterator[Reference]:
    # Locked in one order, the one in which the trash takes them, so that the two do not wait for each other.
    order = list(MISSING)
    known = [each for each in table.foreign_key_constraints if each.referred_table.name in order]
    for constraint in sorted(known, key=lambda each: order.index(each.referred_table.name)):
        target = constraint.referred_table
        live = (target.c.id == bindparam("referred"), target.c.deleted_at.is_(None))
        find = select(target.c.id).where(*live).with_for_update(read=True)
        yield Reference(constraint.column_keys[-1], MISSING[target.name], find)


def _insert(table: Table, names: tuple[str, ...], returned: tuple[ColumnElement[Any], ...]) -> Executable:
    return insert(table).values({name: bindparam(name) for name in names}).returning(*returned)


def _update(table: Table, names: tuple[str, ...]) -> Executable:
    # Under names of their own, since SQLAlchemy keeps the columns' for itself.
    new: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
    return update(table).where(table.c.id == bindparam("record_id")).values(new)


def _named(row: RowMapping, values: Mapping[str, Any]) -> dict[str, Any]:
    return {"record_id": row["id"], **{f"new_{name}": value for name, value in values.items()}}


async def _guarded(
    tx: Transaction, statement: Executable, parameters: Mapping[str, Any], explain: Explanations
) -> Rows:
    """Execute; where a constraint has an explanation, begin anew, which undoes everything, and raise that."""
    try:
        return await tx.connection.execute(statement, parameters)
    except IntegrityError as error:
        explanation = explain.get(error.diag.constraint_name or "")
        if explanation is None:
            raise
        # Not a savepoint: that would be two round trips for each write, and most of them run into nothing.
        await tx.begin_again()
        raise await explanation() from error


def _differs(present: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        # In JSON, unlike in Python, true is not 1.
        return strict_json.encode_sorted(present) != strict_json.encode_sorted(wanted)
    return bool(present != wanted)
