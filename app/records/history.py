"""What records were, read from the audit log, and written back into them. Values are JSON, as the log has them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Executable, Select, bindparam, func, select, text

from app.db.roles import OWN_RECORDS_ROLE, SERVICE_ROLE
from app.models import AuditCut, AuditEntry
from app.records.resources import CUSTOMERS, RESOURCES, TAGS, Resource, references
from app.records.transaction import Transaction
from app.web import strict_json
from app.web.errors import AppError, Code

Values = dict[str, Any]

audit = AuditEntry.__table__.c
cut = AuditCut.__table__.c


class Entry(NamedTuple):
    """One change of one record: the values before and after of what it changed, or of all where there was nothing."""

    id: int
    kind: str
    record_id: int
    action: str
    user_id: int | str | None
    created_at: datetime
    old: Values | None
    new: Values | None
    version: int | None

    @property
    def record(self) -> tuple[str, int]:
        """The record that it is about."""
        return self.kind, self.record_id

    @property
    def deleted_for_good(self) -> bool:
        """Whether the record has no trash, so that all of it is in the log alone."""
        return self.action == "delete" and self.new is None


_COLUMNS = (
    *(audit.id, audit.resource_type, audit.resource_id, audit.action, audit.user_id, audit.created_at),
    *(audit.old_values, audit.new_values, audit.version),
)
_ERASED = audit.erased_by.is_not(None)
_ENTRY: Select[Any] = select(*_COLUMNS, _ERASED).where(audit.id == bindparam("entry_id"))
_OPERATION: Select[Any] = (
    select(*_COLUMNS, _ERASED).where(audit.operation_id == bindparam("operation_id")).order_by(audit.id)
)
_operation_of = select(audit.operation_id).where(audit.id == bindparam("entry_id")).scalar_subquery()
_COMPANIONS: Select[Any] = select(audit.resource_type, audit.resource_id).where(audit.operation_id == _operation_of)
_KINDS = select(audit.resource_type).distinct().where(audit.operation_id == bindparam("operation_id"))
_EXTENT = select(func.count(), func.min(audit.created_at)).where(audit.operation_id == bindparam("operation_id"))
# The entries that a transaction wrote follow on each other, with one time.
_newest = (
    select(audit.id, audit.created_at)
    .where(audit.operation_id == bindparam("operation_id"), audit.id < bindparam("before"))
    .order_by(audit.id.desc())
    .limit(bindparam("most"))
    .cte("newest")
)
_last_moment = select(_newest.c.created_at).order_by(_newest.c.id.desc()).limit(1).scalar_subquery()
_LAST_PART: Select[Any] = (
    select(*_COLUMNS, _ERASED)
    .where(audit.id.in_(select(_newest.c.id).where(_newest.c.created_at == _last_moment)))
    .order_by(audit.id)
)
_of_record = (audit.resource_type == bindparam("kind"), audit.resource_id == bindparam("record_id"))
_FIRST_AFTER: Select[Any] = (
    select(*_COLUMNS).where(*_of_record, audit.created_at > bindparam("moment")).order_by(audit.id).limit(1)
)
_REMOVAL_AFTER: Select[Any] = (
    select(*_COLUMNS)
    .where(*_of_record, audit.id >= bindparam("first"), audit.action == "delete", audit.new_values.is_(None))
    .order_by(audit.id)
    .limit(1)
)
# The first change of each field after a moment has its value at that moment.
_AT = text("""
    SELECT (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM (
        SELECT DISTINCT ON (key) key, old_values -> key AS value
        FROM audit_entries CROSS JOIN LATERAL jsonb_object_keys(new_values) AS key
        WHERE resource_type = :kind AND resource_id = :record_id AND id >= :first AND id < :end
          AND jsonb_typeof(old_values) = 'object'
        ORDER BY key, id
    ) AS fields),
    (SELECT count(*) FROM audit_entries
     WHERE resource_type = :kind AND resource_id = :record_id AND id >= :first AND id < :end),
    (SELECT created_at FROM audit_entries
     WHERE resource_type = :kind AND resource_id = :record_id AND id < :first ORDER BY id DESC LIMIT 1)
""")
_SET_ROLE = text("SELECT set_config('role', :role, true)")
_TAGGED = text("""
    SELECT DISTINCT tag_id FROM customer_tags
    WHERE tag_id = ANY(CAST(:ids AS bigint[])) AND live AND NOT customer_id = ANY(CAST(:own AS bigint[]))
