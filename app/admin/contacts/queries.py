"""Contacts as the database reads them."""

from __future__ import annotations

from sqlalchemy import case

from app.admin.contacts.schemas import Contact
from app.models import Contact as Row
from app.models import Customer
from app.records import resources
from app.records.counts import Counted
from app.records.filters import found_in, one_of, through, user_in
from app.records.json_columns import view_columns
from app.records.listing import Listing
from app.records.sorting import by_column
from app.records.trash import TrashRepository
from app.web.paging import SortOrder

c = Row.__table__.c
customer = Customer.__table__.c

COLUMNS = view_columns(Contact, Row.__table__)
CONTACTS = TrashRepository(resources.CONTACTS, Contact, COLUMNS)
PRIMARY_FIRST = case((c.is_primary, 0), else_=c.id)
FILTERS = {
    "customer_id": one_of(c.customer_id),
    "assigned_to": through(c.customer_id, customer.id, user_in(customer.assigned_to)),
    "external_id": one_of(c.external_id),
    "search": found_in("contacts", c.search_folded, phones=True),
}
LISTING = Listing(
    "contacts",
    Contact,
    COLUMNS,
    Row.__table__,
    key=c.id,
    deleted_at=c.deleted_at,
    filters=FILTERS,
    sorts={"created_at": by_column(c.created_at)},
    default_sort=("created_at", SortOrder.DESC),
    counted=Counted("contacts"),
)
OF_CUSTOMER = Listing(
    "customer contacts",
    Contact,
    COLUMNS,
    Row.__table__,
    key=c.id,
    deleted_at=c.deleted_at,
    filters=FILTERS,
    sorts={"primary": by_column(PRIMARY_FIRST)},
    default_sort=("primary", SortOrder.ASC),
)
