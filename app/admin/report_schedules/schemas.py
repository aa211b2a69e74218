"""Schedules of reports as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, field

from app.admin.report_runs.schemas import ReportFormat, ReportName
from app.web.email import check_email
from app.web.fields import TIME_OF_DAY
from app.web.structs import Body, From, Maybe, Until, UserId, View, ViewType
from app.web.text import LINE, trimmed

MOST_RECIPIENTS = 50

ScheduleName = Annotated[str, Meta(max_length=255, **LINE, description="What you call it", examples=["Every Monday"])]
TimeOfDay = Annotated[
    str,
    Meta(
        pattern=TIME_OF_DAY,
        max_length=5,
        description="HH:MM, in the organization's timezone",
        examples=["07:30"],
        extra={"choice": True},
    ),
]
Weekday = Annotated[int, Meta(ge=1, le=7, description="1 is Monday; for `every: week`, which needs it", examples=[1])]
DayOfMonth = Annotated[
    int,
    Meta(ge=1, le=31, description="For `every: month`, which needs it; a short month's last day", examples=[31]),
]


def check_recipients(addresses: list[str]) -> list[str]:
    """Each address once, however it is written. Raises Refused."""
    return list({address.lower(): address for address in (check_email(trimmed(each)) for each in addresses)}.values())


Recipients = Annotated[
    list[Annotated[str, Meta(max_length=255, examples=["ada@example.com"], extra_json_schema={"format": "email"})]],
    Meta(
        max_length=MOST_RECIPIENTS,
        description="E-mail addresses of people of the organization",
        extra={"clean": trimmed, "check": check_recipients},
    ),
]


class Every(StrEnum):
    """How often a report is made."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class ReportSchedule(View):
    """A report that is made again and again, as the person who made the schedule. `last_run` is a job."""

    id: int
    name: str | None
    report: ReportName
    format: ReportFormat
    from_: str | None = field(name="from")
    to: str | None
    owner_id: int | str | None
    every: Every
    at: str
    weekday: int | None
    day: int | None
    recipients: list[str]
    user_id: int | str
    user_name: str | None
    next_run_at: datetime
    last_run: int | None
    created_at: datetime
    updated_at: datetime
    version: int


class ReportScheduleChange(Body, kw_only=True):
    """The fields of a schedule that can be written."""

    view: ClassVar[ViewType] = ReportSchedule

    name: Maybe[ScheduleName | None] = UNSET
    report: Maybe[ReportName] = UNSET
    format: Maybe[ReportFormat] = UNSET
    from_: Maybe[From | None] = field(default=UNSET, name="from")
    to: Maybe[Until | None] = UNSET
    owner_id: Maybe[UserId | None] = UNSET
    every: Maybe[Every] = UNSET
    at: Maybe[TimeOfDay] = UNSET
    weekday: Maybe[Weekday | None] = UNSET
    day: Maybe[DayOfMonth | None] = UNSET
    recipients: Maybe[Recipients] = UNSET


class ReportScheduleCreate(ReportScheduleChange, kw_only=True):
    """A new schedule."""

    report: ReportName
    format: ReportFormat
    every: Every
    at: TimeOfDay
