"""What a feed shows to whoever subscribes to it."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct
from sqlalchemy import Select, bindparam, select

from app.admin.calendar.feeds import Subscription
from app.admin.calendar.queries import SOURCES, Published
from app.admin.calendar.schemas import MOST_ENTRIES, CalendarKind, FeedPart
from app.admin.calendar.service import bounds
from app.locales import Locale
from app.models import NotificationSettings, TenantSettings
from app.records.calendar import day_of, lower_bound, upper_bound
from app.records.transaction import Transaction

DAYS_BACK, DAYS_AHEAD = 90, 400
KINDS = {
    FeedPart.ACTIVITIES: CalendarKind.ACTIVITY,
    FeedPart.FOLLOW_UPS: CalendarKind.FOLLOW_UP,
    FeedPart.CLOSINGS: CalendarKind.CLOSING,
    FeedPart.PROJECTS: CalendarKind.PROJECT,
}
person = NotificationSettings.__table__.c
SETTINGS: Select[Any] = select(TenantSettings.timezone, person.timezone, person.locale).join_from(
    TenantSettings, NotificationSettings, person.user_id == bindparam("user_id"), isouter=True
)
# It grows when the same entries are written in another way.
FORMAT = 1


class Content(Struct):
    """All that a feed's file is made of."""

    tenant_id: str
    name: str
    # The person's, or else the organization's: days are always the organization's.
    zone: str
    locale: Locale
    first: date
    last: date
    entries: list[tuple[CalendarKind, Published]]

    @property
    def tag(self) -> str:
        """It is another one whenever the file is."""
        return hashlib.sha256(msgspec.msgpack.encode((FORMAT, self))).hexdigest()[:32]


async def content(tx: Transaction, feed: Subscription) -> Content:
    """The entries of 90 days back and 400 ahead. Where there are too many, those that are next go before, and of those
    that are past, the latest.
    """
    days_of, zone, locale = (await tx.connection.execute(SETTINGS, {"user_id": feed.user_id})).one()
    days_zone = ZoneInfo(days_of)
    first, today, last = days(datetime.now(UTC), days_zone)
    yesterday = today - timedelta(days=1)
    kinds = {KINDS[FeedPart(part)] for part in feed.include}
    chosen: dict[tuple[CalendarKind, int], Published] = {}
    for since, until, order in (today, last, "ahead"), (first, yesterday, "back"):
        within = bounds(lower_bound(since.isoformat(), days_zone), upper_bound(until.isoformat(), days_zone))
        room = MOST_ENTRIES - len(chosen)
        found = [
            (source.kind, row)
            for source in SOURCES
            if source.kind in kinds
            for row in await tx.connection.fetch(
                getattr(source, order),
                {"people": [feed.user_id], "most": room, **within},
                lambda row: Published(*row),
                most=MOST_ENTRIES,
            )
        ]
        found.sort(key=lambda entry: entry[1].starts_at, reverse=order == "back")
        # What began before today and goes on is found twice.
        chosen |= {(kind, row.id): row for kind, row in found[:room]}
    for row in chosen.values():
        # That time has passed is no change of an entry.
        row.status = "scheduled" if row.status == "overdue" else row.status
    entries = [(kind, row) for (kind, _), row in chosen.items()]
    return Content(feed.tenant_id, feed.name, zone or days_of, Locale(locale or Locale.ENGLISH), first, last, entries)


def days(now: datetime, zone: ZoneInfo) -> tuple[date, date, date]:
    """The first day of a feed, today, and its last day."""
    today = day_of(now, zone)
    return today - timedelta(days=DAYS_BACK), today, today + timedelta(days=DAYS_AHEAD)
