"""A feed as an iCalendar file (RFC 5545)."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from icalendar import Alarm, Calendar, Event, Timezone, TimezoneDaylight, TimezoneStandard, vText

from app.admin.calendar.queries import Published
from app.admin.calendar.schemas import CalendarKind
from app.admin.calendar.subscriptions import Content
from app.mail.texts import Say

PRODUCT = "-//CRM service//Calendar feed//EN"
REFRESH = timedelta(minutes=15)
# Uids are made of this and of what an entry stands for, so that they stay, and no other calendar has them.
NAMESPACE = uuid.UUID("b5f9dd0c-4f0a-5d3e-9a39-6c1f0b8a7e52")
# An entry can begin before the first day, and go on after the last.
MARGIN = timedelta(days=32)
NOTHING, SECOND, DAY = timedelta(), timedelta(seconds=1), timedelta(days=1)
BREAKS = re.compile(r"\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# iCalendar has no other control characters than tabs and line breaks.
CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
DONE = "✓ "
# What takes somebody's time: the rest is shown, and leaves them free.
BUSY = {"meeting", "call"}


def written(content: Content) -> bytes:
    """The file. It is the same for the same content."""
    zone = ZoneInfo(content.zone)
    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    # The library does not know these two as texts, and would escape nothing in them.
    name = vText(plain(content.name))
    calendar.add("name", name)
    # What programs read that know no RFC 7986.
    calendar.add("x-wr-calname", name)
    calendar.add("x-wr-timezone", content.zone)
    calendar.add("refresh-interval", REFRESH, parameters={"VALUE": "DURATION"})
    calendar.add("x-published-ttl", REFRESH, parameters={"VALUE": "DURATION"})
    first, last = content.first - MARGIN, content.last + MARGIN
    if zone.key != "UTC":
        calendar.add_component(_timezone(zone, first, last))
    for kind, entry in content.entries:
        calendar.add_component(_event(content, kind, entry, zone))
    return bytes(calendar.to_ical())


def uid_of(tenant_id: str, kind: CalendarKind, record_id: int) -> str:
    """The name of an entry in all calendars, whoever reads it."""
    return str(uuid.uuid5(NAMESPACE, f"{tenant_id}\0{kind}\0{record_id}"))


def plain(text: str) -> str:
    """Text without what iCalendar does not allow, or what would end a line for some readers."""
    return CONTROLS.sub("", BREAKS.sub("\n", text))


def _timezone(zone: ZoneInfo, first: date, last: date) -> Timezone:
    """What this zone's clocks show in these days. The library's own description leaves out changes that follow each
    other within weeks, such as those of Morocco.
    """
    timezone = Timezone()
    timezone.add("tzid", zone.key)
    moment = datetime(first.year, first.month, first.day, tzinfo=UTC)
    timezone.add_component(_observance(moment.astimezone(zone), moment.astimezone(zone)))
    while moment.date() < last:
        if moment.astimezone(zone).utcoffset() != (moment + DAY).astimezone(zone).utcoffset():
            change = _change(zone, moment, moment + DAY)
            timezone.add_component(_observance((change - SECOND).astimezone(zone), change.astimezone(zone)))
        moment += DAY
    return timezone


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The second between these two in which the clocks change."""
    old = before.astimezone(zone).utcoffset()
    while after - before > SECOND:
        between = before + (after - before) // 2 // SECOND * SECOND
        before, after = (between, after) if between.astimezone(zone).utcoffset() == old else (before, between)
    return after


def _observance(before: datetime, after: datetime) -> TimezoneDaylight | TimezoneStandard:
    """What the clocks show from a moment on, which was in this time before."""
    observance = TimezoneDaylight() if after.dst() else TimezoneStandard()
    observance.add("dtstart", (after.astimezone(UTC) + (before.utcoffset() or NOTHING)).replace(tzinfo=None))
    observance.add("tzoffsetfrom", before.utcoffset())
    observance.add("tzoffsetto", after.utcoffset())
    observance.add("tzname", after.tzname())
    return observance


def _event(content: Content, kind: CalendarKind, entry: Published, zone: ZoneInfo) -> Event:
    event = Event()
    event.add("uid", uid_of(content.tenant_id, kind, entry.id))
    event.add("sequence", entry.version)
    event.add("dtstamp", entry.updated_at)
    event.add("last-modified", entry.updated_at)
    event.add("created", entry.created_at)
    title = _title(content, kind, entry)
    event.add("summary", title)
    if entry.all_day:
        event.add("dtstart", entry.starts_at.date())
        event.add("dtend", entry.ends_at.date())
    else:
        starts_at, ends_at = _in_zone(content, zone, entry.starts_at, entry.ends_at)
        event.add("dtstart", starts_at)
        if ends_at > starts_at:
            event.add("dtend", ends_at)
    event.add("status", "CANCELLED" if entry.status == "cancelled" else "CONFIRMED")
    event.add("transp", "OPAQUE" if entry.activity_type in BUSY and not entry.all_day else "TRANSPARENT")
    about = [] if kind is CalendarKind.FOLLOW_UP else [entry.customer_name]
    if lines := [plain(text) for text in (*about, entry.description) if text]:
        event.add("description", "\n\n".join(lines))
    if entry.remind_at is not None and entry.status == "scheduled":
        alarm = Alarm()
        alarm.add("action", "DISPLAY")
        alarm.add("description", title)
        alarm.add("trigger", entry.remind_at, parameters={"VALUE": "DATE-TIME"})
        event.add_component(alarm)
    return event


def _title(content: Content, kind: CalendarKind, entry: Published) -> str:
    """One line: what it is, unless the title says it, and whether it is done."""
    said = "" if kind is CalendarKind.ACTIVITY else f"{Say(content.locale)(f'entry.{kind}')}: "
    done = DONE if entry.status == "completed" else ""
    return done + said + plain(entry.title).replace("\n", " ")


def _in_zone(content: Content, zone: ZoneInfo, *moments: datetime) -> tuple[datetime, ...]:
    """The moments by this zone's clocks; in UTC where these do not tell: an hour that comes twice means its first time,
    and the file's timezone ends some days after the last entry begins.
    """
    if max(moments).date() > content.last + timedelta(days=1):
        return moments
    local = tuple(moment.astimezone(zone) for moment in moments)
    return moments if any(moment.fold for moment in local) else local
