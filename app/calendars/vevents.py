"""What a CalDAV server keeps of an entry: an iCalendar text (RFC 5545) of one event, or of a series.

Such a text is edited line by line. So whatever else another program wrote into it stays as it is, also what no library
understands.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, timedelta
from threading import Lock
from typing import Any
from zoneinfo import ZoneInfo

from icalendar import Alarm, Calendar, Event, vText
from icalendar.timezone import tzp

from app.calendars.entries import (
    Draft,
    Entry,
    EntryStatus,
    Field,
    Times,
    Window,
    marked,
    read_description,
    read_title,
)
from app.calendars.ical import by_its_clocks, plain, vtimezone
from app.calendars.recurring import check_zones, is_series, occurrences
from app.calendars.texts import retitled
from app.web.email import fold_email

PRODUCT = "-//CRM service//Calendars//EN"
KEY = "X-CRM-KEY"
# That it is done, where a mark in the title would be told to others.
COMPLETED = "X-CRM-COMPLETED"
# Of one text. Some programs put attachments into it.
LARGEST = 1024 * 1024
MOST_ATTENDEES = 200
# What separates a series' id from its occurrence's. No name of a text ends with the latter.
SEPARATOR = "#"
# A text of ours says what the clocks show in the year of its entry and the next two: it may be moved there.
YEARS = 2
# What the library raises for a text that makes no sense.
NONSENSE = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError)
# One text is read after the other: the library has one place for the time zones of all.
ONE_AT_A_TIME = Lock()
LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r|$)(?:[ \t][^\r\n]*(?:\r\n|\n|\r|$))*")
FOLD = re.compile(rb"(?:\r\n|\n|\r)[ \t]")
# What each field is called in an event. `X-ALT-DESC` is the description once more, for programs that show HTML.
NAMES = {
    Field.TITLE: {"SUMMARY", COMPLETED},
    Field.COMPLETED: {"SUMMARY", COMPLETED},
    Field.DESCRIPTION: {"DESCRIPTION", "X-ALT-DESC"},
    Field.TIMES: {"DTSTART", "DTEND", "DURATION"},
    Field.BUSY: {"TRANSP"},
    Field.REMIND_AT: set(),
}
ALWAYS = {KEY, "SEQUENCE", "DTSTAMP", "LAST-MODIFIED"}


class Unreadable(Exception):
    """The text makes no sense, or is too large."""


def read(
    data: bytes, name: str, etag: str | None, window: Window, zone: ZoneInfo, mine: Collection[str]
) -> list[Entry]:
    """The entries of a text: its event, wherever it is, or its series' occurrences in the window. `mine` are the
    person's own addresses, folded. Raises Unreadable.
    """
    try:
        calendar = _parsed(data)
        if not is_series(calendar):
            return [_entry(event, name, etag, zone, mine) for event in calendar.events[:1]]
        found = []
        for occurrence, event in occurrences(calendar, window, zone):
            entry = _entry(event, f"{name}{SEPARATOR}{occurrence}", etag, zone, mine, series=name)
            if window.has(entry.times, name):
                found.append(entry)
    except NONSENSE as error:
        raise Unreadable(type(error).__name__) from None
    return found


def created(draft: Draft) -> bytes:
    """The text of a new entry."""
    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    event = Event()
    event.add("uid", draft.uid)
    event.add("status", "CONFIRMED")
    event.add("summary", marked(_line(draft.title), completed=draft.completed))
    _set_fields(event, draft, set(Field))
    if (zone := _zone_of(event)) is not None:
        calendar.add_component(vtimezone(zone, *_years(draft)))
    calendar.add_component(event)
    return bytes(calendar.to_ical())


def updated(data: bytes, draft: Draft, fields: Collection[Field], mine: Collection[str]) -> bytes:
    """The text with these fields of the draft. `mine` are the person's own addresses, folded. Raises Unreadable."""
    try:
        calendar = _parsed(data)
        if is_series(calendar):
            raise Unreadable("a series")
        (present,) = calendar.events
        event = Event()
        event.add("sequence", int(present.get("SEQUENCE", 0)) + 1)
        if not {Field.TITLE, Field.COMPLETED}.isdisjoint(fields):
            _set_title(event, present, draft, fields, mine)
        _set_fields(event, draft, fields)
        zone, zones = _zone_of(event), {str(each.get("TZID")) for each in calendar.timezones}
        added = [] if zone is None or zone.key in zones else [vtimezone(zone, *_years(draft))]
        names = ALWAYS.union(*(NAMES[each] for each in fields))
        alarm = _alarm_id(draft) if Field.REMIND_AT in fields else None
        return b"".join(_edited(data, event, names, alarm, b"".join(bytes(each.to_ical()) for each in added)))
    except NONSENSE as error:
        raise Unreadable(type(error).__name__) from None


