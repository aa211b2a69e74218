"""Notifications, and how a person wants to be told, as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, Struct, field

from app.admin.settings.schemas import check_timezone
from app.locales import Locale
from app.web.fields import TIME_OF_DAY, Refused
from app.web.paging import ListQuery
from app.web.structs import Body, Maybe, Time, View, ViewType

# A month.
MOST_MINUTES = 43_200


class NotificationKind(StrEnum):
    """What a notification is about."""

    ASSIGNED = "assigned"
    REMINDER = "reminder"
    OVERDUE = "overdue"
    MENTIONED = "mentioned"
    DEAL_MOVED = "deal_moved"
    IMPORT_FINISHED = "import_finished"
    JOB_FAILED = "job_failed"
    WEBHOOK_DISABLED = "webhook_disabled"
    ASSISTANT_FAILED = "assistant_failed"
    REPORT_READY = "report_ready"
    CONNECTION = "connection"


class NotificationSort(StrEnum):
    """Notifications have one order."""

    AT = "at"


class NotificationActor(Struct):
    """Who did it."""

    id: int | str
    name: str | None


class NotificationRecord(Struct):
    """What it is about. `title` is null for who may not see the record, or where it is in the trash or gone."""

    type: str
    id: int
    title: str | None


class Notification(View):
    """What the person who asks was told. `actor` is null where the service tells it by itself. `text` is in the
    person's language.
    """

    id: int
    kind: NotificationKind
    at: datetime
    read_at: datetime | None
    actor: NotificationActor | None
    record: NotificationRecord
    text: str


class NotificationQuery(ListQuery):
    """Filters of the list of one's notifications."""

    sort_by: Maybe[NotificationSort] = UNSET
    unread: Maybe[bool] = UNSET


class ReadUntil(Body):
    """Up to when all notifications are read."""

    until: Time


class ReadCount(Struct):
    """How many were not read before."""

    read: int


class Digest(StrEnum):
    """How often a person gets a mail with what is to be done."""

    NONE = "none"
    DAILY = "daily"
    WEEKLY = "weekly"


ClockTime = Annotated[
    str,
    Meta(
        pattern=TIME_OF_DAY,
        max_length=5,
        description="HH:MM, in the person's timezone",
        examples=["08:00"],
        extra={"choice": True},
    ),
]
Minutes = Annotated[
    int,
    Meta(
        ge=0,
        le=MOST_MINUTES,
        description="So many minutes before; what is due on a day, counts from the end of that day. Null is never",
        examples=[900],
    ),
]


class Channels(Struct):
    """Whether notifications of a kind are shown, and whether they are mailed."""

    in_app: bool
    email: bool


class ChannelsChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """The ways that are to change."""

    in_app: Maybe[bool] = UNSET
    email: Maybe[bool] = UNSET


class QuietHours(Struct):
    """From when until when no mail is sent, in the person's timezone."""

    from_: str = field(name="from")
    to: str


class QuietHoursChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """From when until when no mail is sent; over midnight, too."""

    from_: ClockTime = field(name="from")
    to: ClockTime


def check_quiet_hours(hours: QuietHoursChange) -> QuietHoursChange:
    """The hours as they are. Raises Refused where they have no length."""
    if hours.from_ == hours.to:
        raise Refused("must not begin and end at the same time")
    return hours


class Remind(Struct):
    """How many minutes before a follow-up, and before the closing of a deal, there is a reminder; null is never."""

    follow_ups: int | None
    closings: int | None


class RemindChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """The reminders that are to change."""

    follow_ups: Maybe[Minutes | None] = UNSET
    closings: Maybe[Minutes | None] = UNSET


class NotificationSettings(View):
    """How a person wants to be told. The timezone is the organization's unless the person has chosen one."""

    kinds: dict[NotificationKind, Channels]
    digest: Digest
    digest_at: str
    quiet_hours: QuietHours | None
    timezone: str
    locale: Locale
    remind: Remind


class NotificationSettingsChange(Body, kw_only=True):
    """The settings that can be written; of `kinds` and `remind` those that are named."""

    view: ClassVar[ViewType] = NotificationSettings

    digest: Maybe[Digest] = UNSET
    digest_at: Maybe[ClockTime] = UNSET
    quiet_hours: Maybe[Annotated[QuietHoursChange, Meta(extra={"check": check_quiet_hours})] | None] = UNSET
    timezone: Maybe[
        Annotated[str, Meta(examples=["Europe/Berlin"], extra={"check": check_timezone, "choice": True})] | None
    ] = UNSET
    locale: Maybe[Locale] = UNSET
    kinds: Maybe[dict[NotificationKind, ChannelsChange]] = UNSET
    remind: Maybe[RemindChange] = UNSET
