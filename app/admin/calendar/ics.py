"""A feed as an iCalendar file (RFC 5545)."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from icalendar import Alarm, Calendar, Event, vText

from app.admin.calendar.queries import Published
from app.admin.calendar.schemas import CalendarKind
from app.admin.calendar.subscriptions import Content
from app.calendars.entries import marked
from app.calendars.ical import by_its_clocks, plain, vtimezone
from app.mail.texts import Say

PRODUCT = "-//CRM service//Calendar feed//EN"
REFRESH = timedelta(minutes=15)
# Uids are made of this and of what an entry stands for, so that they stay, and no other calendar has them.
NAMESPACE = uuid.UUID("b5f9dd0c-4f0a-5d3e-9a39-6c1f0b8a7e52")
# An entry can begin before the first day, and go on after the last.
MARGIN = timedelta(days=32)
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
        calendar.add_component(vtimezone(zone, first, last))
    for kind, entry in content.entries:
        calendar.add_component(_event(content, kind, entry, zone))
    return bytes(calendar.to_ical())


def uid_of(tenant_id: str, kind: CalendarKind, record_id: int) -> str:
    """The name of an entry in all calendars, whoever reads it."""
    return str(uuid.uuid5(NAMESPACE, f"{tenant_id}\0{kind}\0{record_id}"))


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
    return marked(said + plain(entry.title).replace("\n", " "), completed=entry.status == "completed")


def _in_zone(content: Content, zone: ZoneInfo, *moments: datetime) -> tuple[datetime, ...]:
    """The moments by this zone's clocks; in UTC after these end: some days after the last entry begins."""
    if max(moments).date() > content.last + timedelta(days=1):
        return moments
    return by_its_clocks(zone, *moments)
