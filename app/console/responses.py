"""The console's answers. Ids are strings, null fields are left out, and created_at is always there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, Generic, Self, TypeVar

from msgspec import Struct

from app.admin.activities import schemas as activities
from app.admin.contacts import schemas as contacts
from app.admin.customers import schemas as customers
from app.admin.deals import schemas as deals
from app.admin.notes import schemas as notes
from app.admin.reports import schemas as reports
from app.admin.users.schemas import User
from app.console.values import SHOWN_STATUS, Stage, Stages, Status, shown_day, shown_due, shown_name
from app.web import paging
from app.web.structs import View

Row = TypeVar("Row")


class ConsoleRecord(View, kw_only=True, omit_defaults=True):
    """A record in the console's shape. `names` maps fields to their names in /admin; `nested` has nested records."""

    names: ClassVar[Mapping[str, str]] = {}
    nested: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def copy_of(cls, record: Any, **special: Any) -> Self:
        """From a record of /admin. `special` has the fields that can't be copied from it."""
        names, read, ids = _plan(cls, *special)
        values = dict(zip(names, read(record)))  # noqa: B905 -- both are of the plan
        for name in ids:
            if values[name] is not None:
                values[name] = str(values[name])
        for name, kind in cls.nested.items():
            if values[name] is not None:
                values[name] = kind.copy_of(values[name])
        return cls(**values, **special)


@cache
def _plan(kind: type[ConsoleRecord], *special: str) -> tuple[list[str], Callable[[Any], tuple[Any, ...]], list[str]]:
    """The fields to copy from the record, a getter for them, and which are ids: computed once for each type."""
    names = [name for name in kind.__struct_fields__ if name not in special]
    ids = [name for name in names if name in {"id", "assigned_to"} or name.endswith("_id")]
    return names, attrgetter(*(kind.names.get(name, name) for name in names)), ids


class Page(Struct, Generic[Row]):
    """One page of a list."""

    data: list[Row]
    total: int
    page: int
    limit: int
    total_pages: int

    @classmethod
    def around(cls, page: paging.Page[Any]) -> Page[Any]:
        """From a page of /admin whose rows are in the console's shape already."""
        counted = (page.total or 0, page.page or 1, page.page_size, page.total_pages or 0)
        return cls(page.data, *counted)


class Tag(ConsoleRecord, kw_only=True):
    """A label for customers."""

    id: str
    name: str
    color: str | None = None
    customer_count: int
    created_at: datetime


class Contact(ConsoleRecord, kw_only=True):
    """A contact."""

    names: ClassVar[Mapping[str, str]] = {"title": "position"}

    id: str
    customer_id: str
    name: str
    email: str | None = None
    phone: str | None = None
    title: str | None = None
    is_primary: bool
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_record(cls, contact: contacts.Contact) -> Contact:
        """From a contact of /admin: first and last name become one."""
        return cls.copy_of(contact, name=" ".join(filter(None, (contact.first_name, contact.last_name))))


class Customer(ConsoleRecord, kw_only=True):
    """A customer."""

    names: ClassVar[Mapping[str, str]] = {"owner_id": "assigned_to", "follow_up_at": "next_follow_up_at"}

    id: str
    name: str
    email: str | None = None
    phone: str | None = None
    company: str | None = None
    status: Status
    owner_id: str | None = None
    assigned_to: str | None = None
    contact_preferences: dict[str, Any] | None = None
    follow_up_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None
    tags: list[Tag]
    primary_contact: Contact | None = None

    @classmethod
    def from_record(cls, customer: customers.Customer, primary: contacts.Contact | None) -> Customer:
        """From a customer of /admin and its primary contact."""
        return cls.copy_of(
            customer,
            status=SHOWN_STATUS[customer.status],
            follow_up_at=shown_day(customer.next_follow_up_at),
            tags=[Tag.copy_of(tag) for tag in customer.tags],
            primary_contact=None if primary is None else Contact.from_record(primary),
        )


class CustomerBrief(ConsoleRecord, kw_only=True):
    """The customer that a record belongs to."""

    id: str
    name: str
    email: str | None = None
    company: str | None = None


class DealBrief(ConsoleRecord, kw_only=True):
    """The deal that a record belongs to."""

    names: ClassVar[Mapping[str, str]] = {"name": "title"}

    id: str
    name: str