def _parsed(data: bytes) -> Calendar:
    if len(data) > LARGEST:
        raise Unreadable("too large")
    with ONE_AT_A_TIME:
        # The library keeps the time zones of all texts by their names, and everybody calls theirs as they like.
        tzp.use_default()
        calendar = Calendar.from_ical(data)
    if not isinstance(calendar, Calendar):
        raise Unreadable("not a calendar")
    check_zones(calendar)
    return calendar


def _entry(
    event: Event, remote_id: str, etag: str | None, zone: ZoneInfo, mine: Collection[str], series: str | None = None
) -> Entry:
    title, completed = read_title(str(event.get("SUMMARY", "")))
    status = EntryStatus(str(event.get("STATUS", "")).lower()) if _has_status(event) else EntryStatus.CONFIRMED
    attendees = dict(_attendees(event))
    declined = any(attendees.get(address) == "DECLINED" for address in mine)
    return Entry(
        remote_id=remote_id,
        etag=etag,
        uid=str(event["UID"]),
        title=title,
        description=read_description(str(event.get("DESCRIPTION", ""))),
        times=_times(event, zone),
        status=status,
        busy=str(event.get("TRANSP", "")).upper() != "TRANSPARENT"
        and status is not EntryStatus.CANCELLED
        and not declined,
        completed=completed or COMPLETED in event,
        attendees=tuple(address for address in attendees if address not in mine),
        series=series,
        key=str(event[KEY]) if KEY in event and series is None else None,
    )


def _has_status(event: Event) -> bool:
    return str(event.get("STATUS", "")).lower() in set(EntryStatus)


def _times(event: Event, zone: ZoneInfo) -> Times:
    starts, ends = event.start, event.end
    if not isinstance(starts, datetime):
        return Times(_midnight(starts), max(_midnight(ends), _midnight(starts) + timedelta(days=1)), all_day=True)
    starts_at, ends_at = _moment(starts, zone), _moment(ends, zone)
    return Times(starts_at, max(starts_at, ends_at), all_day=False)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _moment(written: date, zone: ZoneInfo) -> datetime:
    if not isinstance(written, datetime):
        return _midnight(written)
    return (written if written.tzinfo else written.replace(tzinfo=zone)).astimezone(UTC)


def _attendees(event: Event) -> Iterator[tuple[str, str]]:
    """The addresses of who takes part or invites, folded, and what they answered."""
    given: list[Any] = []
    for name in ("ORGANIZER", "ATTENDEE"):
        value = event.get(name, [])
        given += value if isinstance(value, list) else [value]
    for each in given[:MOST_ATTENDEES]:
        # Some programs name a person by something else than an address, and put that beside it.
        address = str(each.params.get("EMAIL", "")) or str(each)
        address = address.removeprefix("mailto:").removeprefix("MAILTO:").strip()
        if "@" in address and len(address) <= 255:
            yield fold_email(address), str(each.params.get("PARTSTAT", "")).upper()


def _set_title(event: Event, present: Event, draft: Draft, fields: Collection[Field], mine: Collection[str]) -> None:
    """The title, and whether it is done: by a mark in it, or where others would see that, by a property of our own."""
    now = str(present.get("SUMMARY", ""))
    completed = draft.completed if Field.COMPLETED in fields else read_title(now)[1] or COMPLETED in present
    invited = any(address not in mine for address, _ in _attendees(present))
    title = _line(draft.title) if Field.TITLE in fields else None
    event.add("summary", retitled(now, title, completed=completed, invited=invited))
    if completed and invited:
        event.add(COMPLETED, vText("TRUE"))


