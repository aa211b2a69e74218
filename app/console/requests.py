"""The console's requests: the queries of its lists and the bodies of its forms.

Empty text means that a field was left out. A form changes a field if it differs from what the console was shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypeVar

from msgspec import UNSET, Meta, Struct

from app.admin.activities.schemas import (
    Activity,
    ActivityChange,
    ActivityStatus,
    ActivityTitle,
    ActivityType,
    Description,
)
from app.admin.contacts.schemas import ContactPhone, Position
from app.admin.customers.schemas import Company, CustomerName, CustomerQuery, Phone, Preferences
from app.admin.deals.schemas import Amount, DealQuery, Title
from app.admin.notes.schemas import Content
from app.admin.pipeline_stages.schemas import Percent
from app.admin.tags.schemas import TagName
from app.console import responses
from app.console.values import Stage, Stages, Status, equals_shown, read_day, statuses_shown_as
from app.web.currency import Currency
from app.web.email import Email
from app.web.errors import Code, Fault, invalid
from app.web.fields import Refused
from app.web.paging import Search, UserFilter
from app.web.structs import DATES, MAX_ID, Body, Color, From, Maybe, RecordId, Until, UserId, ViewType
from app.web.text import NAME

MAX_NAME_PART_LENGTH = 100
# Fields without a time of day in the console's forms.
DAYS = frozenset({"follow_up_at", "expected_close_date"})

ID_TEXT = "^[1-9][0-9]{0,18}$"


def read_id(sent: int | str) -> int:
    """An id that was sent as a number or as text. Raises Refused."""
    record_id = int(sent)
    if not 1 <= record_id <= MAX_ID:
        raise Refused("must be a record's id")
    return record_id


def read_stage(name: str) -> Stage:
    """One of the console's stages. Raises Refused."""
    try:
        return Stage(name)
    except ValueError:
        raise Refused(f"must be one of {', '.join(Stage)}", Code.INVALID_STAGE) from None


def split_name(name: str) -> tuple[str, str | None]:
    """First and last name, split at the last blank."""
    first, _, last = name.strip().rpartition(" ")
    return (first.strip(), last) if first else (last, None)


IdOrText = Annotated[int, Meta(ge=1, le=MAX_ID)] | Annotated[str, Meta(pattern=ID_TEXT)]
Id = Annotated[IdOrText, Meta(description="A record's id", examples=["12"], extra={"check": read_id})]
Ids = Annotated[
    list[IdOrText],
    Meta(max_length=1000, examples=[["1", 2]], extra={"check": lambda ids: [read_id(sent) for sent in ids]}),
]
StageName = Annotated[
    str,
    Meta(
        description="A stage",
        examples=["proposal"],
        extra={"check": read_stage, "choice": True},
        extra_json_schema={"enum": list(Stage)},
    ),
]
FullName = Annotated[str, Meta(max_length=2 * MAX_NAME_PART_LENGTH + 1, **NAME, examples=["Grace Hopper"])]
Day = Annotated[
    datetime,
    Meta(tz=True, description="A bare date, or RFC 3339", examples=["2026-12-25"], extra_json_schema=DATES),
]
# Valid days, as far as a pattern can tell.
WITHOUT_OFFSET = (
    r"^\d{4}-((0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
    r"T([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?$"
)
DueAt = Annotated[
    datetime,
    Meta(
        description="Without an offset it is UTC",
        examples=["2026-12-31T10:30"],
        extra={"assume_utc": True},
        extra_json_schema=DATES | {"anyOf": [*DATES["anyOf"], {"pattern": WITHOUT_OFFSET}]},
    ),
]

Query = TypeVar("Query")
Change = TypeVar("Change", bound=Body)


class ListQuery(Struct, kw_only=True):
    """What every list takes. `names` maps filters to the names that /admin has for them."""

    names: ClassVar[Mapping[str, str]] = {}

    page: Maybe[Annotated[int, Meta(ge=1, le=10**9, description="From 1")]] = UNSET
    limit: Maybe[Annotated[int, Meta(ge=1, le=10**9, description="Over 1000 counts as 1000")]] = UNSET

    def read_as(self, kind: type[Query], **special: Any) -> Query:
        """The same query for /admin."""
        names = {"limit": "page_size", **self.names}
        given = {names.get(name, name): getattr(self, name) for name in self.__struct_fields__}
        return kind(**given | special)


