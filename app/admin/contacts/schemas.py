"""Contacts as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta

from app.admin.bulk import Action, BulkChange
from app.web.email import Email
from app.web.paging import Deleted, ListQuery, Search, UserFilter
from app.web.structs import Body, ExternalId, MadeAt, Maybe, RecordId, View, ViewType
from app.web.text import LINE, TEXT

FirstName = Annotated[str, Meta(max_length=100, **LINE, examples=["Grace"])]
LastName = Annotated[str, Meta(max_length=100, **LINE, examples=["Hopper"])]
ContactPhone = Annotated[str, Meta(max_length=50, **LINE)]
Position = Annotated[str, Meta(max_length=100, **LINE, examples=["Head of Purchasing"])]


class Contact(View):
    """Somebody to talk to at a customer. One without a first name has an empty one, without a last name null."""

    id: int
    customer_id: int
    first_name: str
    last_name: str | None
    email: str | None
    phone: str | None
    position: str | None
    is_primary: bool
    notes: str | None
    external_id: str | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    merged_into: int | None
    version: int


class ContactChange(Body, kw_only=True):
    """The fields of a contact that can be written; customer_id must be the one that it has."""

    view: ClassVar[ViewType] = Contact

    customer_id: Maybe[RecordId] = UNSET
    first_name: Maybe[FirstName | None] = UNSET
    last_name: Maybe[LastName | None] = UNSET
    email: Maybe[Email | None] = UNSET
    phone: Maybe[ContactPhone | None] = UNSET
    position: Maybe[Position | None] = UNSET
    is_primary: Maybe[bool] = UNSET
    notes: Maybe[Annotated[str, Meta(max_length=10_000, **TEXT)] | None] = UNSET
    external_id: Maybe[ExternalId | None] = UNSET


class ContactCreate(ContactChange, kw_only=True):
    """A new contact. It has a first name, a last name or both."""

    created_at: Maybe[MadeAt | None] = UNSET


class ContactSort(StrEnum):
    """What a list of contacts can be sorted by."""

    CREATED_AT = "created_at"


class ContactQuery(ListQuery):
    """Filters of the contacts of all customers; assigned_to is the customer's."""

    sort_by: Maybe[ContactSort] = UNSET
    customer_id: Maybe[list[RecordId]] = UNSET
    assigned_to: Maybe[UserFilter] = UNSET
    external_id: Maybe[list[ExternalId]] = UNSET
    search: Maybe[Search] = UNSET
    deleted: Maybe[Deleted] = UNSET


class CustomerContactSort(StrEnum):
    """The order of a customer's contacts: the primary one, then the oldest first."""

    PRIMARY = "primary"


class CustomerContactQuery(ListQuery):
    """Filters of one customer's contacts."""

    sort_by: Maybe[CustomerContactSort] = UNSET
    external_id: Maybe[list[ExternalId]] = UNSET
    search: Maybe[Search] = UNSET
    deleted: Maybe[Deleted] = UNSET


class ContactBulk(BulkChange, kw_only=True):
    """Which contacts, and what to do to each of them."""

    query: ClassVar[type[ListQuery]] = ContactQuery
    values_of: ClassVar[Mapping[str, type[Body]]] = {"update": ContactChange}

    action: Action
