"""The rules of notes. A note belongs to its author: other agents may not change or delete it."""

from __future__ import annotations

from typing import Any

from app.admin.customers.queries import CUSTOMERS
from app.admin.deals.queries import DEALS
from app.admin.notes.queries import NOTES
from app.admin.notes.schemas import Note, NoteChange, NoteCreate
from app.admin.projects.queries import PROJECTS
from app.db.result import RowMapping
from app.records.repository import differing
from app.records.transaction import Transaction
from app.web.errors import Code, Fault, bad_field, invalid

LINKS = ("customer_id", "deal_id", "activity_id", "project_id")


async def create(tx: Transaction, data: NoteCreate) -> Note:
    """Raises AppError MISSING_LINK, or 400 for a reference."""
    return await _create(tx, data.given())


async def create_for_customer(tx: Transaction, customer_id: int, data: NoteCreate) -> Note:
    """Raises AppError CUSTOMER_NOT_FOUND, or 400 for a reference."""
    await CUSTOMERS.ensure_exists(tx, customer_id)
    return await _create(tx, _linked(data.given(), "customer_id", customer_id))


async def create_for_deal(tx: Transaction, deal_id: int, data: NoteCreate) -> Note:
    """Raises AppError DEAL_NOT_FOUND, or 400 for a reference."""
    await DEALS.ensure_exists(tx, deal_id)
    return await _create(tx, _linked(data.given(), "deal_id", deal_id))


async def create_for_project(tx: Transaction, project_id: int, data: NoteCreate) -> Note:
    """Raises AppError PROJECT_NOT_FOUND, or 400 for a reference."""
    await PROJECTS.ensure_exists(tx, project_id)
    return await _create(tx, _linked(data.given(), "project_id", project_id))


async def change(tx: Transaction, note_id: int, data: NoteChange) -> Note:
    """Raises AppError as `apply`."""
    await apply(tx, note_id, data)
    return await NOTES.get(tx, note_id)


async def apply(tx: Transaction, note_id: int, data: NoteChange) -> bool:
    """Change a note; returns whether anything differed.

    Raises AppError NOTE_NOT_FOUND, INSUFFICIENT_PERMISSIONS, VERSION_CONFLICT, or as `create`.
    """
    row = await NOTES.get_for_update(tx, note_id)
    values = prepare_change(row, data.given())
    await NOTES.check_references(tx, differing(row, values))
    return await NOTES.update(tx, row, values)


def prepare(tx: Transaction, values: dict[str, Any]) -> dict[str, Any]:
    """What is stored of a new note with these values. Raises AppError MISSING_LINK."""
    _require_link(values)
    return values | {"author_id": tx.actor.user_id, "author_name": tx.actor.name or tx.actor.email}


def prepare_change(row: RowMapping, values: dict[str, Any]) -> dict[str, Any]:
    """What such a change stores in the note. Raises AppError MISSING_LINK."""
    _require_link(dict(row) | values)
    return values


async def _create(tx: Transaction, values: dict[str, Any]) -> Note:
    return await NOTES.create(tx, prepare(tx, values))


def _linked(values: dict[str, Any], name: str, record_id: int) -> dict[str, Any]:
    if values.get(name, record_id) != record_id:
        raise invalid(Fault(name, "must be the one in the path"))
    return values | {name: record_id}


def _require_link(values: dict[str, Any]) -> None:
    if all(values.get(name) is None for name in LINKS):
        raise bad_field(Code.MISSING_LINK, "customer_id")
