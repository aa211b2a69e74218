"""Contacts as the database reads them."""

from __future__ import annotations

from sqlalchemy import ScalarSelect, case, select

from app.admin.contacts.schemas import Contact, ContactQuery, CustomerContactQuery
from app.models import Contact as Row
from app.models import Customer
from app.records import resources
from app.records.filters import external_id_in, found_in, one_of, through, user_in
from app.records.json_columns import view_columns
from app.records.listing import Listing
from app.records.transaction import Transaction
from app.records.trash_repository import TrashRepository
from app.web.errors import Code, bad_field
from app.web.paging import SortOrder

c = Row.__table__.c
customer = Customer.__table__.c

COLUMNS = view_columns(Contact, Row.__table__)
CONTACTS = TrashRepository(resources.CONTACTS, Contact, COLUMNS)
PRIMARY_FIRST = case((c.is_primary, 0), else_=c.id)
FILTERS = {
    "external_id": external_id_in(Row.__table__),
    "search": found_in("contacts", c.search_folded, phones=True),
}
OF_CUSTOMER = Listing.of(
    CONTACTS,
    CustomerContactQuery,
    name="customer contacts",
    filters=FILTERS,
    scope={"customer_id": one_of(c.customer_id)},
    sorts={"primary": PRIMARY_FIRST},
    default_sort=("primary", SortOrder.ASC),
)
LISTING = Listing.of(
    CONTACTS,
    ContactQuery,
    filters={
        "customer_id": one_of(c.customer_id),
        "assigned_to": through(c.customer_id, customer.id, user_in(customer.assigned_to)),
        **FILTERS,
    },
    default_sort=("created_at", SortOrder.DESC),
)


async def check_contact(tx: Transaction, contact_id: int | None, customer_id: int | ScalarSelect[int]) -> None:
    """Raise AppError CONTACT_NOT_FOUND unless the contact, if there is one, is one of this customer."""
    if contact_id is None:
        return
    of_customer = select(c.id).where(c.id == contact_id, c.customer_id == customer_id)
    if (await tx.connection.execute(of_customer)).first() is None:
        raise bad_field(Code.CONTACT_NOT_FOUND, "contact_id", "The contact is not one of this customer")