class CustomerFilters(ListQuery):
    """Filters of customers."""

    names: ClassVar[Mapping[str, str]] = {"owner_id": "assigned_to", "tag_id": "tags"}

    search: Maybe[Search] = UNSET
    status: Maybe[list[Status]] = UNSET
    owner_id: Maybe[UserFilter] = UNSET
    tag_id: Maybe[list[RecordId]] = UNSET

    def query(self) -> CustomerQuery:
        """The query for /admin. A status finds all customers that are shown with it."""
        status = UNSET if self.status is UNSET else statuses_shown_as(self.status)
        return self.read_as(CustomerQuery, status=status)


class DealFilters(ListQuery):
    """Filters of deals; the dates are those of the expected close."""

    names: ClassVar[Mapping[str, str]] = {"date_from": "expected_close_from", "date_to": "expected_close_to"}

    search: Maybe[Search] = UNSET
    stage: Maybe[list[StageName]] = UNSET
    owner_id: Maybe[UserFilter] = UNSET
    customer_id: Maybe[list[RecordId]] = UNSET
    date_from: Maybe[From] = UNSET
    date_to: Maybe[Until] = UNSET

    def query(self, stages: Stages) -> DealQuery:
        """The query for /admin. A stage finds all deals that are shown in it."""
        stage = UNSET if self.stage is UNSET else stages.tenant_stages(list(map(Stage, self.stage)))
        return self.read_as(DealQuery, stage=stage)


class MyActivityFilters(ListQuery):
    """Filters of one's own activities; the dates are those on which they are due."""

    names: ClassVar[Mapping[str, str]] = {
        "date_from": "due_date_from",
        "date_to": "due_date_to",
    }

    search: Maybe[Search] = UNSET
    type: Maybe[list[ActivityType]] = UNSET
    status: Maybe[list[ActivityStatus]] = UNSET
    customer_id: Maybe[list[RecordId]] = UNSET
    deal_id: Maybe[list[RecordId]] = UNSET
    date_from: Maybe[From] = UNSET
    date_to: Maybe[Until] = UNSET


class ActivityFilters(MyActivityFilters):
    """Filters of everybody's activities."""

    names: ClassVar[Mapping[str, str]] = {**MyActivityFilters.names, "owner_id": "assigned_to"}

    owner_id: Maybe[UserFilter] = UNSET


class NoteFilters(ListQuery):
    """A page of the notes of a customer or a deal."""


class Form(Body, kw_only=True):
    """The body of a form. Its fields have the names of the answer."""

    empty_is_absent: ClassVar[bool] = True

    def read_as(self, kind: type[Change], shown: Struct | None = None) -> Change:
        """The body for /admin, with the fields that differ from what the console was `shown`.

        Raises AppError if two fields mean the same one and differ.
        """
        return self.named(kind, self.changes(shown))

    def named(self, kind: type[Change], values: Mapping[str, Any]) -> Change:
        """The body for /admin with these values, under the names of /admin."""
        names = self.view.names if self.view is not None and issubclass(self.view, responses.ConsoleRecord) else {}
        read: dict[str, Any] = {}
        for name, value in values.items():
            if read.setdefault(names.get(name, name), value) != value:
                raise invalid(Fault(name, "differs from another field that means the same"))
        return kind(**read)

    def changes(self, shown: Struct | None) -> dict[str, Any]:
        """The changed fields, under the console's names. A day that was shown as noon becomes the day again."""
        given = self.given()
        if shown is not None:
            given = {name: sent for name, sent in given.items() if not equals_shown(name, sent, getattr(shown, name))}
        return given | {name: read_day(given[name]) for name in DAYS & given.keys()}


class CustomerForm(Form, kw_only=True):
    """A customer's fields; owner_id and assigned_to are the same."""

    view: ClassVar[ViewType] = responses.Customer

    name: Maybe[CustomerName] = UNSET
    email: Maybe[Email | None] = UNSET
    phone: Maybe[Phone | None] = UNSET
    company: Maybe[Company | None] = UNSET
    status: Maybe[Status] = UNSET
    owner_id: Maybe[UserId | None] = UNSET
    assigned_to: Maybe[UserId | None] = UNSET
    contact_preferences: Maybe[Preferences | None] = UNSET
    follow_up_at: Maybe[Day | None] = UNSET


