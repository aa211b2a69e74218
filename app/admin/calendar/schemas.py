"""Calendars as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, Struct, field

from app.admin.activities.schemas import ActivityStatus, ActivityType
from app.web.paging import SPECIAL_USERS
from app.web.structs import Body, From, Maybe, Until, View, ViewType
from app.web.text import NAME

MOST_DAYS = 92
MOST_PEOPLE = 50
MOST_ENTRIES = 5000

People = Annotated[
    list[Annotated[str, Meta(max_length=66)]],
    Meta(
        description=f"Whose: user ids, comma-separated, or `me`, at most {MOST_PEOPLE}. Left out it is `me`; others are"
        " for managers and admins",
        extra={"keep_quoted": SPECIAL_USERS},
    ),
]


class CalendarKind(StrEnum):
    """What an entry stands for."""

    ACTIVITY = "activity"
    FOLLOW_UP = "follow_up"
    CLOSING = "closing"
    PROJECT = "project"
    BUSY = "busy"


class CalendarRecord(Struct):
    """The record behind an entry."""

    type: str
    id: int


class CalendarCustomer(Struct):
    """The customer of an entry."""

    id: int
    name: str


class CalendarEntry(Struct):
    """Something at a time, or on a whole day. A whole day begins and ends at midnight UTC, whatever the timezone.
    `ends_at` is the moment after it, and equal to `starts_at` where nobody knows how long it takes. Of what a connected
    calendar has besides, it is only known that the person is `busy`: it has no title and no record.
    """

    kind: CalendarKind
    title: str
    starts_at: datetime
    ends_at: datetime
    all_day: bool
    status: ActivityStatus
    activity_type: ActivityType | None
    user_id: int | str | None
    record: CalendarRecord | None
    customer: CalendarCustomer | None


class CalendarQuery(Struct, kw_only=True):
    """A range of at most 92 days, and whose calendar."""

    from_: From = field(name="from")
    to: Until
    user_id: Maybe[People] = UNSET


class FeedPart(StrEnum):
    """What can be in a feed."""

    ACTIVITIES = "activities"
    FOLLOW_UPS = "follow_ups"
    CLOSINGS = "closings"
    PROJECTS = "projects"


class Feed(View):
    """A calendar of one's own that programs subscribe to. The address is shown once, when it is made: elsewhere it is
    null.
    """

    id: int
    name: str
    include: list[FeedPart]
    url: str | None
    created_at: datetime


FeedName = Annotated[str, Meta(max_length=255, **NAME, description="What programs call it", examples=["My work"])]


class FeedCreate(Body, kw_only=True):
    """A new feed: with everything unless it says what."""

    view: ClassVar[ViewType] = Feed

    name: FeedName
    include: Maybe[Annotated[list[FeedPart], Meta(min_length=1, max_length=len(FeedPart))]] = UNSET