class Person(ConsoleRecord, kw_only=True):
    """A person, who is never nameless."""

    id: str
    name: str
    email: str | None = None

    @classmethod
    def from_record(cls, person: int | str, user: User | None, name: str | None = None) -> Person:
        """A person who always has a name. `name` is the one stored in the record, if there is one."""
        seen, email = (None, None) if user is None else (user.name, user.email)
        # Records store the email of a person without a name.
        signed = None if name == email else name
        return cls(id=str(person), name=shown_name(signed or seen, email, person), email=email)


class Deal(ConsoleRecord, kw_only=True):
    """A deal."""

    names: ClassVar[Mapping[str, str]] = {"name": "title"}
    nested: ClassVar[Mapping[str, Any]] = {"customer": CustomerBrief}

    id: str
    name: str
    customer_id: str
    customer: CustomerBrief | None = None
    stage: Stage
    amount: Decimal
    currency: str
    probability: int
    expected_close_date: datetime | None = None
    owner_id: str | None = None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_record(cls, deal: deals.Deal, stages: Stages) -> Deal:
        """From a deal of /admin, in one of the console's stages."""
        return cls.copy_of(
            deal, stage=stages.console_stage(deal.stage), expected_close_date=shown_day(deal.expected_close_date)
        )


class Activity(ConsoleRecord, kw_only=True):
    """An activity. The console derives its status from due_at and completed_at."""

    names: ClassVar[Mapping[str, str]] = {"subject": "title", "owner_id": "assigned_to", "due_at": "due_date"}
    nested: ClassVar[Mapping[str, Any]] = {"customer": CustomerBrief, "deal": DealBrief}

    id: str
    type: activities.ActivityType
    subject: str
    description: str | None = None
    customer_id: str | None = None
    customer: CustomerBrief | None = None
    deal_id: str | None = None
    deal: DealBrief | None = None
    owner_id: str | None = None
    owner: Person | None = None
    due_at: datetime | None = None
    completed_at: datetime | None = None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_record(cls, activity: activities.Activity, owner: User | None) -> Activity:
        """From an activity of /admin and its owner."""
        person = activity.assigned_to
        return cls.copy_of(
            activity,
            owner=None if person is None else Person.from_record(person, owner),
            due_at=shown_due(activity.due_date, all_day=activity.all_day),
        )


class Note(ConsoleRecord, kw_only=True):
    """A note."""

    nested: ClassVar[Mapping[str, Any]] = {"customer": CustomerBrief, "deal": DealBrief}

    id: str
    content: str
    customer_id: str | None = None
    customer: CustomerBrief | None = None
    deal_id: str | None = None
    deal: DealBrief | None = None
    author_id: str
    author: Person
    created_at: datetime
    updated_at: datetime

    @classmethod
    def from_record(cls, note: notes.Note, author: User | None) -> Note:
        """From a note of /admin. The author's name is the one stored with the note."""
        return cls.copy_of(note, author=Person.from_record(note.author_id, author, note.author_name))


class StageFigures(Struct):
    """The deals that are shown in a stage."""

    stage: Stage
    count: int
    value: Decimal
    value_by_currency: reports.ByCurrency


class Performer(ConsoleRecord, kw_only=True):
    """One of the people who won most in the last 90 days."""

    id: str
    name: str
    email: str | None = None
    deals_closed: int
    pipeline_value: Decimal

    @classmethod
    def from_record(cls, performer: reports.Performer) -> Performer:
        """From a line of the report. A person always has a name."""
        return cls.copy_of(performer, name=shown_name(performer.name, performer.email, performer.id))


class Overview(Struct):
    """The dashboard's figures. Days are newest first: the page shows the first seven."""

    metrics: reports.Metrics
    deals_by_stage: list[StageFigures]
    activities_over_time: list[reports.DayFigures]
    top_performers: list[Performer]

    @classmethod
    def from_record(cls, overview: reports.Overview, stages: Stages) -> Overview:
        """From the overview of /admin. Stages that the console shows as one are counted as one."""
        by_stage: dict[Stage, StageFigures] = {}
        for figures in overview.deals_by_stage:
            stage = stages.console_stage(figures.stage)
            total = by_stage.setdefault(stage, StageFigures(stage, 0, Decimal(0), {}))
            total.count += figures.count
            total.value += figures.value
            for currency, value in figures.value_by_currency.items():
                total.value_by_currency[currency] = total.value_by_currency.get(currency, Decimal(0)) + value
        return cls(
            metrics=overview.metrics,
            deals_by_stage=list(by_stage.values()),
            activities_over_time=overview.activities_over_time[::-1],
            top_performers=[Performer.from_record(performer) for performer in overview.top_performers],
        )
