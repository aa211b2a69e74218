"""A random walk on both sides of a calendar on a real CalDAV server. `CRM_CALENDAR_STEPS=1000` makes it a long one."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import recurring_ical_events
from icalendar import Calendar, Event

from app.dev.calendar_server import CalendarServer
from app.settings import Settings
from tests.admin.calendar_walk import Seen, Walk
from tests.callers import Caller
from tests.peers.phone import Phone
from tests.peers.unreliable import Unreliable

pytestmark = pytest.mark.slow

STEPS = int(os.environ.get("CRM_CALENDAR_STEPS", "40"))
MARK = "✓ "
COMPLETED = "X-CRM-COMPLETED"
DAY = timedelta(days=1)
ALWAYS = datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
# A server whose clock is three months ahead: it takes each of its sync tokens for an old one.
AHEAD = """
import runpy, time
real = time.time
time.time = lambda: real() + 90 * 86400
runpy.run_module("radicale", run_name="__main__")
"""


class OnRadicale:
    """What a person does with a phone. It sees what there is by the server's own files."""

    def __init__(self, phone: Phone, folder: Path) -> None:
        self._phone = phone
        self._folder = folder

    def seen(self) -> dict[str, Seen]:
        found = {}
        for name, calendar in self._calendars().items():
            event = calendar.events[0]
            if "RRULE" not in event:
                found[name] = _seen(event)
                continue
            for occurrence in recurring_ical_events.of(calendar).between(*ALWAYS):
                assert isinstance(occurrence, Event)
                found[f"{name}#{occurrence.start:%Y%m%dT%H%M%S}"] = _seen(occurrence)
        return found

    def make(self, title: str, starts_at: datetime, minutes: int, attendee: str | None) -> None:
        event = Event()
        event.add("uid", str(uuid.uuid4()))
        event.add("dtstamp", datetime(2001, 1, 1, tzinfo=UTC))
        if attendee is not None:
            event.add("attendee", f"mailto:{attendee}")
        _apply(event, Seen(title, "", starts_at, minutes, all_day=False, completed=False))
        self._put(f"{event['UID']}.ics", _of(event))

    def change(self, remote_id: str, seen: Seen) -> None:
        calendar = self._calendars()[remote_id]
        _apply(calendar.events[0], seen)
        self._put(remote_id, calendar)

    def drop(self, remote_id: str) -> None:
        self._phone.delete(remote_id)

    def make_series(self, title: str, starts_at: datetime, minutes: int, attendee: str, count: int) -> None:
        self.make(title, starts_at, minutes, attendee)
        ((name, calendar),) = [
            (name, each) for name, each in self._calendars().items() if each.events[0]["SUMMARY"] == title
        ]
        calendar.events[0].add("rrule", {"FREQ": "WEEKLY", "COUNT": count})
        self._put(name, calendar)

    def shift_series(self, remote_id: str, by: timedelta) -> None:
        name = remote_id.partition("#")[0]
        calendar = self._calendars()[name]
        (event,) = calendar.events
        seen = _seen(event)
        event.pop("EXDATE", None)
        _apply(event, seen._replace(starts_at=seen.starts_at + by))
        self._put(name, calendar)

    def skip(self, remote_id: str) -> None:
        name, _, occurrence = remote_id.partition("#")
        calendar = self._calendars()[name]
        moment = datetime.strptime(occurrence, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        calendar.events[0].add("exdate", moment)
        self._put(name, calendar)

    def forget(self) -> None:
        shutil.rmtree(self._folder / ".Radicale.cache" / "sync-token", ignore_errors=True)

    def _calendars(self) -> dict[str, Calendar]:
        found = {}
        for file in self._folder.glob("*.ics"):
            calendar = Calendar.from_ical(file.read_bytes())
            assert isinstance(calendar, Calendar)
            found[file.name] = calendar
        return found

    def _put(self, name: str, calendar: Calendar) -> None:
        self._phone.put(name, calendar.to_ical().decode().replace("\r\n", "\n"))


def _of(event: Event) -> Calendar:
    calendar = Calendar()
    calendar.add("version", "2.0")
    calendar.add("prodid", "-//A phone//EN")
    calendar.add_component(event)
    return calendar


def _apply(event: Event, seen: Seen) -> None:
    # A phone does not show it; some other program of the person's takes it away.
    if not seen.completed:
        event.pop(COMPLETED, None)
    for name in ("SUMMARY", "DESCRIPTION", "DTSTART", "DTEND", "DURATION"):
        event.pop(name, None)
    event.add("summary", (MARK if seen.completed and COMPLETED not in event else "") + seen.title)
    if seen.description:
        event.add("description", seen.description)
    ends_at = seen.starts_at + timedelta(minutes=seen.minutes)
    event.add("dtstart", seen.starts_at.date() if seen.all_day else seen.starts_at)
    event.add("dtend", ends_at.date() if seen.all_day else ends_at)


def _seen(event: Event) -> Seen:
    title = str(event["SUMMARY"])
    starts, ends = _moment(event.start), _moment(event.end)
    return Seen(
        title.removeprefix(MARK),
        str(event.get("DESCRIPTION", "")),
        starts,
        (ends - starts) // timedelta(minutes=1),
        not isinstance(event.start, datetime),
        title.startswith(MARK) or COMPLETED in event,
    )


def _moment(written: date) -> datetime:
    if isinstance(written, datetime):
        return written.astimezone(UTC)
    return datetime(written.year, written.month, written.day, tzinfo=UTC)


@pytest.fixture
def server_ahead(tmp_path: Path) -> Iterator[CalendarServer]:
    server = CalendarServer(tmp_path, {"ada": "secret"})
    server.program = ("-c", AHEAD)
    with server:
        yield server


def test_after_a_walk_both_sides_are_equal_and_nothing_is_lost_or_there_twice(
    settings: Settings, agent: Caller, server_ahead: CalendarServer, tmp_path: Path
) -> None:
    url = server_ahead.make_calendar("ada", "work", "Work")
    phone = Phone(url, "ada", "secret")
    theirs = OnRadicale(phone, tmp_path / "calendars" / "collection-root" / "ada" / "work")
    with Unreliable(server_ahead.url).listening() as proxy:
        through = url.replace(server_ahead.url.rstrip("/"), proxy.url)
        given = {"url": through, "username": "ada", "password": "secret"}
        connection = agent.ok("POST", "/admin/me/connections/caldav", given)
        walk = Walk(settings, agent, theirs, proxy, connection["id"], seed=STEPS)
        walk.run(STEPS)
    phone.close()
    print(walk.done)  # noqa: T201 -- what was seen, for who runs the long one