def _set_fields(event: Event, draft: Draft, fields: Collection[Field]) -> None:
    """Add these fields of the draft to an event, except for its title."""
    now = datetime.now(UTC)
    event.add("dtstamp", now)
    event.add("last-modified", now)
    event.add(KEY, vText(draft.key))
    if Field.DESCRIPTION in fields and draft.description:
        event.add("description", plain(draft.description))
    if Field.TIMES in fields:
        _set_times(event, draft)
    if Field.BUSY in fields:
        event.add("transp", "OPAQUE" if draft.busy else "TRANSPARENT")
    if Field.REMIND_AT in fields and draft.remind_at is not None:
        alarm = Alarm()
        alarm.add("uid", _alarm_id(draft))
        alarm.add("action", "DISPLAY")
        alarm.add("description", _line(draft.title))
        alarm.add("trigger", draft.remind_at, parameters={"VALUE": "DATE-TIME"})
        event.add_component(alarm)


def _line(text: str) -> str:
    return plain(text).replace("\n", " ")


def _set_times(event: Event, draft: Draft) -> None:
    times = draft.times
    if times.all_day:
        event.add("dtstart", times.starts_at.date())
        event.add("dtend", times.ends_at.date())
        return
    starts_at, ends_at = by_its_clocks(ZoneInfo(draft.zone), times.starts_at, times.ends_at)
    event.add("dtstart", starts_at)
    if ends_at > starts_at:
        event.add("dtend", ends_at)


def _zone_of(event: Event) -> ZoneInfo | None:
    """The zone that the event's text needs a description of."""
    starts_at = event.start if "DTSTART" in event else None
    zone = starts_at.tzinfo if isinstance(starts_at, datetime) else None
    return zone if isinstance(zone, ZoneInfo) and zone.key != "UTC" else None


def _years(draft: Draft) -> tuple[date, date]:
    year = draft.times.starts_at.year
    return date(year, 1, 1), date(min(year + YEARS, date.max.year), 12, 30)


def _alarm_id(draft: Draft) -> str:
    return str(uuid.uuid5(uuid.UUID(draft.uid), "reminder"))


def _edited(data: bytes, event: Event, names: Collection[str], alarm: str | None, timezones: bytes) -> Iterator[bytes]:
    """The text's lines, with the event's properties in place of those with these names, with its alarms in place of
    the one with this id, and with these time zones.
    """
    properties, alarms = Event(), b"".join(bytes(each.to_ical()) for each in event.subcomponents)
    properties.update(event)
    inner = bytes(properties.to_ical()).removeprefix(b"BEGIN:VEVENT\r\n").removesuffix(b"END:VEVENT\r\n")
    inside: list[bytes] = []
    kept: list[bytes] = []
    for line in LINE.findall(data):
        name, value = _name_and_value(line)
        if name == b"BEGIN":
            inside.append(value.upper())
            if inside == [b"VCALENDAR", b"VEVENT"]:
                yield timezones + line + inner
                continue
            if inside[1:] == [b"VEVENT", b"VALARM"]:
                kept = []
        if inside[1:] == [b"VEVENT"] and name.decode("ascii", "replace") in names:
            continue
        if inside == [b"VCALENDAR", b"VEVENT"] and name == b"END":
            yield alarms
        if inside[1:3] == [b"VEVENT", b"VALARM"]:
            kept.append(line)
            if name == b"END" and len(inside) == 3:
                mine = alarm is not None and any(_name_and_value(each) == (b"UID", alarm.encode()) for each in kept)
                yield b"" if mine else b"".join(kept)
        else:
            yield line
        if name == b"END" and inside:
            inside.pop()


def _name_and_value(line: bytes) -> tuple[bytes, bytes]:
    """The name of a line, in capitals, and what follows its first colon."""
    whole = FOLD.sub(b"", line).rstrip(b"\r\n")
    name, _, value = whole.partition(b":")
    return name.partition(b";")[0].strip().upper(), value.strip()
