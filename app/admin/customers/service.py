"""The rules of customers, beyond those of every record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select

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
from app.models import Tag
from app.records.transaction import Transaction
from app.web.errors import AppError, Code


async def detail(tx: Transaction, customer_id: int) -> CustomerDetail:
    """The customer with its summaries. Raises AppError CUSTOMER_NOT_FOUND."""
    parameters = {"customer_id": customer_id, "timeline_of": customer_id}
    row = (await tx.connection.execute(queries.DETAIL, parameters)).one_or_none()
    if row is None:
        raise CUSTOMERS.not_found()
    return CustomerDetail(*row)


async def create(tx: Transaction, data: CustomerCreate) -> Customer:
    """An agent's new customer belongs to the agent. Raises AppError INSUFFICIENT_PERMISSIONS or EMAIL_EXISTS."""
    values = data.given()
    if not tx.actor.can(Permission.MANAGE_ALL):
        _refuse_reassignment(tx, values.setdefault("assigned_to", tx.actor.reference))
    stored = await CUSTOMERS.insert_returning(tx, values, queries.NEW)
    return Customer(*stored)


async def change(tx: Transaction, customer_id: int, data: CustomerChange) -> Customer:
    """Raises AppError CUSTOMER_NOT_FOUND, INSUFFICIENT_PERMISSIONS, VERSION_CONFLICT or EMAIL_EXISTS."""
    values = data.given()
    row = await CUSTOMERS.get_for_update(tx, customer_id)
    if not tx.actor.can(Permission.MANAGE_ALL):
        _refuse_reassignment(tx, values.get("assigned_to", tx.actor.reference))
    await CUSTOMERS.update(tx, row, values)
    return await CUSTOMERS.get(tx, customer_id)


async def reassign(tx: Transaction, customer_id: int, data: Reassignment) -> Reassigned:
    """Give a customer to another owner, with the open deals and activities that belong to its present owner.

    Raises AppError CUSTOMER_NOT_FOUND or VERSION_CONFLICT.
    """
    row = await CUSTOMERS.get_for_update(tx, customer_id)
    people = {"customer_id": customer_id, "present": row["assigned_to"], "next": data.assigned_to}
    await CUSTOMERS.update(tx, row, {"assigned_to": data.assigned_to})
    moved = {
        name: 0 if wanted is False else (await tx.connection.execute(statement, people)).scalar_one()
        for name, wanted, statement in (
            ("deals", data.open_deals, queries.HAND_OVER_DEALS),
            ("activities", data.open_activities, queries.HAND_OVER_ACTIVITIES),
        )
    }
    return Reassigned(await CUSTOMERS.get(tx, customer_id), **moved)


async def add_tags(tx: Transaction, customer_id: int, tag_ids: Iterable[int]) -> Customer:
    """Raises AppError CUSTOMER_NOT_FOUND, INSUFFICIENT_PERMISSIONS, VERSION_CONFLICT or TAG_NOT_FOUND (400)."""
    row = await CUSTOMERS.get_for_update(tx, customer_id)
    await CUSTOMERS.update(tx, row, {"tags": sorted({*row["tags"], *tag_ids})})
    return await CUSTOMERS.get(tx, customer_id)


async def replace_tags(tx: Transaction, customer_id: int, tag_ids: Iterable[int]) -> Customer:
    """Raises AppError CUSTOMER_NOT_FOUND, INSUFFICIENT_PERMISSIONS, VERSION_CONFLICT or TAG_NOT_FOUND (400)."""
    row = await CUSTOMERS.get_for_update(tx, customer_id)
    await CUSTOMERS.update(tx, row, {"tags": sorted(set(tag_ids))})
    return await CUSTOMERS.get(tx, customer_id)


async def add_tag(tx: Transaction, customer_id: int, tag_id: int) -> None:
    """Raises AppError CUSTOMER_NOT_FOUND, TAG_NOT_FOUND (404), INSUFFICIENT_PERMISSIONS or VERSION_CONFLICT."""
    row = await _lock_with_tag(tx, customer_id, tag_id)
    await CUSTOMERS.update(tx, row, {"tags": sorted({*row["tags"], tag_id})})


async def remove_tag(tx: Transaction, customer_id: int, tag_id: int) -> None:
    """Raises AppError CUSTOMER_NOT_FOUND, TAG_NOT_FOUND (404), INSUFFICIENT_PERMISSIONS or VERSION_CONFLICT."""
    row = await _lock_with_tag(tx, customer_id, tag_id)
    await CUSTOMERS.update(tx, row, {"tags": sorted({*row["tags"]} - {tag_id})})


async def _lock_with_tag(tx: Transaction, customer_id: int, tag_id: int) -> Any:
    await CUSTOMERS.ensure_exists(tx, customer_id)
    if (await tx.connection.execute(select(Tag.id).where(Tag.id == tag_id))).one_or_none() is None:
        raise AppError(Code.TAG_NOT_FOUND)
    return await CUSTOMERS.get_for_update(tx, customer_id)


def _refuse_reassignment(tx: Transaction, assigned_to: int | str | None) -> None:
    if assigned_to != tx.actor.reference:
        raise AppError(
            Code.INSUFFICIENT_PERMISSIONS, "An agent's customers are its own: assigned_to can be nobody else"
        )
