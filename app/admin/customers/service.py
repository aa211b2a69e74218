"""The rules of customers, beyond those of every record."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import BigInteger, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from app.access.permissions import Permission
from app.admin.customers import queries
from app.admin.customers.queries import CUSTOMERS
from app.admin.customers.schemas import (
    Customer,
    CustomerChange,
    CustomerCreate,
    CustomerDetail,
    Reassigned,
    Reassignment,
)
from app.db.result import RowMapping
from app.models import Tag
from app.records.transaction import Transaction
from app.web.errors import AppError, Code

TAGS = select(func.count()).where(Tag.id == any_(bindparam("tag_ids", type_=ARRAY(BigInteger))))


async def detail(tx: Transaction, customer_id: int) -> CustomerDetail:
    """The customer with its summaries. Raises AppError CUSTOMER_NOT_FOUND."""
    parameters = {"customer_id": customer_id, "timeline_of": customer_id}
    row = (await tx.connection.execute(queries.DETAIL, parameters)).one_or_none()
    if row is None:
        raise CUSTOMERS.not_found(customer_id)
    return CustomerDetail(*row)


async def create(tx: Transaction, data: CustomerCreate) -> Customer:
    """An agent's new customer belongs to the agent. Raises AppError INSUFFICIENT_PERMISSIONS or EMAIL_EXISTS."""
    stored = await CUSTOMERS.insert_returning(tx, prepare(tx, data.given()), queries.NEW)
    return Customer(*stored)


def prepare(tx: Transaction, values: dict[str, Any]) -> dict[str, Any]:
    """What is stored of a new customer with these values. Raises AppError INSUFFICIENT_PERMISSIONS."""
    if not tx.actor.can(Permission.MANAGE_ALL):
        _refuse_reassignment(tx, values.setdefault("assigned_to", tx.actor.reference))
    _check_hold(tx, values, present=False)
    return values


async def change(tx: Transaction, customer_id: int, data: CustomerChange) -> Customer:
    """Raises AppError as `apply`."""
    await apply(tx, customer_id, data)
    return await CUSTOMERS.get(tx, customer_id)


async def apply(tx: Transaction, customer_id: int, data: CustomerChange) -> bool:
    """Change a customer; returns whether anything differed.

    Raises AppError CUSTOMER_NOT_FOUND, INSUFFICIENT_PERMISSIONS, VERSION_CONFLICT or EMAIL_EXISTS.
    """
    row = await CUSTOMERS.get_for_update(tx, customer_id)
    return await CUSTOMERS.update(tx, row, prepare_change(tx, row, data.given()))


def prepare_change(tx: Transaction, row: RowMapping, values: dict[str, Any]) -> dict[str, Any]:
    """What such a change stores in the customer. Raises AppError INSUFFICIENT_PERMISSIONS."""
    if not tx.actor.can(Permission.MANAGE_ALL):
        _refuse_reassignment(tx, values.get("assigned_to", tx.actor.reference))
    _check_hold(tx, values, present=row["hold"])
    return values


async def reassign(tx: Transaction, customer_id: int, data: Reassignment) -> Reassigned:
    """Give a customer to another owner, with the open deals and activities that belong to its present owner.

    Raises AppError CUSTOMER_NOT_FOUND or VERSION_CONFLICT.
    """
    _, moved = await _hand_over(tx, customer_id, data)
    return Reassigned(await CUSTOMERS.get(tx, customer_id), **moved)


async def apply_reassignment(tx: Transaction, customer_id: int, data: Reassignment) -> bool:
    """The same; returns whether anything has another owner now."""
    changed, moved = await _hand_over(tx, customer_id, data)
    return changed or any(moved.values())


async def _hand_over(tx: Transaction, customer_id: int, data: Reassignment) -> tuple[bool, dict[str, int]]:
    """Returns whether the customer has another owner now, and how many of its deals and activities."""
    row = await CUSTOMERS.get_for_update(tx, customer_id)
    people = {"customer_id": customer_id, "present": row["assigned_to"], "next": data.assigned_to}
    changed = await CUSTOMERS.update(tx, row, {"assigned_to": data.assigned_to})
    return changed, {
        name: 0 if wanted is False else (await tx.connection.execute(statement, people)).scalar_one()
        for name, wanted, statement in (
            ("deals", data.open_deals, queries.HAND_OVER_DEALS),
            ("activities", data.open_activities, queries.HAND_OVER_ACTIVITIES),
        )
    }


async def add_tags(tx: Transaction, customer_id: int, tag_ids: Iterable[int]) -> bool:
    """Give a customer these tags as well; returns whether it lacked any.

    Raises AppError CUSTOMER_NOT_FOUND, INSUFFICIENT_PERMISSIONS, VERSION_CONFLICT or TAG_NOT_FOUND (400).
    """
    row = await CUSTOMERS.get_for_update(tx, customer_id)
    return await CUSTOMERS.update(tx, row, {"tags": sorted({*row["tags"], *tag_ids})})


async def replace_tags(tx: Transaction, customer_id: int, tag_ids: Iterable[int]) -> bool:
    """Give a customer exactly these tags; returns whether it had others. Raises AppError as `add_tags`."""
    row = await CUSTOMERS.get_for_update(tx, customer_id)
    return await CUSTOMERS.update(tx, row, {"tags": sorted(set(tag_ids))})


async def add_tag(tx: Transaction, customer_id: int, tag_id: int) -> None:
    """Raises AppError CUSTOMER_NOT_FOUND, TAG_NOT_FOUND (404), INSUFFICIENT_PERMISSIONS or VERSION_CONFLICT."""
    row = await _lock_with_tags(tx, customer_id, [tag_id])
    await CUSTOMERS.update(tx, row, {"tags": sorted({*row["tags"], tag_id})})


async def remove_tags(tx: Transaction, customer_id: int, tag_ids: Collection[int]) -> bool:
    """Take these tags off a customer; returns whether it had any of them.

    Raises AppError CUSTOMER_NOT_FOUND, TAG_NOT_FOUND (404), INSUFFICIENT_PERMISSIONS or VERSION_CONFLICT.
    """
    row = await _lock_with_tags(tx, customer_id, tag_ids)
    return await CUSTOMERS.update(tx, row, {"tags": sorted({*row["tags"]}.difference(tag_ids))})


async def _lock_with_tags(tx: Transaction, customer_id: int, tag_ids: Collection[int]) -> RowMapping:
    await CUSTOMERS.ensure_exists(tx, customer_id)
    found = await tx.connection.execute(TAGS, {"tag_ids": list(tag_ids)})
    if found.scalar_one() < len(set(tag_ids)):
        raise AppError(Code.TAG_NOT_FOUND)
    return await CUSTOMERS.get_for_update(tx, customer_id)


def _check_hold(tx: Transaction, values: Mapping[str, Any], *, present: bool) -> None:
    """Raise AppError INSUFFICIENT_PERMISSIONS if this person may not put the customer on hold, or take it off."""
    if values.get("hold", present) != present and not tx.actor.can(Permission.CONFIGURE):
        raise AppError(Code.INSUFFICIENT_PERMISSIONS, "Only admins put a customer on hold, or take it off")


def _refuse_reassignment(tx: Transaction, assigned_to: int | str | None) -> None:
    if assigned_to != tx.actor.reference:
        raise AppError(
            Code.INSUFFICIENT_PERMISSIONS, "An agent's customers are its own: assigned_to can be nobody else"
        )
