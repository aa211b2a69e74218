"""What can be done with contacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update

from app.admin.contacts import queries
from app.admin.contacts.schemas import Contact, ContactChange, ContactCreate
from app.db.transaction import Transaction
from app.models import Contact as Row
from app.models import Customer, Deal
from app.records.records import Records
from app.web.errors import AppError, Code, Fault, invalid
from app.web.text import is_visible

RECORDS = Records(Row, Code.CONTACT_NOT_FOUND, owned=True)
CUSTOMERS = Records(Customer, Code.CUSTOMER_NOT_FOUND, owned=True)
c = Row.__table__.c
NAMES = ("first_name", "last_name")
UNNAMED = "is required: a contact has a first or a last name with at least one visible character"


async def get(tx: Transaction, contact_id: int) -> Contact:
    """Raises AppError CONTACT_NOT_FOUND."""
    row = (await tx.connection.execute(queries.ONE, {"contact_id": contact_id})).one_or_none()
    if row is None:
        raise AppError(Code.CONTACT_NOT_FOUND)
    return Contact(*row)


async def primary_of(tx: Transaction, customer_id: int) -> Contact | None:
    """A customer's primary contact."""
    row = (await tx.connection.execute(queries.PRIMARY, {"customer_id": customer_id})).one_or_none()
    return None if row is None else Contact(*row)


async def create(tx: Transaction, customer_id: int, data: ContactCreate) -> Contact:
    """For an own customer. Raises AppError CUSTOMER_NOT_FOUND, INSUFFICIENT_PERMISSIONS or 400 without a name."""
    values = _named(data.given(), {"first_name": "", "last_name": None})
    _same_customer(values, customer_id)
    # Whoever makes a contact primary holds the customer, so that two at once follow each other.
    await CUSTOMERS.hold(tx, customer_id)
    if values.get("is_primary"):
        await _unmake_primary(tx, customer_id)
    return await get(tx, await RECORDS.insert(tx, values | {"customer_id": customer_id}))


async def change(tx: Transaction, contact_id: int, data: ContactChange) -> Contact:
    """Raises AppError CONTACT_NOT_FOUND, INSUFFICIENT_PERMISSIONS or VERSION_CONFLICT."""
    values = data.given()
    if values.get("is_primary"):
        await CUSTOMERS.hold(tx, (await get(tx, contact_id)).customer_id, own=False)
    row = await RECORDS.lock(tx, contact_id)
    values = _named(values, dict(row))
    _same_customer(values, row["customer_id"])
    if values.get("is_primary") and not row["is_primary"]:
        await _unmake_primary(tx, row["customer_id"])
    await RECORDS.update(tx, row, values)
    return await get(tx, contact_id)


async def trash(tx: Transaction, contact_id: int) -> None:
    """Raises AppError CONTACT_NOT_FOUND, VERSION_CONFLICT or CONTACT_HAS_DEALS."""
    row = await RECORDS.lock(tx, contact_id)
    deal = Deal.__table__.c
    referring = select(deal.id).where(deal.contact_id == contact_id, deal.deleted_at.is_(None)).order_by(deal.id)
    ids = (await tx.connection.execute(referring.limit(20))).scalars().all()
    if ids:
        raise AppError(Code.CONTACT_HAS_DEALS, data={"deal_ids": list(ids)})
    await RECORDS.trash(tx, row)


async def restore(tx: Transaction, contact_id: int) -> Contact:
    """A primary contact comes back as an ordinary one where there is another by now.

    Raises AppError CONTACT_NOT_FOUND, NOT_DELETED or PARENT_DELETED.
    """
    row = await RECORDS.lock_trashed(tx, contact_id)
    changes: dict[str, Any] = {}
    if row["is_primary"]:
        await CUSTOMERS.hold_parent(tx, row["customer_id"])
        if (await tx.connection.execute(select(c.id).where(*_primary(row["customer_id"])))).first():
            changes["is_primary"] = False
    await RECORDS.restore(tx, row, changes)
    return await get(tx, contact_id)


def _primary(customer_id: int) -> tuple[Any, ...]:
    return c.customer_id == customer_id, c.is_primary, c.deleted_at.is_(None)


async def _unmake_primary(tx: Transaction, customer_id: int) -> None:
    await tx.connection.execute(update(Row).where(*_primary(customer_id)).values(is_primary=False))


def _named(values: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The values with a first name that is empty where there is none. Raises AppError where there is no name at all."""
    if "first_name" in values:
        values = values | {"first_name": values["first_name"] or ""}
    after = dict(before) | values
    if not any(is_visible(after[name] or "") for name in NAMES):
        raise invalid(*(Fault(name, UNNAMED) for name in NAMES))
    return values


def _same_customer(values: dict[str, Any], customer_id: int) -> None:
    if values.pop("customer_id", customer_id) != customer_id:
        raise invalid(Fault("customer_id", "must be the customer that the contact belongs to; it can't be moved"))
