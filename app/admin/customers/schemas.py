"""Customers as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from msgspec import UNSET, Meta, Struct

from app.admin.activities.schemas import Activity
from app.admin.bulk import BulkChange, TaggedAction
from app.admin.contacts.schemas import Contact
from app.admin.deals.schemas import Deal
from app.admin.tags.schemas import Tag
from app.admin.timeline import TimelineEvent
from app.web import strict_json
from app.web.email import Email
from app.web.fields import Refused
from app.web.paging import Deleted, ListQuery, Search, UserFilter
from app.web.structs import Body, ExternalId, From, MadeAt, Maybe, RecordId, Time, Until, UserId, View, ViewType
from app.web.text import LINE, NAME, TEXT

MOST_PREFERENCE_BYTES = 16_384


class CustomerStatus(StrEnum):
    """In the order in which lists sort them."""

    LEAD = "lead"
    PROSPECT = "prospect"
    ACTIVE = "active"
    INACTIVE = "inactive"
    CHURNED = "churned"


class CustomerKind(StrEnum):
    """What a customer is."""

    PERSON = "person"
    ORGANIZATION = "organization"


class CustomerSort(StrEnum):
    """What a list of customers can be sorted by."""

    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    NAME = "name"
    EMAIL = "email"
    STATUS = "status"
    COMPANY = "company"
    NEXT_FOLLOW_UP_AT = "next_follow_up_at"


def check_preferences(preferences: dict[str, Any]) -> dict[str, Any]:
    """The object, unchanged. Raises Refused if it is larger than 16 KiB."""
    if len(strict_json.encode(preferences)) > MOST_PREFERENCE_BYTES:
        raise Refused(f"must be at most {MOST_PREFERENCE_BYTES} bytes of JSON")
    return preferences


Preferences = Annotated[dict[str, Any], Meta(examples=[{"channel": "phone"}], extra={"check": check_preferences})]
CustomerName = Annotated[str, Meta(max_length=255, **NAME, examples=["Ada Lovelace"])]


def check_website(address: str) -> str:
    """The address as it is. Raises Refused if it is not an http or https URL."""
    try:
        parts = urlsplit(address)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # of a port, or a bracket
        known = False
    if not known or any(character.isspace() for character in address):
        raise Refused("must be an address that begins with http:// or https://")
    return address


Website = Annotated[
    str,
    Meta(
        max_length=255,
        examples=["https://example.com"],
        extra=LINE["extra"] | {"check": check_website},
        extra_json_schema={
            "pattern": r"^([Hh][Tt][Tt][Pp][Ss]?://[^\s\u0000-\u001f\u007f-\u009f/?#][^\s\u0000-\u001f\u007f-\u009f]*)?$"
        },
    ),
]
Phone = Annotated[str, Meta(max_length=50, **LINE, examples=["+44 20 7946 0000"])]
Company = Annotated[str, Meta(max_length=255, **LINE, examples=["Analytical Engines Ltd"])]


class Customer(View):
    """A person or company that somebody sells to."""

    id: int
    name: str
    email: str | None
    phone: str | None
    company: str | None
    role: str | None
    kind: CustomerKind | None
    industry: str | None
    website: str | None
    status: CustomerStatus
    assigned_to: int | str | None
    contacted: bool
    next_follow_up_at: datetime | None
    contact_preferences: dict[str, Any] | None
    notes: str | None
    hold: bool
    tags: list[Tag]
    external_id: str | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    merged_into: int | None
    version: int


class CustomerDetail(Customer):
    """A customer with a part of its related records."""

    contacts_count: int
    open_deals_count: int
    upcoming_activities_count: int
    contacts: list[Contact]
    primary_contact: Contact | None
    open_deals: list[Deal]
    upcoming_activities: list[Activity]
    recent_activities: list[Activity]
    recent_timeline: list[TimelineEvent]


class CustomerChange(Body, kw_only=True):
    """The fields of a customer that can be written."""

    view: ClassVar[ViewType] = CustomerDetail

    name: Maybe[CustomerName] = UNSET
    email: Maybe[Email | None] = UNSET
    phone: Maybe[Phone | None] = UNSET
    company: Maybe[Company | None] = UNSET
    role: Maybe[Annotated[str, Meta(max_length=100, **LINE, description="Job title", examples=["CTO"])] | None] = UNSET
    kind: Maybe[CustomerKind | None] = UNSET
    industry: Maybe[Annotated[str, Meta(max_length=100, **LINE, examples=["Machinery"])] | None] = UNSET
    website: Maybe[Website | None] = UNSET
    status: Maybe[CustomerStatus] = UNSET
    assigned_to: Maybe[UserId | None] = UNSET
    contacted: Maybe[bool] = UNSET
    next_follow_up_at: Maybe[Time | None] = UNSET
    contact_preferences: Maybe[Preferences | None] = UNSET
    notes: Maybe[Annotated[str, Meta(max_length=10_000, **TEXT)] | None] = UNSET
    hold: Maybe[
        Annotated[bool, Meta(description="While true, nothing of it can be trashed or erased. Set by admins only")]
    ] = UNSET
    external_id: Maybe[ExternalId | None] = UNSET


class CustomerCreate(CustomerChange, kw_only=True):
    """A new customer; status is `lead` unless given."""

    name: CustomerName
    created_at: Maybe[MadeAt | None] = UNSET


class CustomerQuery(ListQuery):
    """Filters and order of a list of customers."""

    sort_by: Maybe[CustomerSort] = UNSET
    status: Maybe[list[CustomerStatus]] = UNSET
    kind: Maybe[list[CustomerKind]] = UNSET
    assigned_to: Maybe[UserFilter] = UNSET
    tags: Maybe[Annotated[list[RecordId], Meta(description="Tag ids, comma-separated: any of them")]] = UNSET
    contacted: Maybe[bool] = UNSET
    hold: Maybe[bool] = UNSET
    created_from: Maybe[From] = UNSET
    created_to: Maybe[Until] = UNSET
    follow_up_from: Maybe[From] = UNSET
    follow_up_to: Maybe[Until] = UNSET
    external_id: Maybe[list[ExternalId]] = UNSET
    search: Maybe[Search] = UNSET
    deleted: Maybe[Deleted] = UNSET


class Reassignment(Body, kw_only=True):
    """Who gets a customer, and whether what is open on it and belongs to its present owner goes along."""

    assigned_to: UserId | None
    open_deals: Maybe[bool] = UNSET
    open_activities: Maybe[bool] = UNSET


class Reassigned(Struct):
    """The customer, and how many of its deals and activities have another owner now."""

    customer: Customer
    deals: int
    activities: int


class TagIds(Body, kw_only=True):
    """Tags by id."""

    tag_ids: Annotated[list[RecordId], Meta(max_length=1000, examples=[[1, 2]])]


class CustomerBulk(BulkChange, kw_only=True):
    """Which customers, and what to do to each of them."""

    query: ClassVar[type[ListQuery]] = CustomerQuery
    values_of: ClassVar[Mapping[str, type[Body]]] = {
        "update": CustomerChange,
        "add_tags": TagIds,
        "remove_tags": TagIds,
        "reassign": Reassignment,
    }

    action: TaggedAction