class NewCustomerForm(CustomerForm, kw_only=True):
    """A new customer."""

    name: CustomerName


class ContactForm(Form, kw_only=True):
    """A contact's fields. customer_id can't change; `title` is the position."""

    view: ClassVar[ViewType] = responses.Contact

    name: Maybe[FullName] = UNSET
    email: Maybe[Email | None] = UNSET
    phone: Maybe[ContactPhone | None] = UNSET
    title: Maybe[Position | None] = UNSET
    is_primary: Maybe[bool] = UNSET
    customer_id: Maybe[Id] = UNSET

    def changes(self, shown: Struct | None) -> dict[str, Any]:
        """The changes, with first and last name in place of the name. Raises AppError if one is too long."""
        values = super().changes(shown)
        if "name" in values:
            first, last = split_name(values.pop("name"))
            if max(len(first), len(last or "")) > MAX_NAME_PART_LENGTH:
                raise invalid(
                    Fault("name", f"must have first and last names of at most {MAX_NAME_PART_LENGTH} characters")
                )
            values |= {"first_name": first, "last_name": last}
        return values


class NewContactForm(ContactForm, kw_only=True):
    """A new contact."""

    name: FullName


class DealForm(Form, kw_only=True):
    """A deal's fields; `name` is its title."""

    view: ClassVar[ViewType] = responses.Deal

    name: Maybe[Title] = UNSET
    customer_id: Maybe[Id] = UNSET
    stage: Maybe[StageName] = UNSET
    amount: Maybe[Amount] = UNSET
    currency: Maybe[Currency] = UNSET
    probability: Maybe[Percent] = UNSET
    expected_close_date: Maybe[Day | None] = UNSET
    owner_id: Maybe[UserId | None] = UNSET

    def read_deal(self, kind: type[Change], stages: Stages, shown: responses.Deal | None = None) -> Change:
        """The body for /admin. A move takes the new stage's probability unless the form gives one."""
        values = self.changes(shown)
        if "stage" in values:
            values["stage"] = stages.target_stage(Stage(values["stage"]))
            if self.probability is not UNSET:
                values["probability"] = self.probability
        return self.named(kind, values)


class NewDealForm(DealForm, kw_only=True):
    """A new deal."""

    name: Title
    customer_id: Id


class StageForm(Form, kw_only=True):
    """A move to another stage. The stage in which the deal is shown means no move."""

    stage: StageName


class ActivityForm(Form, kw_only=True):
    """An activity's fields; `subject` is its title."""

    view: ClassVar[ViewType] = responses.Activity

    type: Maybe[ActivityType] = UNSET
    subject: Maybe[ActivityTitle] = UNSET
    description: Maybe[Description | None] = UNSET
    customer_id: Maybe[Id | None] = UNSET
    deal_id: Maybe[Id | None] = UNSET
    due_at: Maybe[DueAt | None] = UNSET

    @classmethod
    def sent(cls, document: dict[str, Any]) -> dict[str, Any]:
        """The console always sends the description, so that empty text means that it was cleared."""
        cleared = {"description": None} if document.get("description") == "" else {}
        return super().sent(document) | cleared

    def read_change(self, activity: Activity) -> ActivityChange:
        """The body for /admin. A whole day stays one if its hour is what was shown."""
        values = self.changes(responses.Activity.from_record(activity, None))
        if activity.all_day and "due_at" in values:
            values["due_at"] = read_day(values["due_at"])
        return self.named(ActivityChange, values)


class NewActivityForm(ActivityForm, kw_only=True):
    """A new activity. It may belong to a customer, a deal, or neither."""

    type: ActivityType
    subject: ActivityTitle


class NewNoteForm(Form, kw_only=True):
    """A new note on a customer or a deal."""

    view: ClassVar[ViewType] = responses.Note

    content: Content
    customer_id: Maybe[Id | None] = UNSET
    deal_id: Maybe[Id | None] = UNSET


class TagForm(Form, kw_only=True):
    """A tag's fields."""

    view: ClassVar[ViewType] = responses.Tag

    name: Maybe[TagName] = UNSET
    color: Maybe[Color | None] = UNSET


class NewTagForm(TagForm, kw_only=True):
    """A new tag."""

    name: TagName


class TagIds(Form, kw_only=True):
    """Tags by id."""

    tag_ids: Ids
