"""What can be done with notes. A note belongs to its author, who alone of all agents may change or delete it."""

from __future__ import annotations

from typing import Any

from app.admin.notes import queries
from app.admin.notes.schemas import Note, NoteChange, NoteCreate
from app.db.transaction import Transaction
from app.models import Customer, Deal
from app.models import Note as Row
from app.records.records import Records
from app.web.errors import AppError, Code, Fault, bad_field, invalid

RECORDS = Records(Row, Code.NOTE_NOT_FOUND, owned=True)
CUSTOMERS = Records(Customer, Code.CUSTOMER_NOT_FOUND, owned=True)
DEALS = Records(Deal, Code.DEAL_NOT_FOUND, owned=True)
LINKS = ("customer_id", "deal_id", "activity_id")


async def get(tx: Transaction, note_id: int) -> Note:
    """Raises AppError NOTE_NOT_FOUND."""
    row = (await tx.connection.execute(queries.ONE, {"note_id": note_id})).one_or_none()
    if row is None:
        raise AppError(Code.NOTE_NOT_FOUND)
    return Note(*row)


async def create(tx: Transaction, data: NoteCreate) -> Note:
    """Raises AppError MISSING_LINK, or 400 for a reference."""
    return await _create(tx, data.given())


async def create_for_customer(tx: Transaction, customer_id: int, data: NoteCreate) -> Note:
    """Raises AppError CUSTOMER_NOT_FOUND, or 400 for a reference."""
    await CUSTOMERS.require(tx, customer_id)
    return await _create(tx, _linked(data.given(), "customer_id", customer_id))


async def create_for_deal(tx: Transaction, deal_id: int, data: NoteCreate) -> Note:
    """Raises AppError DEAL_NOT_FOUND, or 400 for a reference."""
    await DEALS.require(tx, deal_id)
    return await _create(tx, _linked(data.given(), "deal_id", deal_id))


async def change(tx: Transaction, note_id: int, data: NoteChange) -> Note:
    """Raises AppError NOTE_NOT_FOUND, INSUFFICIENT_PERMISSIONS, VERSION_CONFLICT, or as `create`."""
    row = await RECORDS.lock(tx, note_id)
    values = data.given()
    _require_link(dict(row) | values)
    await RECORDS.check_references(tx, {name: value for name, value in values.items() if row[name] != value})
    await RECORDS.update(tx, row, values)
    return await get(tx, note_id)


async def trash(tx: Transaction, note_id: int) -> None:
    """Raises AppError NOTE_NOT_FOUND, INSUFFICIENT_PERMISSIONS or VERSION_CONFLICT."""
    await RECORDS.trash(tx, await RECORDS.lock(tx, note_id))


async def restore(tx: Transaction, note_id: int) -> Note:
    """Raises AppError NOTE_NOT_FOUND, NOT_DELETED or PARENT_DELETED."""
    await RECORDS.restore(tx, await RECORDS.lock_trashed(tx, note_id))
    return await get(tx, note_id)


async def _create(tx: Transaction, values: dict[str, Any]) -> Note:
    _require_link(values)
    await RECORDS.check_references(tx, values)
    author = {"author_id": tx.actor.user_id, "author_name": tx.actor.name or tx.actor.email}
    return await get(tx, await RECORDS.insert(tx, values | author))


def _linked(values: dict[str, Any], name: str, record_id: int) -> dict[str, Any]:
    if values.get(name, record_id) != record_id:
        raise invalid(Fault(name, "must be the one in the path"))
    return values | {name: record_id}


def _require_link(values: dict[str, Any]) -> None:
    if all(values.get(name) is None for name in LINKS):
        raise bad_field(Code.MISSING_LINK, "customer_id", "A note must belong to a customer, a deal or an activity")
