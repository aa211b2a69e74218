"""The rules of contacts, beyond those of every record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from app.admin.contacts.queries import CONTACTS
from app.admin.contacts.schemas import Contact, ContactChange, ContactCreate
from app.admin.customers.queries import CUSTOMERS
from app.db.result import RowMapping
from app.models import Contact as Row
from app.models import Deal
from app.records.transaction import Transaction
from app.web.errors import AppError, Code, Fault, invalid
from app.web.text import is_visible

c = Row.__table__.c
NAMES = ("first_name", "last_name")
UNNAMED = "is required: a contact has a first or a last name with at least one visible character"


async def create(tx: Transaction, customer_id: int, data: ContactCreate) -> Contact:
    """Add a contact to a customer.

    Raises AppError CUSTOMER_NOT_FOUND, INSUFFICIENT_PERMISSIONS, or 400 without a name.
    """
    values = prepare(data.given())
    _same_customer(values, customer_id)
    # Who makes a contact primary locks the customer first, so that two requests do it one after the other.
    await CUSTOMERS.lock_parent(tx, customer_id)
    await CUSTOMERS.ensure_own(tx, customer_id)
    if values.get("is_primary"):
        await _unmake_primary(tx, customer_id)
    return await CONTACTS.get(tx, await CONTACTS.insert(tx, values | {"customer_id": customer_id}))


def prepare(values: dict[str, Any]) -> dict[str, Any]:
    """What is stored of a new contact with these values. Raises AppError 400 without a name."""
    return _named(values, {"first_name": "", "last_name": None})


async def change(tx: Transaction, contact_id: int, data: ContactChange) -> Contact:
    """Raises AppError as `apply`."""
    await apply(tx, contact_id, data)
    return await CONTACTS.get(tx, contact_id)


async def apply(tx: Transaction, contact_id: int, data: ContactChange) -> bool:
    """Change a contact; returns whether anything differed.

    Raises AppError CONTACT_NOT_FOUND, INSUFFICIENT_PERMISSIONS, VERSION_CONFLICT, or 400 without a name.
    """
    values = data.given()
    if values.get("is_primary"):
        await CUSTOMERS.lock_parent(tx, (await CONTACTS.get(tx, contact_id)).customer_id)
    row = await CONTACTS.get_for_update(tx, contact_id)
    values = prepare_change(row, values)
    if values.get("is_primary") and not row["is_primary"]:
        await _unmake_primary(tx, row["customer_id"])
    return await CONTACTS.update(tx, row, values)


def prepare_change(row: RowMapping, values: dict[str, Any]) -> dict[str, Any]:
    """What such a change stores in the contact. Raises AppError 400 without a name, or for another customer."""
    values = _named(values, row)
    _same_customer(values, row["customer_id"])
    return values


async def trash(tx: Transaction, contact_id: int, at: datetime | None = None) -> None:
    """Raises AppError CONTACT_NOT_FOUND, VERSION_CONFLICT or CONTACT_HAS_DEALS."""
    row = await CONTACTS.get_for_update(tx, contact_id)
    deal = Deal.__table__.c
    referring = select(deal.id).where(deal.contact_id == contact_id, deal.deleted_at.is_(None)).order_by(deal.id)
    ids = (await tx.connection.execute(referring.limit(20))).scalars().all()
    if ids:
        raise AppError(Code.CONTACT_HAS_DEALS, data={"deal_ids": list(ids)})
    await CONTACTS.trash_row(tx, row, at)


async def restore(tx: Transaction, contact_id: int) -> Contact:
    """Restore a contact. It is not primary any more if there is another primary contact by now.

    Raises AppError CONTACT_NOT_FOUND, NOT_DELETED or PARENT_DELETED.
    """
    row = await CONTACTS.get_trashed_for_update(tx, contact_id)
    changes: dict[str, Any] = {}
    if row["is_primary"]:
        await CUSTOMERS.lock_parent_for_restore(tx, row["customer_id"])
        if (await tx.connection.execute(select(c.id).where(*_primary(row["customer_id"])))).first():
            changes["is_primary"] = False
    await CONTACTS.restore_row(tx, row, changes)
    return await CONTACTS.get(tx, contact_id)


def _primary(customer_id: int) -> tuple[Any, ...]:
    return c.customer_id == customer_id, c.is_primary, c.deleted_at.is_(None)


async def _unmake_primary(tx: Transaction, customer_id: int) -> None:
    await tx.connection.execute(update(Row).where(*_primary(customer_id)).values(is_primary=False))


def _named(values: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The values, with an empty first name instead of null. Raises AppError if there is no name at all."""
    if "first_name" in values:
        values = values | {"first_name": values["first_name"] or ""}
    after = dict(before) | values
    if not any(is_visible(after[name] or "") for name in NAMES):
        raise invalid(*(Fault(name, UNNAMED) for name in NAMES))
    return values


def _same_customer(values: dict[str, Any], customer_id: int) -> None:
    if values.pop("customer_id", customer_id) != customer_id:
        raise invalid(Fault("customer_id", "must be the customer that the contact belongs to; it can't be moved"))
