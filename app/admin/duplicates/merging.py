"""Merging: what belongs to the others comes over, empty fields are filled, and the others go to the trash.

The order matters to an undo, which goes backwards: it first takes the fields back, then restores the others, and then
moves to them what was theirs: contacts before their deals and activities, which name them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import UNSET
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Select,
    any_,
    bindparam,
    case,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.admin.contacts.queries import CONTACTS
from app.admin.contacts.schemas import Contact
from app.admin.customers.queries import CUSTOMERS
from app.admin.customers.schemas import Customer
from app.admin.duplicates.finding import forget
from app.admin.duplicates.schemas import Merge
from app.db.result import RowMapping
from app.models import Contact as Contacts
from app.records.history import CHECK_CONTACTS_OF_DEALS, DEFER_CONTACTS_OF_DEALS
from app.records.repository import Repository
from app.records.resources import RESOURCES, Resource, references
from app.records.transaction import Transaction
from app.web.errors import AppError, Code, Fault, bad_field, invalid

# One transaction moves them, and an undo takes them back.
MOST_MOVED = 5000

_kept: ColumnElement[int] = bindparam("kept", type_=BigInteger)
_ids: ColumnElement[Any] = bindparam("ids", type_=ARRAY(BigInteger))
contact = Contacts.__table__.c


class Kind(NamedTuple):
    """What can be merged, and the fields that take a value of another one."""

    repository: Repository[Any]
    fields: tuple[str, ...]


OF_CUSTOMERS = Kind(
    CUSTOMERS,
    (
        *("name", "email", "phone", "company", "role", "kind", "industry", "website", "status", "assigned_to"),
        *("contacted", "next_follow_up_at", "contact_preferences", "notes", "external_id"),
    ),
)
OF_CONTACTS = Kind(CONTACTS, ("first_name", "last_name", "email", "phone", "position", "notes", "external_id"))
# The contact that stays the primary one: the kept customer's, else the first one of the others'.
PRIMARY: Select[Any] = (
    select(contact.id)
    .where(
        or_(contact.customer_id == _kept, contact.customer_id == any_(_ids)),
        contact.is_primary,
        contact.deleted_at.is_(None),
    )
    .order_by(contact.customer_id != _kept, func.array_position(_ids, contact.customer_id))
    .limit(1)
)
MOVE_CONTACTS = (
    update(Contacts)
    .where(contact.customer_id == any_(_ids))
    .values(
        customer_id=_kept,
        # Those in the trash are looked at when they come back.
        is_primary=case(
            (contact.deleted_at.is_(None), contact.is_primary & (contact.id == bindparam("primary"))),
            else_=contact.is_primary,
        ),
    )
)


async def merge_customers(tx: Transaction, customer_id: int, data: Merge) -> Customer:
    """Merge customers into this one.

    Raises AppError: CUSTOMER_NOT_FOUND, MERGED, VERSION_CONFLICT, INVALID_REQUEST, ON_HOLD, TOO_MANY_RECORDS.
    """
    kept, others = await _lock(tx, OF_CUSTOMERS, customer_id, data)
    values = _taken(OF_CUSTOMERS, kept, others, data)
    values["tags"] = sorted({tag for row in (kept, *others) for tag in row["tags"]})
    ids = [row["id"] for row in others]
    await _lock_below(tx, OF_CUSTOMERS.repository.resource, ids)
    given = {"kept": customer_id, "ids": ids}
    primary = (await tx.connection.execute(PRIMARY, given)).scalar_one_or_none()
    await tx.connection.execute(DEFER_CONTACTS_OF_DEALS)
    for child, column in _below(OF_CUSTOMERS.repository.resource):
        if child is CONTACTS.resource:
            await tx.connection.execute(MOVE_CONTACTS, given | {"primary": primary or 0})
        else:
            await tx.connection.execute(_move(child, column), given)
    await tx.connection.execute(CHECK_CONTACTS_OF_DEALS)
    await _into_trash(tx, OF_CUSTOMERS, given)
    await _keep(tx, OF_CUSTOMERS, kept, values, ids)
    return await CUSTOMERS.get(tx, customer_id)


async def merge_contacts(tx: Transaction, contact_id: int, data: Merge) -> Contact:
    """Merge contacts into this one.

    Raises AppError: CONTACT_NOT_FOUND, MERGED, VERSION_CONFLICT, INVALID_REQUEST, DIFFERENT_CUSTOMERS, ON_HOLD,
    TOO_MANY_RECORDS.
    """
    kept, others = await _lock(tx, OF_CONTACTS, contact_id, data)
    values = _taken(OF_CONTACTS, kept, others, data)
    ids = [row["id"] for row in others]
    named = await _lock_below(tx, OF_CONTACTS.repository.resource, ids)
    elsewhere = [row["id"] for row in others if row["customer_id"] != kept["customer_id"]]
    if refused := sorted(named.intersection(elsewhere)):
        raise AppError(Code.DIFFERENT_CUSTOMERS, data={"contact_ids": refused})
    if any(row["is_primary"] and row["customer_id"] == kept["customer_id"] for row in others):
        values["is_primary"] = True
    given = {"kept": contact_id, "ids": ids}
    for child, column in _below(OF_CONTACTS.repository.resource):
        await tx.connection.execute(_move(child, column), given)
    await _into_trash(tx, OF_CONTACTS, given)
    await _keep(tx, OF_CONTACTS, kept, values, ids)
    return await CONTACTS.get(tx, contact_id)


# ── the steps ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _lock(tx: Transaction, kind: Kind, record_id: int, data: Merge) -> tuple[RowMapping, list[RowMapping]]:
    """The record and the others, in the order in which the client named them. Raises AppError."""
    repository, ids = kind.repository, list(dict.fromkeys(data.from_))
    rows = {row["id"]: row for row in (await tx.connection.execute(_rows(kind), {"ids": [record_id, *ids]})).mappings()}
    kept = await repository.get_for_update(tx, record_id)
    if record_id in ids:
        raise invalid(Fault("from", "must name other records than the one that they are merged into"))
    if missing := [other for other in ids if other not in rows]:
        message = f"has {', '.join(map(str, missing))}, which is not there"
        raise bad_field(repository.resource.not_found, "from", message)
    return kept, [rows[other] for other in ids]


def _taken(kind: Kind, kept: RowMapping, others: Sequence[RowMapping], data: Merge) -> dict[str, Any]:
    """What the kept record takes from the others. Raises AppError, a 400, for a choice that there is not."""
    rows = {f"from:{row['id']}": row for row in others}
    chosen: Mapping[str, str] = {} if data.fields is UNSET else data.fields
    faults = []
    for name, choice in chosen.items():
        if name not in kind.fields:
            faults.append(Fault(f"fields.{name}", f"must be one of {', '.join(kind.fields)}"))
        elif choice not in rows:
            faults.append(Fault(f"fields.{name}", f"must be one of {', '.join(rows)}"))
    if faults:
        raise invalid(*faults)
    taken = {name: rows[choice][name] for name, choice in chosen.items()}
    for name in kind.fields:
        if name not in taken and _is_empty(kept[name]):
            taken[name] = next((row[name] for row in others if not _is_empty(row[name])), kept[name])
    return taken


def _is_empty(value: Any) -> bool:
    return value is None or value == ""


async def _lock_below(tx: Transaction, resource: Resource, ids: Sequence[int]) -> set[int]:
    """Lock what refers to these, in the order of locking; returns those that something refers to.

    Raises AppError TOO_MANY_RECORDS.
    """
    named: set[int] = set()
    count = 0
    for child, column in reversed([*_below(resource)]):
        found = (await tx.connection.execute(_lock_referring(child, column), {"ids": ids})).scalars().all()
        named |= set(found)
        count += len(found)
        if count > MOST_MOVED:
            message = f"More than {MOST_MOVED} records belong to these: merge fewer at once"
            raise AppError(Code.TOO_MANY_RECORDS, message, data={"max": MOST_MOVED})
    return named


async def _into_trash(tx: Transaction, kind: Kind, given: Mapping[str, Any]) -> None:
    """Put the others into the trash. They say first what they were merged into: so the log has it with their deletion,
    where an erasure of the kept one looks for them.
    """
    for statement in _trashing(kind):
        await tx.connection.execute(statement, given)


async def _keep(tx: Transaction, kind: Kind, kept: RowMapping, values: Mapping[str, Any], ids: Sequence[int]) -> None:
    merged = sorted({*(kept["merged_ids"] or ()), *ids})
    await kind.repository.update(tx, kept, {**values, "merged_ids": merged})
    await forget(tx.connection, str(kind.repository.resource.table.name), ids)


# ── statements ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _below(resource: Resource) -> Iterator[tuple[Resource, str]]:
    """What refers to records of this kind: against the order of locking."""
    for child in reversed(RESOURCES):
        for column, target in references(child):
            if target is resource:
                yield child, column


@lru_cache
def _rows(kind: Kind) -> Executable:
    table = kind.repository.resource.table
    stored = [column for column in table.columns if column.computed is None]
    these = select(*stored).where(table.c.id == any_(_ids), table.c.deleted_at.is_(None))
    return these.order_by(table.c.id).with_for_update()


@lru_cache
def _lock_referring(child: Resource, column: str) -> Executable:
    table = child.table
    referring = select(table.c[column]).where(table.c[column] == any_(_ids))
    return referring.order_by(table.c.id).limit(MOST_MOVED + 1).with_for_update()


@lru_cache
def _move(child: Resource, column: str) -> Executable:
    return update(child.table).where(child.table.c[column] == any_(_ids)).values({column: _kept})


@lru_cache
def _trashing(kind: Kind) -> tuple[Executable, Executable]:
    table = kind.repository.resource.table
    # Those that were merged into the others before, too.
    of_others = or_(table.c.id == any_(_ids), table.c.merged_into == any_(_ids))
    return (
        update(table).where(of_others).values(merged_into=_kept),
        update(table).where(table.c.id == any_(_ids)).values(deleted_at=func.clock_timestamp()),
    )
