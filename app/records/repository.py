"""Reading, locking, creating and changing one record. Versions, audit entries and counts are made by triggers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

from psycopg.errors import IntegrityError
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Executable,
    Select,
    Table,
    any_,
    bindparam,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)

from app.access.permissions import Permission
from app.db.result import Result, RowMapping
from app.records.json_columns import Columns, selected
from app.records.resources import Resource, references
from app.records.transaction import Transaction
from app.web import strict_json
from app.web.errors import AppError, Code, Fault, bad_field, invalid

Shown = TypeVar("Shown")
# Until the transaction ends, nobody else of the organization makes a record of a limited kind.
ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('limited ' || current_setting('crm.tenant'), 0))")
# By constraint: what a client is told when a write violates it. Called after the write was undone, with the values that
# should have been written.
Explanations = Mapping[str, Callable[[Transaction, Mapping[str, Any]], Awaitable[AppError]]]

# Statements for writing one table: there is one for each set of columns that clients send.
MOST_KEPT = 200


class NotLiveError(AppError):
    """There is no such record that is live."""

    def __init__(self, resource: Resource, record_id: int | None) -> None:
        super().__init__(resource.not_found, status=404)
        self.resource = resource
        self.record_id = record_id


class Lookup(NamedTuple):
    """A reference, and the statement that finds the live record it refers to and keeps it out of the trash."""

    column: str
    target: Resource
    find: Select[Any]


class Repository(Generic[Shown]):
    """The records of one kind. `view` and `columns` say how one is shown."""

    def __init__(
        self,
        resource: Resource,
        view: Callable[..., Shown],
        columns: Columns,
        *,
        explain: Explanations = MappingProxyType({}),
    ) -> None:
        table = resource.table
        self.resource = resource
        self.view = view
        self.columns = columns
        self._explain = dict(explain)
        if "external_id" in table.c:
            self._explain[resource.external_id_key] = self._external_id_exists
        self._references = [Lookup(column, target, _lock_live(target)) for column, target in references(resource)]
        stored = [column for column in table.columns if column.computed is None]
        live = [table.c.id == bindparam("record_id")]
        if resource.has_trash:
            live.append(table.c.deleted_at.is_(None))
        self._one: Select[Any] = select(*selected(columns)).where(*live)
        self._one_in_trash_too: Select[Any] = select(*selected(columns)).where(live[0])
        self._many: Select[Any] = select(table.c.id, *selected(columns)).where(
            table.c.id == any_(bindparam("ids", type_=ARRAY(table.c.id.type))), *live[1:]
        )
        self._stored: Select[Any] = select(*stored).where(
            table.c.id == any_(bindparam("ids", type_=ARRAY(table.c.id.type))), *live[1:]
        )
        self._exists = select(table.c.id).where(*live)
        self._lock_live = self._exists.with_for_update()
        self._lock: Select[Any] = select(*stored).where(table.c.id == bindparam("record_id")).with_for_update()
        self._owns = select(func.crm_owns(literal_column(f"'{table.name}'"), bindparam("record_id")))
        self._count = select(func.count()).select_from(table)
        # Built once for each set of columns that are written, or returned.
        self._insert = lru_cache(MOST_KEPT)(partial(_insert, table))
        self._update = lru_cache(MOST_KEPT)(partial(_update, table))

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def get(self, tx: Transaction, record_id: int) -> Shown:
        """A live record. Raises AppError: not found."""
        row = (await tx.connection.execute(self._one, {"record_id": record_id})).one_or_none()
        if row is None:
            raise self.not_found(record_id)
        return self.view(*row)

    async def get_live(self, tx: Transaction, ids: Sequence[int]) -> dict[int, Shown]:
        """Those of these records that are there and not in the trash, by id."""
        return {record_id: self.view(*row) for record_id, *row in await tx.connection.execute(self._many, {"ids": ids})}

    async def read_live(self, tx: Transaction, ids: Sequence[int]) -> dict[int, RowMapping]:
        """Those of these records that are there and not in the trash, as they are stored, by id."""
        found = await tx.connection.execute(self._stored, {"ids": ids})
        return {row["id"]: row for row in found.mappings()}

    async def get_in_trash_too(self, tx: Transaction, record_id: int) -> Shown | None:
        """A record, in the trash or not; None if it is gone."""
        row = (await tx.connection.execute(self._one_in_trash_too, {"record_id": record_id})).one_or_none()
        return None if row is None else self.view(*row)

    async def ensure_exists(self, tx: Transaction, record_id: int) -> None:
        """Raise AppError unless this is a live record that the person sees."""
        if (await tx.connection.execute(self._exists, {"record_id": record_id})).first() is None:
            raise self.not_found(record_id)

    async def ensure_own(self, tx: Transaction, record_id: int) -> None:
        """Raise AppError INSUFFICIENT_PERMISSIONS unless this person may change the record and what belongs to it."""
        if not self.resource.owned or tx.actor.can(Permission.MANAGE_ALL):
            return
        if not (await tx.connection.execute(self._owns, {"record_id": record_id})).scalar_one():
            raise AppError(Code.INSUFFICIENT_PERMISSIONS, "This record is not yours: you may read it, not change it")

    def not_found(self, record_id: int | None = None) -> AppError:
        """The error for an address without such a record. If it was merged into another one, whoever opened the
        transaction finds that out, and says so.
        """
        return NotLiveError(self.resource, record_id)

    # ── locking ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def get_for_update(self, tx: Transaction, record_id: int) -> RowMapping:
        """A live record, locked for a change by this person.

        Raises AppError: not found, not the person's own, or not the version that If-Match asks for; in that order.
        """
        row = await self._find(tx, record_id)
        if row is None or row.get("deleted_at") is not None:
            raise self.not_found(record_id)
        await self.ensure_own(tx, record_id)
        tx.precondition.check(row["version"])
        return row

    async def lock_parent(self, tx: Transaction, record_id: int) -> None:
        """Lock a live record until the transaction ends, to add something to it. Raises AppError: not found."""
        if (await tx.connection.execute(self._lock_live, {"record_id": record_id})).first() is None:
            raise self.not_found(record_id)

    async def lock_parent_for_restore(self, tx: Transaction, record_id: int) -> None:
        """The same for something that is restored. Raises AppError PARENT_DELETED if the record is in the trash."""
        if (await tx.connection.execute(self._lock_live, {"record_id": record_id})).first() is None:
            raise parent_deleted(self.resource, record_id)

    async def _find(self, tx: Transaction, record_id: int) -> RowMapping | None:
        found = await tx.connection.execute(self._lock, {"record_id": record_id})
        return found.mappings().one_or_none()

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def create(self, tx: Transaction, values: Mapping[str, Any]) -> Shown:
        """Store a new record. Raises AppError as `with_owner`, or a 400 for a reference that is not live."""
        values = self.with_owner(tx, values)
        await self.check_references(tx, values)
        return await self.get(tx, await self.insert(tx, values))

    async def change(self, tx: Transaction, record_id: int, values: Mapping[str, Any]) -> Shown:
        """Change a record. Raises AppError as `apply`."""
        await self.apply(tx, record_id, values)
        return await self.get(tx, record_id)

    async def apply(self, tx: Transaction, record_id: int, values: Mapping[str, Any]) -> bool:
        """Change a record that nobody wants to see; returns whether anything differed.

        Raises AppError as `get_for_update` and `check_owner`, or a 400 for a new reference that is not live.
        """
        row = await self.get_for_update(tx, record_id)
        self.check_owner(tx, row, values)
        await self.check_references(tx, differing(row, values))
        return await self.update(tx, row, values)

    def with_owner(self, tx: Transaction, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a new record, which is its creator's unless they say otherwise.

        Raises AppError INSUFFICIENT_PERMISSIONS if this person may not create records for others.
        """
        owner = self.resource.owner
        if owner is None:
            return dict(values)
        owned = {owner: tx.actor.reference, **values}
        if owned[owner] != tx.actor.reference:
            tx.actor.require(Permission.MANAGE_ALL)
        return owned

    def check_owner(self, tx: Transaction, row: RowMapping, values: Mapping[str, Any]) -> None:
        """Raise AppError INSUFFICIENT_PERMISSIONS if this person may not give the record to somebody else."""
        owner = self.resource.owner
        if owner is not None and values.get(owner, row[owner]) != row[owner]:
            tx.actor.require(Permission.MANAGE_ALL)

    async def insert(self, tx: Transaction, values: Mapping[str, Any]) -> int:
        """Store a new record of the person's tenant and return its id."""
        stored = await self.insert_returning(tx, values, (self.resource.table.c.id,))
        return int(stored[0])

    async def insert_returning(
        self, tx: Transaction, values: Mapping[str, Any], columns: tuple[ColumnElement[Any], ...]
    ) -> Any:
        """Store a new record and return these columns of it, as they are before triggers run after the insert."""
        await self.check_room(tx)
        values = {"tenant_id": tx.actor.tenant_id, **self.dated(tx, values)}
        if tx.dry_run:
            values["id"] = tx.placeholder_id()
        return (await self._write(tx, self._insert(tuple(values), columns), values, values)).one()

    async def check_room(self, tx: Transaction) -> None:
        """Raise AppError LIMIT_REACHED if the organization has as many of these records as it may. Who makes one of a
        limited kind at the same moment waits, so that no two take the last place.
        """
        most = self.resource.most
        if most is None:
            return
        await tx.connection.execute(ONE_AT_A_TIME)
        if (await tx.connection.execute(self._count)).scalar_one() >= most:
            raise AppError(Code.LIMIT_REACHED, data={"max": most})

    def dated(self, tx: Transaction, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a new record. Admins and managers may import history, with a created_at in the past; it is
        ignored from others, as every read-only field is. Raises AppError, a 400, if it is in the future.
        """
        kept = dict(values)
        made = kept.pop("created_at", None)
        if made is None or not tx.actor.can(Permission.MANAGE_ALL):
            return kept
        if made > datetime.now(UTC):
            raise invalid(Fault("created_at", "can't be in the future"))
        return kept | {"created_at": made}

    async def update(self, tx: Transaction, row: RowMapping, values: Mapping[str, Any]) -> bool:
        """Write the values that differ from the locked row; returns whether there were any."""
        changed = differing(row, values)
        if changed:
            await self._store(tx, row, changed)
        return bool(changed)

    async def check_references(self, tx: Transaction, values: Mapping[str, Any]) -> None:
        """Raise AppError, a 400, for the first reference that does not lead to a live record that this person sees. The
        records that are found can't be trashed until the transaction ends.

        For a change, pass only the values that differ: what a record refers to already may be in the trash by now, or
        hidden from this person.
        """
        for column, target, find in self._references:
            referred = values.get(column)
            if referred is not None and not (await tx.connection.execute(find, {"referred": referred})).first():
                raise bad_field(target.not_found, column)

    async def require_live(self, tx: Transaction, values: Mapping[str, Any]) -> None:
        """Raise AppError PARENT_DELETED for the first reference among these values whose record is in the trash. The
        others can't be trashed until the transaction ends.
        """
        for column, target, find in self._references:
            referred = values.get(column)
            if referred is not None and not (await tx.connection.execute(find, {"referred": referred})).first():
                raise parent_deleted(target, referred)

    async def _store(
        self,
        tx: Transaction,
        row: RowMapping,
        changed: Mapping[str, Any],
        explain: Explanations = MappingProxyType({}),
    ) -> None:
        parameters = {"record_id": row["id"], **{f"new_{name}": value for name, value in changed.items()}}
        await self._write(tx, self._update(tuple(changed)), parameters, {**row, **changed}, explain)

    async def _write(
        self,
        tx: Transaction,
        statement: Executable,
        parameters: Mapping[str, Any],
        values: Mapping[str, Any],
        explain: Explanations = MappingProxyType({}),
    ) -> Result[Any]:
        """Execute. If the write violates a constraint that has an explanation, undo everything and raise that."""
        try:
            return await tx.connection.execute(statement, parameters)
        except IntegrityError as error:
            explanation = (self._explain | dict(explain)).get(error.diag.constraint_name or "")
            if explanation is None:
                raise
            # Not a savepoint: that would cost two round trips for each write, and most writes succeed.
            await tx.begin_again()
            raise await explanation(tx, values) from error

    async def _external_id_exists(self, tx: Transaction, values: Mapping[str, Any]) -> AppError:
        c = self.resource.table.c
        held = select(c.id).where(c.external_id == values["external_id"], c.deleted_at.is_(None))
        holder = (await tx.connection.execute(held)).scalar_one_or_none()
        # No id if this person may not see the record that has it.
        data = None if holder is None else {f"{self.resource.kind}_id": holder}
        return AppError(Code.EXTERNAL_ID_EXISTS, data=data)


def differing(row: RowMapping, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that differ from the row's."""
    return {name: value for name, value in values.items() if _differs(row[name], value)}


def parent_deleted(parent: Resource, record_id: int) -> AppError:
    """The error for restoring something whose parent is in the trash."""
    return AppError(Code.PARENT_DELETED, data={"parent": {"type": parent.kind, "id": record_id}})


def _lock_live(target: Resource) -> Select[Any]:
    c = target.table.c
    return select(c.id).where(c.id == bindparam("referred"), c.deleted_at.is_(None)).with_for_update(read=True)


def _insert(table: Table, names: tuple[str, ...], returned: tuple[ColumnElement[Any], ...]) -> Executable:
    return insert(table).values({name: bindparam(name) for name in names}).returning(*returned)


def _update(table: Table, names: tuple[str, ...]) -> Executable:
    # Under names of their own, since SQLAlchemy keeps the columns' for itself.
    new: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
    return update(table).where(table.c.id == bindparam("record_id")).values(new)


def _differs(present: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        # In JSON, unlike in Python, true is not 1.
        return strict_json.encode_sorted(present) != strict_json.encode_sorted(wanted)
    return bool(present != wanted)
