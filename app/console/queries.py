"""Columns that the console shows beside a record: a customer's primary contact, and the person in a record."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, bindparam, select

from app.admin.activities import queries as activities
from app.admin.contacts import queries as contacts
from app.admin.contacts.schemas import Contact
from app.admin.customers import queries as customers
from app.admin.notes import queries as notes
from app.admin.users import queries as users
from app.admin.users.schemas import User
from app.models import User as UserRow
from app.records.json_columns import JsonColumn, labelled, nested_row, selected
from app.records.transaction import Transaction


def _person(reference: ColumnElement[Any]) -> JsonColumn:
    """The person whom a column of another table names, where that person was ever seen."""
    return nested_row(select(*labelled(users.COLUMNS)).where(users.c.id == reference).correlate_except(UserRow), User)


CUSTOMERS_WITH_PRIMARY_CONTACT = customers.LISTING.with_column(customers.PRIMARY_CONTACT)
ACTIVITIES_WITH_OWNER = activities.LISTING.with_column(_person(activities.c.assigned_to))
NOTES_WITH_AUTHOR = notes.LISTING.with_column(_person(notes.c.author_id))

_PERSON = select(*selected(users.COLUMNS)).where(users.c.id == bindparam("user_id", type_=users.c.id.type))
_PRIMARY_CONTACT = select(*selected(contacts.COLUMNS)).where(
    contacts.c.customer_id == bindparam("customer_id"), contacts.c.is_primary, contacts.c.deleted_at.is_(None)
)


async def find_person(tx: Transaction, user_id: int | str) -> User | None:
    """A person, if ever seen."""
    row = (await tx.connection.execute(_PERSON, {"user_id": user_id})).one_or_none()
    return None if row is None else User(*row)


async def find_primary_contact(tx: Transaction, customer_id: int) -> Contact | None:
    """A customer's primary contact, if it has one."""
    row = (await tx.connection.execute(_PRIMARY_CONTACT, {"customer_id": customer_id})).one_or_none()
    return None if row is None else Contact(*row)
