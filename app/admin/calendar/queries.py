"""Entries of calendars as the database reads them: each kind off an index, of these people and within these times."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Struct
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    DateTime,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
)

from app.admin.activities.queries import STATUS
from app.admin.calendar.schemas import CalendarKind
from app.admin.nested import customer_name
from app.models import Activity, Customer, Deal, PipelineStage, Project
from app.models import CalendarEntry as Entry
from app.records import resources
from app.records.calendar import TODAY, at_midnight
from app.records.resources import Resource

activity, customer, deal, project = (model.__table__.c for model in (Activity, Customer, Deal, Project))
stage = PipelineStage.__table__.c
entry = Entry.__table__.c

TIME = DateTime(timezone=True)
# Calendar programs show the beginning.
LONGEST_DESCRIPTION = 1000
MINUTE: ColumnElement[Any] = literal_column("interval '1 minute'")
DAY: ColumnElement[Any] = literal_column("interval '1 day'")
PEOPLE = bindparam("people", type_=ARRAY(Text))
SCHEDULED, OVERDUE, COMPLETED, CANCELLED = (
    literal_column(f"'{status}'", Text) for status in ("scheduled", "overdue", "completed", "cancelled")
)
LAST: ColumnElement[Any] = literal_column("timestamptz '9999-12-31 23:59:59.999999+00'")


class Source(NamedTuple):
    """Where the entries of one kind come from: for answers the earliest first; for feeds in either order."""

    kind: CalendarKind
    resource: Resource
    rows: Select[Any]
    ahead: Select[Any]
    back: Select[Any]


class Found(Struct):
    """An entry as it is read."""

    id: int
    starts_at: datetime
    ends_at: datetime
    all_day: bool
    status: str
    user_id: int | str | None
    title: str
    activity_type: str | None
    customer_id: int | None
    customer_name: str | None


class Published(Found):
    """An entry as a feed shows it: with a version and a text."""

    version: int
    created_at: datetime
    updated_at: datetime
    description: str | None
    remind_at: datetime | None


def _source(
    kind: CalendarKind,
    resource: Resource,
    *,
    starts_at: ColumnElement[Any],
    all_day: ColumnElement[bool],
    user_id: ColumnElement[Any],
    title: ColumnElement[str],
    customer_id: ColumnElement[Any],
    status: ColumnElement[str],
    whose: ColumnElement[bool] | None = None,
    remind_at: ColumnElement[Any] | None = None,
    minutes: ColumnElement[Any] | None = None,
    activity_type: ColumnElement[Any] | None = None,
) -> Source:
    """The kind whose entries begin at `starts_at`. Those that last `minutes` are found while they do. `whose` says
    which are these people's, if `user_id` is not enough.
    """
    c = resource.table.c
    end = starts_at if minutes is None else func.least(starts_at + func.coalesce(minutes, 0) * MINUTE, LAST)
    since, since_day, earliest, until, until_day, latest = (
        bindparam(name, type_=TIME) for name in ("since", "since_day", "earliest", "until", "until_day", "latest")
    )
    begins_later = starts_at >= case((all_day, since_day), else_=since)
    lasts = begins_later if minutes is None else or_(begins_later, and_(~all_day, end > since))
    columns: dict[str, ColumnElement[Any]] = {
        "id": c.id,
        "starts_at": starts_at,
        "ends_at": case((all_day, starts_at + DAY), else_=end),
        "all_day": all_day,
        "status": status,
        "user_id": user_id,
        "title": title,
        "activity_type": literal_column("NULL", Text) if activity_type is None else activity_type,
        "customer_id": customer_id,
        "customer_name": customer_name(customer_id),
    }
    published: dict[str, ColumnElement[Any]] = {
        "version": c.version,
        "created_at": c.created_at,
        "updated_at": c.updated_at,
        "description": func.left(c.description if "description" in c else null(), LONGEST_DESCRIPTION),
        "remind_at": literal_column("NULL", TIME) if remind_at is None else remind_at,
    }

    def read(columns: dict[str, ColumnElement[Any]]) -> Select[Any]:
        return (
            select(*(column.label(name) for name, column in columns.items()))
            .where(
                c.deleted_at.is_(None),
                cast(user_id, Text) == any_(PEOPLE) if whose is None else whose,
                # An index can answer these two; what is meant follows.
                starts_at >= earliest,
                starts_at <= latest,
                lasts,
                starts_at <= case((all_day, until_day), else_=until),
            )
            .limit(bindparam("most", type_=BigInteger))
        )

    whole = read(columns | published)
    return Source(
        kind,
        resource,
        read(columns).order_by(starts_at, c.id),
        whole.order_by(starts_at, c.id),
        whole.order_by(starts_at.desc(), c.id.desc()),
    )


def _passed(starts_at: ColumnElement[Any], all_day: ColumnElement[bool]) -> ColumnElement[bool]:
    return starts_at < case((all_day, TODAY), else_=func.now())


def _follow_ups() -> Source:
    starts_at, all_day = customer.next_follow_up_at, at_midnight(customer.next_follow_up_at)
    return _source(
        CalendarKind.FOLLOW_UP,
        resources.CUSTOMERS,
        starts_at=starts_at,
        all_day=all_day,
        user_id=customer.assigned_to,
        title=customer.name,
        customer_id=customer.id,
        status=case((_passed(starts_at, all_day), OVERDUE), else_=SCHEDULED),
    )


def _closings() -> Source:
    """When a deal is expected to be closed, or was."""
    # Not coalesce(): with row-level security, no index answers a condition on it.
    starts_at = case((deal.actual_close_date.is_(None), deal.expected_close_date), else_=deal.actual_close_date)
    all_day = at_midnight(starts_at)
    kind = select(stage.kind).where(stage.id == deal.stage_id).scalar_subquery()
    return _source(
        CalendarKind.CLOSING,
        resources.DEALS,
        starts_at=starts_at,
        all_day=all_day,
        user_id=deal.owner_id,
        title=deal.title,
        customer_id=deal.customer_id,
        status=case(
            (kind == literal_column("'won'"), COMPLETED),
            (kind == literal_column("'lost'"), CANCELLED),
            (_passed(starts_at, all_day), OVERDUE),
            else_=SCHEDULED,
        ),
    )


def _projects() -> Source:
    """When a project is due: for its owner, and for who works on it."""
    status, all_day = project.status, true()
    return _source(
        CalendarKind.PROJECT,
        resources.PROJECTS,
        starts_at=project.due_date,
        all_day=all_day,
        user_id=project.owner_id,
        whose=or_(cast(project.owner_id, Text) == any_(PEOPLE), cast(project.assignees, ARRAY(Text)).op("&&")(PEOPLE)),
        title=project.name,
        customer_id=project.customer_id,
        status=case(
            (status.in_([COMPLETED, CANCELLED]), status),
            (_passed(project.due_date, all_day), OVERDUE),
            else_=SCHEDULED,
        ),
    )


SOURCES = (
    _source(
        CalendarKind.ACTIVITY,
        resources.ACTIVITIES,
        starts_at=activity.due_date,
        all_day=activity.all_day,
        user_id=activity.assigned_to,
        title=activity.title,
        customer_id=activity.customer_id,
        status=STATUS,
        minutes=activity.duration,
        activity_type=activity.type,
        remind_at=activity.remind_at,
    ),
    _follow_ups(),
    _closings(),
    _projects(),
)

_since, _until = (
    case((entry.all_day, bindparam(f"{name}_day", type_=TIME)), else_=bindparam(name, type_=TIME))
    for name in ("since", "until")
)
# Times that are taken in connected calendars, besides those of activities.
BUSY: Select[Any] = (
    select(entry.starts_at, entry.ends_at, entry.all_day, entry.user_id)
    .where(
        entry.activity_id.is_(None),
        cast(entry.user_id, Text) == any_(PEOPLE),
        # An index can answer these two; what is meant follows.
        entry.starts_at >= bindparam("earliest", type_=TIME),
        entry.starts_at <= bindparam("latest", type_=TIME),
        or_(entry.starts_at >= _since, entry.ends_at > _since),
        entry.starts_at <= _until,
    )
    .order_by(entry.starts_at, entry.id)
    .limit(bindparam("most", type_=BigInteger))
)