""")
# When contacts and their deals go back to another customer, one after the other.
DEFER_CONTACTS_OF_DEALS = text("SET CONSTRAINTS deals_contact_fkey DEFERRED")
CHECK_CONTACTS_OF_DEALS = text("SET CONSTRAINTS deals_contact_fkey IMMEDIATE")
_CONTACTS_OF_OTHER_DEALS = text("""
    SELECT DISTINCT contact_id FROM deals
    WHERE contact_id = ANY(CAST(:contacts AS bigint[])) AND NOT id = ANY(CAST(:deals AS bigint[]))
""")
# By retention: entries up to this one are gone, and what was before this time can't be told any more.
_CUT: Select[Any] = select(cut.entry_id, cut.until)
LAST = 2**63 - 1


async def get_entry(tx: Transaction, entry_id: int) -> Entry | None:
    """One audit entry. Raises AppError HISTORY_CUT if it, or its values, are gone."""
    found = (await tx.connection.execute(_ENTRY, {"entry_id": entry_id})).all()
    if not found and any(entry_id <= last for last, _ in (await tx.connection.execute(_CUT)).all()):
        raise AppError(Code.HISTORY_CUT)
    return _entries(found)[0] if found else None


async def companions(tx: Transaction, entry_id: int) -> set[tuple[str, int]]:
    """The records that the operation of this entry changed."""
    return {(kind, record_id) for kind, record_id in await tx.connection.execute(_COMPANIONS, {"entry_id": entry_id})}


async def extent_of_operation(tx: Transaction, operation_id: UUID) -> tuple[int, datetime | None]:
    """How many entries an operation has, and when the first was written."""
    count, began = (await tx.connection.execute(_EXTENT, {"operation_id": operation_id})).one()
    return count, began


async def kinds_of_operation(tx: Transaction, operation_id: UUID) -> set[str]:
    """The kinds of record that an operation has changed."""
    return set((await tx.connection.execute(_KINDS, {"operation_id": operation_id})).scalars())


async def get_operation(tx: Transaction, operation_id: UUID) -> list[Entry]:
    """The entries of an operation in order. Raises AppError HISTORY_CUT if some values are gone."""
    return _entries((await tx.connection.execute(_OPERATION, {"operation_id": operation_id})).all())


async def get_last_part(tx: Transaction, operation_id: UUID, before: int, most: int) -> list[Entry]:
    """The entries of an operation that its last transaction wrote before this entry, in order; at most so many, and
    none where there is no such transaction. Raises as `get_operation`.
    """
    given = {"operation_id": operation_id, "before": before, "most": most}
    return _entries((await tx.connection.execute(_LAST_PART, given)).all())


def _entries(found: Iterable[Sequence[Any]]) -> list[Entry]:
    rows = list(found)
    if any(erased for *_, erased in rows):
        raise AppError(Code.HISTORY_CUT, "What this change was has been erased")
    return [Entry(*values) for *values, _ in rows]


async def lock_rows(tx: Transaction, kind: Resource, ids: Iterable[int]) -> dict[int, Values]:
    """The records of these ids as they are, in the trash too, locked until the transaction ends."""
    found = await tx.connection.execute(_row(kind, locked=True), {"ids": sorted(set(ids))})
    return {record_id: strict_json.decode_own(row) for record_id, row in found}


async def as_of(tx: Transaction, kind: Resource, record_id: int, moment: datetime) -> Values | None:
    """The stored values of a record at a moment; None if it was not there then.

    Raises AppError HISTORY_CUT for a moment from which the log does not reach on.
    """
    if any(moment < until for _, until in (await tx.connection.execute(_CUT)).all()):
        raise AppError(Code.HISTORY_CUT)
    record = {"kind": kind.kind, "record_id": record_id}
    present = (await tx.connection.execute(_row(kind, locked=False), {"ids": [record_id]})).all()
    state: Values | None = strict_json.decode_own(present[0][1]) if present else None
    found = (await tx.connection.execute(_FIRST_AFTER, record | {"moment": moment})).all()
    if not found:
        return state
    first = Entry(*found[0])
    if first.action == "create":
        return None
    removals = (await tx.connection.execute(_REMOVAL_AFTER, record | {"first": first.id})).all()
    end = LAST
    if removals:
        removal = Entry(*removals[0])
        end, state = removal.id, {**(removal.old or {}), "version": removal.version}
    if state is None:
        return None
    before, count, changed_at = (await tx.connection.execute(_AT, record | {"first": first.id, "end": end})).one()
    then = {"version": state["version"] - count, "updated_at": changed_at or state.get("created_at")}
    return {**state, **before, **then}


@lru_cache
def _row(kind: Resource, *, locked: bool) -> Executable:
    table = kind.table.name
    lock = " ORDER BY id FOR UPDATE" if locked else ""
    return text(f"SELECT id, to_jsonb({table}.*)::text FROM {table} WHERE id = ANY(CAST(:ids AS bigint[])){lock}")  # noqa: S608 -- our own names


async def write_back(tx: Transaction, kind: Resource, record_id: int, values: Mapping[str, Any]) -> None:
    """Give fields of a record values that they had. Raises psycopg.Error."""
    given = {"record_id": record_id, "given": strict_json.encode(values).decode()}
    await tx.connection.execute(_write_back(kind, tuple(values)), given)


async def insert_back(tx: Transaction, kind: Resource, removal: Entry) -> None:
    """Make a record anew that was deleted for good, under its id, with the version that follows the one that it had.

    Raises psycopg.Error.
    """
    back = {"tenant_id": tx.actor.tenant_id, **(removal.old or {}), "version": (removal.version or 0) + 1}
    await tx.connection.execute(_insert_back(kind, tuple(back)), {"given": strict_json.encode(back).decode()})


@lru_cache
def _write_back(kind: Resource, names: tuple[str, ...]) -> Executable:
    table = kind.table.name
    new = ", ".join(f'"{name}" = given."{name}"' for name in names)
    return text(
        f"UPDATE {table} SET {new} FROM jsonb_populate_record(CAST(NULL AS {table}), CAST(:given AS jsonb)) AS given"  # noqa: S608 -- our own names
        f" WHERE {table}.id = :record_id"
    )


@lru_cache
def _insert_back(kind: Resource, names: tuple[str, ...]) -> Executable:
    table = kind.table.name
    columns = ", ".join(f'"{name}"' for name in names)
    return text(
        f"INSERT INTO {table} ({columns}) SELECT {columns}"  # noqa: S608 -- our own names
        f" FROM jsonb_populate_record(CAST(NULL AS {table}), CAST(:given AS jsonb)) AS given"
    )


@asynccontextmanager
async def seeing_all(tx: Transaction) -> AsyncIterator[None]:
    """What is done inside sees all records of the tenant, also where the person sees its own only."""
    if tx.own_records_only:
        await tx.connection.execute(_SET_ROLE, {"role": SERVICE_ROLE})
    yield
    if tx.own_records_only:
        await tx.connection.execute(_SET_ROLE, {"role": OWN_RECORDS_ROLE})


async def added_to(
    tx: Transaction, kind: Resource, ids: Sequence[int], own: Mapping[str, set[int]], *, belongs: bool
) -> dict[int, str]:
    """By id, one kind of live record that refers to one of these records and is none of the `own` ones; or only one
    that `belongs` to it.
    """
    if kind is TAGS:
        rows = await tx.connection.execute(_TAGGED, {"ids": list(ids), "own": sorted(own.get(CUSTOMERS.kind, ()))})
        return {tag_id: CUSTOMERS.kind for (tag_id,) in rows}
    found: dict[int, str] = {}
    for child in RESOURCES:
        for column, target in references(child):
            if target is kind and (column in child.parents or not belongs):
                given = {"ids": list(ids), "own": sorted(own.get(child.kind, ()))}
                rows = await tx.connection.execute(_added(child, column), given)
                found |= {parent: child.kind for (parent,) in rows}
    return found


async def contacts_of_other_deals(tx: Transaction, contacts: Sequence[int], deals: Sequence[int]) -> set[int]:
    """Those of these contacts that deals refer to which are none of these."""
    found = await tx.connection.execute(_CONTACTS_OF_OTHER_DEALS, {"contacts": contacts, "deals": deals})
    return set(found.scalars().all())


@lru_cache
def _added(child: Resource, column: str) -> Executable:
    return text(
        f"SELECT DISTINCT {column} FROM {child.table.name} WHERE {column} = ANY(CAST(:ids AS bigint[]))"  # noqa: S608 -- our own names
        " AND deleted_at IS NULL AND NOT id = ANY(CAST(:own AS bigint[]))"
    )
