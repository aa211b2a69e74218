"""What can be imported: for each kind, the rules that its requests follow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import Executable, Text, any_, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from app.admin.activities import service as activities
from app.admin.activities.queries import ACTIVITIES
from app.admin.activities.schemas import ActivityChange, ActivityCreate
from app.admin.contacts import service as contacts
from app.admin.contacts.queries import CONTACTS
from app.admin.contacts.schemas import ContactChange, ContactCreate
from app.admin.customers import service as customers
from app.admin.customers.queries import CUSTOMERS
from app.admin.customers.schemas import CustomerChange, CustomerCreate
from app.admin.deals import service as deals
from app.admin.deals.queries import DEALS
from app.admin.deals.schemas import DealChange, DealCreate
from app.admin.notes import service as notes
from app.admin.notes.queries import NOTES
from app.admin.notes.schemas import NoteChange, NoteCreate
from app.admin.projects import service as projects
from app.admin.projects.queries import PROJECTS
from app.admin.projects.schemas import ProjectCreate, ProjectFields
from app.db.result import RowMapping
from app.db.statements import unprepared
from app.models import Mergeable
from app.records.calendar import Zone
from app.records.transaction import Transaction
from app.records.trash_repository import TrashRepository
from app.settings import Settings
from app.web.errors import Fault, invalid
from app.web.structs import Body

Values: TypeAlias = dict[str, Any]
# Fields that say whose a record is.
OWNERS = ("assigned_to", "owner_id")
PEOPLE = (*OWNERS, "assignees")


class Batch:
    """Some rows of an import that are looked at in one transaction, with what they all need to know."""

    def __init__(self, tx: Transaction, settings: Settings, *, take_overdue: bool) -> None:
        self.tx = tx
        self.take_overdue = take_overdue
        self.zone = Zone(tx)
        self.pipeline = deals.Pipeline(tx)
        self.rollback_roles = settings.rollback_roles


class Kind(NamedTuple):
    """A kind of record that can be imported.

    `prepare` and `prepare_change` say what is stored of values that its bodies `create` and `change` have read; they
    are the services' own. `of_email` finds the live records with emails, folded as they are compared; where
    `email_is_key`, there is one at most.
    """

    repository: TrashRepository[Any]
    create: type[Body]
    change: type[Body]
    prepare: Callable[[Batch, Values], Awaitable[Values]]
    prepare_change: Callable[[Batch, RowMapping, Values], Awaitable[Values]]
    of_email: Executable | None = None
    email_is_key: bool = False
    tagged: bool = False

    @property
    def of_external_id(self) -> Executable:
        """Finds the live records with these external ids."""
        return OF_EXTERNAL_ID[self.repository.resource.kind]

    @property
    def of_customers(self) -> bool:
        """Whether its records belong to customers."""
        return "customer_id" in self.create.__struct_fields__


async def _customer(batch: Batch, values: Values) -> Values:
    return customers.prepare(batch.tx, values)


async def _customer_change(batch: Batch, row: RowMapping, values: Values) -> Values:
    return customers.prepare_change(batch.tx, row, values)


async def _contact(_: Batch, values: Values) -> Values:
    if values.get("customer_id") is None:  # a request has it in its path
        raise invalid(Fault("customer_id", "is required: whose contact is it?"))
    return contacts.prepare(values)


async def _contact_change(_: Batch, row: RowMapping, values: Values) -> Values:
    return contacts.prepare_change(row, values)


async def _deal(batch: Batch, values: Values) -> Values:
    return await deals.prepare(batch.tx, values, batch.pipeline)


async def _deal_change(batch: Batch, row: RowMapping, values: Values) -> Values:
    return await deals.prepare_change(batch.tx, row, values, batch.pipeline, batch.rollback_roles)


async def _project(batch: Batch, values: Values) -> Values:
    return await projects.prepare(batch.tx, values, batch.zone)


async def _project_change(batch: Batch, row: RowMapping, values: Values) -> Values:
    return await projects.prepare_change(batch.tx, row, values, batch.zone)


async def _activity(batch: Batch, values: Values) -> Values:
    return await activities.prepare(batch.tx, values, batch.zone, late=batch.take_overdue)


async def _activity_change(batch: Batch, row: RowMapping, values: Values) -> Values:
    return await activities.prepare_change(batch.tx, row, values, batch.zone, late=batch.take_overdue)


async def _note(batch: Batch, values: Values) -> Values:
    return notes.prepare(batch.tx, values)


async def _note_change(_: Batch, row: RowMapping, values: Values) -> Values:
    return notes.prepare_change(row, values)


# Both answer emails in the form that is compared, and the ids of the live records that have them. It is one search for
# all: one for each would be slow while the database thinks the table to be small. It is planned for its keys, because
# only then does a server that reads all records look each of them up in a hash of the keys.
CUSTOMERS_OF_EMAIL = unprepared(
    text("""
        SELECT email_folded, id FROM customers WHERE email_folded = ANY(CAST(:wanted AS text[])) AND deleted_at IS NULL
    """)
)
CONTACTS_OF_EMAIL = text("SELECT email, id FROM crm_find_contacts(CAST(:wanted AS text[])) ORDER BY id")
KINDS: Mapping[str, Kind] = {
    "customers": Kind(
        *(CUSTOMERS, CustomerCreate, CustomerChange, _customer, _customer_change),
        of_email=CUSTOMERS_OF_EMAIL,
        email_is_key=True,
        tagged=True,
    ),
    "contacts": Kind(*(CONTACTS, ContactCreate, ContactChange, _contact, _contact_change), of_email=CONTACTS_OF_EMAIL),
    "deals": Kind(DEALS, DealCreate, DealChange, _deal, _deal_change),
    "projects": Kind(PROJECTS, ProjectCreate, ProjectFields, _project, _project_change),
    "activities": Kind(ACTIVITIES, ActivityCreate, ActivityChange, _activity, _activity_change),
    "notes": Kind(NOTES, NoteCreate, NoteChange, _note, _note_change),
}


def _of_external_id(repository: TrashRepository[Any]) -> Executable:
    c = repository.resource.table.c
    wanted = any_(bindparam("wanted", type_=ARRAY(Text)))
    return unprepared(select(c.external_id, c.id).where(c.external_id == wanted, c.deleted_at.is_(None)))


def _of_merged(repository: TrashRepository[Any]) -> Executable:
    merged, kept = repository.resource.table.c, repository.resource.table.alias("kept").c
    wanted = any_(bindparam("wanted", type_=ARRAY(Text)))
    return unprepared(
        select(merged.external_id, kept.id).where(
            merged.external_id == wanted,
            merged.deleted_at.is_not(None),
            kept.id == merged.merged_into,
            kept.deleted_at.is_(None),
        )
    )


# By the external_id of a record that was merged into another one, that one.
OF_MERGED = {
    kind.repository.resource.kind: _of_merged(kind.repository)
    for kind in KINDS.values()
    if issubclass(kind.repository.resource.model, Mergeable)
}
OF_EXTERNAL_ID = {kind.repository.resource.kind: _of_external_id(kind.repository) for kind in KINDS.values()}
