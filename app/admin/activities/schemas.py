"""Activities as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta

from app.admin.bulk import BulkChange, OwnedAction
from app.admin.nested import ContactBrief, CustomerBrief, DealBrief, ProjectBrief
from app.web.paging import Deleted, ListQuery, Search, UserFilter
from app.web.structs import Body, ExternalId, From, MadeAt, Maybe, RecordId, Time, Until, UserId, View, ViewType
from app.web.text import NAME, TEXT

ActivityTitle = Annotated[str, Meta(max_length=255, **NAME, examples=["Send the offer"])]

AllDay = Annotated[
    bool,
    Meta(
        description=(
            "Whether it is due by the end of a day in the organization's timezone; due_date is then that day's midnight"
            " in UTC. Left out it is so where due_date comes as a bare date, and of a task due at midnight UTC"
        )
    ),
]
Description = Annotated[str, Meta(max_length=10_000, **TEXT)]


class ActivityType(StrEnum):
    """In the order in which lists sort them."""

    CALL = "call"
    EMAIL = "email"
    MEETING = "meeting"
    TASK = "task"
    NOTE = "note"


class ActivityStatus(StrEnum):
    """In the order in which lists sort them. A scheduled activity whose due date has passed shows as overdue."""

    SCHEDULED = "scheduled"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    OVERDUE = "overdue"


class Priority(StrEnum):
    """In the order in which lists sort them."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class ActivitySort(StrEnum):
    """What a list of activities can be sorted by. `agenda` knows no sort_order: what is open by due date, then what is
    closed, the latest first.
    """

    DUE_DATE = "due_date"
    AGENDA = "agenda"
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    TITLE = "title"
    STATUS = "status"
    TYPE = "type"
    PRIORITY = "priority"


class Activity(View):
    """Work to do, or done: for a customer, a deal or a project, or a to-do of one's own."""

    id: int
    title: str
    type: ActivityType
    description: str | None
    status: ActivityStatus
    customer_id: int | None
    deal_id: int | None
    project_id: int | None
    contact_id: int | None
    assigned_to: int | str | None
    due_date: datetime | None
    all_day: bool
    remind_at: datetime | None
    completed_at: datetime | None
    duration: int | None
    outcome: str | None
    priority: Priority
    customer: CustomerBrief | None
    deal: DealBrief | None
    project: ProjectBrief | None
    contact: ContactBrief | None
    external_id: str | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    version: int


class ActivityChange(Body, kw_only=True):
    """The fields of an activity that can be written. `overdue` may be sent back, and is no change."""

    view: ClassVar[ViewType] = Activity

    title: Maybe[ActivityTitle] = UNSET
    type: Maybe[ActivityType] = UNSET
    description: Maybe[Description | None] = UNSET
    status: Maybe[ActivityStatus] = UNSET
    customer_id: Maybe[RecordId | None] = UNSET
    deal_id: Maybe[RecordId | None] = UNSET
    project_id: Maybe[RecordId | None] = UNSET
    contact_id: Maybe[RecordId | None] = UNSET
    assigned_to: Maybe[UserId | None] = UNSET
    due_date: Maybe[Time | None] = UNSET
    all_day: Maybe[AllDay] = UNSET
    remind_at: Maybe[Annotated[Time, Meta(description="When its person is reminded of it")] | None] = UNSET
    completed_at: Maybe[Time | None] = UNSET
    duration: Maybe[Annotated[int, Meta(ge=0, le=2**31 - 1, description="Minutes", examples=[30])] | None] = UNSET
    outcome: Maybe[Annotated[str, Meta(max_length=10_000, **TEXT)] | None] = UNSET
    priority: Maybe[Priority] = UNSET
    external_id: Maybe[ExternalId | None] = UNSET


class ActivityCreate(ActivityChange, kw_only=True):
    """A new activity; its creator's unless given."""

    title: ActivityTitle
    type: ActivityType
    created_at: Maybe[MadeAt | None] = UNSET


class ProjectTaskQuery(ListQuery):
    """Filters and order of a list of a project's tasks."""

    sort_by: Maybe[ActivitySort] = UNSET
    status: Maybe[list[ActivityStatus]] = UNSET
    assigned_to: Maybe[UserFilter] = UNSET
    customer_id: Maybe[list[RecordId]] = UNSET
    deal_id: Maybe[list[RecordId]] = UNSET
    contact_id: Maybe[list[RecordId]] = UNSET
    priority: Maybe[list[Priority]] = UNSET
    due_date_from: Maybe[From] = UNSET
    due_date_to: Maybe[Until] = UNSET
    external_id: Maybe[list[ExternalId]] = UNSET
    search: Maybe[Search] = UNSET
    deleted: Maybe[Deleted] = UNSET


class TaskQuery(ProjectTaskQuery):
    """Filters and order of a list of tasks."""

    project_id: Maybe[list[RecordId]] = UNSET


class MyActivityQuery(ListQuery):
    """Filters and order of a list of activities."""

    sort_by: Maybe[ActivitySort] = UNSET
    type: Maybe[list[ActivityType]] = UNSET
    status: Maybe[list[ActivityStatus]] = UNSET
    customer_id: Maybe[list[RecordId]] = UNSET
    deal_id: Maybe[list[RecordId]] = UNSET
    project_id: Maybe[list[RecordId]] = UNSET
    contact_id: Maybe[list[RecordId]] = UNSET
    priority: Maybe[list[Priority]] = UNSET
    due_date_from: Maybe[From] = UNSET
    due_date_to: Maybe[Until] = UNSET
    external_id: Maybe[list[ExternalId]] = UNSET
    search: Maybe[Search] = UNSET
    deleted: Maybe[Deleted] = UNSET


class ActivityQuery(MyActivityQuery):
    """Filters and order of a list of everybody's activities."""

    assigned_to: Maybe[UserFilter] = UNSET


class ActivityOwner(Body):
    """Who gets an activity."""

    assigned_to: UserId | None


class ActivityBulk(BulkChange, kw_only=True):
    """Which activities, and what to do to each of them."""

    query: ClassVar[type[ListQuery]] = ActivityQuery
    values_of: ClassVar[Mapping[str, type[Body]]] = {"update": ActivityChange, "reassign": ActivityOwner}

    action: OwnedAction
