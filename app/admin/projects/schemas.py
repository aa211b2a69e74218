"""Projects as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta

from app.admin.activities.schemas import Activity, ActivityChange, ActivityTitle, Description
from app.admin.bulk import BulkChange, OwnedAction
from app.admin.nested import CustomerBrief
from app.web.paging import Deleted, ListQuery, Search, UserFilter
from app.web.structs import (
    Body,
    ExternalId,
    From,
    MadeAt,
    Maybe,
    RecordId,
    Time,
    Until,
    UserId,
    UserIds,
    View,
    ViewType,
)
from app.web.text import NAME

MOST_ASSIGNEES = 50

ProjectName = Annotated[str, Meta(max_length=255, **NAME, examples=["New website"])]
Assignees = Annotated[UserIds, Meta(max_length=MOST_ASSIGNEES)]
# Stored as that day's midnight in UTC, whatever time is sent.
Day = Annotated[Time, Meta(description="A whole day in the organization's timezone: that day's midnight in UTC")]


class ProjectStatus(StrEnum):
    """In the order in which lists sort them."""

    PLANNED = "planned"
    IN_PROGRESS = "in_progress"
    ON_HOLD = "on_hold"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class ProjectSort(StrEnum):
    """What a list of projects can be sorted by."""

    NAME = "name"
    DUE_DATE = "due_date"
    STATUS = "status"
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"


class Project(View):
    """Work larger than a task. Its counts are of the tasks that the reader sees; `last_activity_at` is when one of its
    activities changed last.
    """

    id: int
    name: str
    description: str | None
    status: ProjectStatus
    customer_id: int | None
    owner_id: int | str | None
    assignees: list[int | str]
    start_date: datetime | None
    due_date: datetime | None
    completed_at: datetime | None
    tasks_total: int
    tasks_completed: int
    tasks_overdue: int
    last_activity_at: datetime | None
    customer: CustomerBrief | None
    external_id: str | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    version: int


class ProjectDetail(Project):
    """A project with up to 100 of its tasks: those due first."""

    tasks: list[Activity]


class ProjectFields(Body, kw_only=True):
    """What is stored of a project."""

    view: ClassVar[ViewType] = ProjectDetail

    name: Maybe[ProjectName] = UNSET
    description: Maybe[Description | None] = UNSET
    status: Maybe[ProjectStatus] = UNSET
    customer_id: Maybe[RecordId | None] = UNSET
    owner_id: Maybe[UserId | None] = UNSET
    assignees: Maybe[Assignees] = UNSET
    start_date: Maybe[Day | None] = UNSET
    due_date: Maybe[Day | None] = UNSET
    completed_at: Maybe[Time | None] = UNSET
    external_id: Maybe[ExternalId | None] = UNSET


class ProjectChange(ProjectFields, kw_only=True):
    """The fields of a project that can be written."""

    modifiers: ClassVar[frozenset[str]] = frozenset({"complete_tasks"})

    complete_tasks: Maybe[
        Annotated[bool, Meta(description="Complete its open tasks with it, instead of 409 OPEN_TASKS")]
    ] = UNSET


class ProjectCreate(ProjectFields, kw_only=True):
    """A new project; its creator's unless given."""

    name: ProjectName
    created_at: Maybe[MadeAt | None] = UNSET


class TaskCreate(ActivityChange, kw_only=True):
    """A new task of a project; its creator's unless given."""

    title: ActivityTitle
    created_at: Maybe[MadeAt | None] = UNSET


class ProjectQuery(ListQuery):
    """Filters and order of a list of projects."""

    sort_by: Maybe[ProjectSort] = UNSET
    status: Maybe[list[ProjectStatus]] = UNSET
    customer_id: Maybe[list[RecordId]] = UNSET
    owner_id: Maybe[UserFilter] = UNSET
    assignee: Maybe[UserFilter] = UNSET
    due_from: Maybe[From] = UNSET
    due_to: Maybe[Until] = UNSET
    overdue: Maybe[Annotated[bool, Meta(description="Due before today, and neither completed nor cancelled")]] = UNSET
    external_id: Maybe[list[ExternalId]] = UNSET
    search: Maybe[Search] = UNSET
    deleted: Maybe[Deleted] = UNSET


class ProjectOwner(Body):
    """Who gets a project."""

    owner_id: UserId | None


class ProjectBulk(BulkChange, kw_only=True):
    """Which projects, and what to do to each of them."""

    query: ClassVar[type[ListQuery]] = ProjectQuery
    values_of: ClassVar[Mapping[str, type[Body]]] = {"update": ProjectChange, "reassign": ProjectOwner}

    action: OwnedAction
