"""CalDAV: against a real Radicale, and against servers that answer what it never would."""

from __future__ import annotations

import base64
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from app.calendars.entries import Adapter, Changes, Draft, Entry, Field, Times, Window
from app.calendars.errors import (
    Away,
    CalendarError,
    Gone,
    Outdated,
    ReconnectNeeded,
    Refused,
    Throttled,
    TokenExpired,
)
from app.calendars.vevents import Unreadable, created, read, updated
from app.calendars.webdav import join
from app.dev.calendar_server import CalendarServer
from app.logs import log_config
from tests.peers.phone import Phone, of, served
from tests.peers.unreliable import Unreliable

UTC_ZONE = ZoneInfo("UTC")
NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
WINDOW = Window(NOW - timedelta(days=30), NOW + timedelta(days=400), NOW + timedelta(days=90))
MEETING = """
UID:meeting
DTSTART;TZID=Europe/Berlin:20260310T090000
DTEND;TZID=Europe/Berlin:20260310T100000
SUMMARY:Meet Marie
"""


def draft(**given: object) -> Draft:
    times = Times(NOW, NOW + timedelta(minutes=30), all_day=False)
    made = Draft(
        key="activity-1",
        uid=str(uuid.uuid4()),
        title="Call Ada",
        description="About the engine",
        times=times,
        zone="Europe/Berlin",
        busy=True,
        completed=False,
        remind_at=NOW - timedelta(minutes=10),
    )
    return replace(made, **given)


def everything(phone: Phone, zone: str = "Europe/Berlin") -> dict[str, Entry]:
    found = served(phone.url, lambda calendar: calendar.changes(None, WINDOW), zone=zone)
    assert found.complete
    return {entry.remote_id: entry for entry in found.entries}


def test_an_entry_is_written_changed_and_deleted_and_each_write_is_known_as_our_own(phone: Phone) -> None:
    async def life(calendar: Adapter) -> None:
        empty = await calendar.changes(None, WINDOW)
        made = await calendar.create(draft())
        assert (made.title, made.key, made.description) == ("Call Ada", "activity-1", "About the engine")
        after = await calendar.changes(empty.token, WINDOW)
        assert (after.entries, after.complete) == ((made,), False)
        changed = await calendar.update(made.remote_id, made.etag, draft(title="Call her", completed=True), list(Field))
        again = await calendar.changes(after.token, WINDOW)
        assert again.entries == (changed,)
        assert (changed.title, changed.completed) == ("Call her", True)
        assert await calendar.get(made.remote_id) == changed
        with pytest.raises(Outdated):
            await calendar.update(made.remote_id, made.etag, draft(), [Field.TITLE])
        with pytest.raises(Outdated):
            await calendar.delete(made.remote_id, made.etag)
        await calendar.delete(made.remote_id, changed.etag)
        await calendar.delete(made.remote_id, changed.etag)
        assert await calendar.get(made.remote_id) is None
        with pytest.raises(Gone):
            await calendar.update(made.remote_id, None, draft(), [Field.TITLE])
        last = await calendar.changes(again.token, WINDOW)
        assert (last.entries, set(last.removed)) == ((), {made.remote_id})
        assert last.without(made.remote_id, None)

    served(phone.url, life)


def test_a_creation_whose_answer_was_lost_is_not_done_twice(phone: Phone) -> None:
    async def twice(calendar: Adapter) -> None:
        made, before = draft(), await calendar.changes(None, WINDOW)
        await calendar.create(made)
        with pytest.raises(Outdated):
            await calendar.create(made)
        assert [each.key for each in (await calendar.changes(before.token, WINDOW)).entries] == [made.key]

    served(phone.url, twice)


def test_what_the_person_changes_while_it_is_written_is_not_written_over(
    calendar_server: CalendarServer, phone: Phone
) -> None:
    phone.put("m.ics", MEETING)
    with Unreliable(calendar_server.url).listening() as proxy:

        def change(number: int) -> None:
            if proxy.methods[number] == "PUT":
                phone.change("m.ics", "Meet Marie", "Meet Pierre")

        proxy.before = change
        url = phone.url.replace(calendar_server.url.rstrip("/"), proxy.url)
        with pytest.raises(Outdated):
            served(url, lambda calendar: calendar.update("m.ics", None, draft(), list(Field)))
    assert phone.event("m.ics")["SUMMARY"] == "Meet Pierre"


def test_a_calendar_is_found_by_its_address_and_by_that_of_the_account(
    calendar_server: CalendarServer, phone: Phone
) -> None:
    for url in (phone.url, phone.url.rstrip("/")):
        account = served(url, lambda calendar: calendar.check())
        assert (account.name, account.calendar, account.calendar_name) == (phone.username, phone.url, "Work")
    home = phone.url.rpartition("/c-")[0]
    for url in (calendar_server.url, f"{home}/", f"{calendar_server.url}nowhere"):
        account = served(url, lambda calendar: calendar.check())
        assert account.calendar.startswith(f"{home}/c-")
    with pytest.raises(ReconnectNeeded):
        served(phone.url, lambda calendar: calendar.check(), login=(phone.username, "wrong"))


def test_an_update_leaves_alone_what_others_wrote(phone: Phone) -> None:
    phone.put(
        "m.ics",
        MEETING
        + """LOCATION:Rue Cuvier
DESCRIPTION:Old
X-APPLE-STRUCTURED-LOCATION;VALUE=URI;X-TITLE="Rue, Cuvier":geo:48.8,2.3
X-ODD:a\\,b\\;c
ATTENDEE;PARTSTAT=ACCEPTED;CN="Curie; Marie":mailto:Marie@example.com
BEGIN:VALARM
UID:theirs
ACTION:AUDIO
TRIGGER:-PT15M
X-DEFAULT-ALARM:TRUE
END:VALARM""",
    )
    before = phone.text("m.ics").splitlines()
    (entry,) = everything(phone).values()
    moved = replace(entry.times, starts_at=NOW, ends_at=NOW + timedelta(hours=2))
    ours = draft(title="Something else", times=moved)

    async def write(calendar: Adapter) -> None:
        for fields in ([Field.TIMES], [Field.REMIND_AT], [Field.REMIND_AT, Field.COMPLETED]):
            await calendar.update("m.ics", None, replace(ours, completed=True), fields)

    served(phone.url, write)
    after = phone.text("m.ics").splitlines()
    # What changed, and what we always write.
    names = ("DTSTART", "DTEND", "DTSTAMP")
    assert {line for line in before if not line.startswith(names)} <= set(after)
    assert "DTSTART;TZID=Europe/Berlin:20260302T090000" in after
    assert "X-CRM-COMPLETED:TRUE" in after
    assert after.count("BEGIN:VALARM") == 2
    served(phone.url, lambda calendar: calendar.update("m.ics", None, replace(ours, remind_at=None), [Field.REMIND_AT]))
    assert phone.text("m.ics").count("BEGIN:VALARM") == 1
    assert "UID:theirs" in phone.text("m.ics")
    # Clocks for the time zone came with the times: there were none.
    assert "TZID:Europe/Berlin" in after


TIMES = {
    "Berlin": ("DTSTART;TZID=Europe/Berlin:20260310T090000\nDTEND;TZID=Europe/Berlin:20260310T100000", 8, 9),
    "after the clocks changed": ("DTSTART;TZID=Europe/Berlin:20260410T090000\nDURATION:PT2H", 7, 9),
    "a name of Windows'": ("DTSTART;TZID=W. Europe Standard Time:20260310T090000\nDURATION:PT1H", 8, 9),
    "UTC": ("DTSTART:20260310T090000Z\nDTEND:20260310T100000Z", 9, 10),
    "no time zone": ("DTSTART:20260310T090000\nDTEND:20260310T100000", 13, 14),
    "no end": ("DTSTART:20260310T090000Z", 9, 9),
}


@pytest.mark.parametrize("written", TIMES)
def test_times_go_by_the_clocks_of_their_time_zone(phone: Phone, written: str) -> None:
    lines, starts, ends = TIMES[written]
    phone.put("m.ics", f"UID:a\nSUMMARY:A\n{lines}")
    times = everything(phone, zone="America/New_York")["m.ics"].times
    assert (times.starts_at.hour, times.ends_at.hour, times.all_day) == (starts, ends, False)


def test_whole_days_are_days_whatever_the_time_zone(phone: Phone) -> None:
    phone.put("one.ics", "UID:a\nSUMMARY:A\nDTSTART;VALUE=DATE:20260310")
    phone.put("two.ics", "UID:b\nSUMMARY:B\nDTSTART;VALUE=DATE:20260310\nDTEND;VALUE=DATE:20260312")
    day = datetime(2026, 3, 10, tzinfo=UTC)
    found = everything(phone, zone="Asia/Tokyo")
    assert found["one.ics"].times == Times(day, day + timedelta(days=1), all_day=True)
    assert found["two.ics"].times == Times(day, day + timedelta(days=2), all_day=True)
    ours = draft(times=found["two.ics"].times)
    assert served(phone.url, lambda calendar: calendar.create(ours)).times == ours.times


def test_who_is_invited_is_not_told_that_it_is_done(phone: Phone) -> None:
    phone.put("m.ics", MEETING + "ATTENDEE:mailto:marie@example.com\nATTENDEE:mailto:ada@example.com")

    async def write(calendar: Adapter) -> None:
        done, fields = draft(title="Meet her", completed=True), [Field.COMPLETED]
        assert (await calendar.update("m.ics", None, done, fields)).completed
        assert phone.event("m.ics")["SUMMARY"] == "Meet Marie"
        renamed = await calendar.update("m.ics", None, replace(done, completed=False), [Field.TITLE])
        assert (renamed.title, renamed.completed) == ("Meet her", True)
        # A mark of the person's own is as good.
        phone.change("m.ics", "SUMMARY:", "SUMMARY:✓ ")
        phone.change("m.ics", "X-CRM-COMPLETED:TRUE\n", "")
        assert (await calendar.update("m.ics", None, replace(done, title="Met"), [Field.TITLE])).completed
        assert phone.event("m.ics")["SUMMARY"] == "✓ Met"
        assert not (await calendar.update("m.ics", None, replace(done, completed=False), fields)).completed
        assert phone.event("m.ics")["SUMMARY"] == "Met"

    served(phone.url, write)


def test_who_takes_part_is_known_by_address_without_the_person_itself(phone: Phone) -> None:
    people = "ORGANIZER;CN=Marie:mailto:MARIE@Example.com\nATTENDEE;EMAIL=pierre@example.com:urn:uuid:1"
    me = "ATTENDEE;PARTSTAT={}:mailto:Ada@example.com"
    phone.put("a.ics", MEETING + f"{people}\n{me.format('ACCEPTED')}\nATTENDEE:tel:+4930")
    phone.put("b.ics", MEETING.replace("UID:meeting", "UID:other") + f"{people}\n{me.format('DECLINED')}")
    entries = everything(phone)
    assert entries["a.ics"].attendees == ("marie@example.com", "pierre@example.com")
    assert (entries["a.ics"].busy, entries["b.ics"].busy) == (True, False)


WEEKLY = """
BEGIN:VEVENT
UID:weekly
DTSTAMP:20260101T000000Z
DTSTART;TZID=Europe/Berlin:20260302T090000
DTEND;TZID=Europe/Berlin:20260302T100000
RRULE:FREQ=WEEKLY
EXDATE;TZID=Europe/Berlin:20260309T090000
SUMMARY:Weekly
X-CRM-KEY:activity-1
END:VEVENT
BEGIN:VEVENT
UID:weekly
DTSTAMP:20260101T000000Z
RECURRENCE-ID;TZID=Europe/Berlin:20260316T090000
DTSTART;TZID=Europe/Berlin:20260317T140000
DTEND;TZID=Europe/Berlin:20260317T150000
SUMMARY:Moved
END:VEVENT
"""


def test_a_series_comes_as_the_occurrences_of_its_next_days(phone: Phone) -> None:
    phone.put("w.ics", WEEKLY)
    found = everything(phone)
    weeks = [NOW + timedelta(weeks=week) for week in range(13) if week != 1]
    # The clocks change on the 29th, and the occurrences with them.
    starts = [week if week < datetime(2026, 3, 29, tzinfo=UTC) else week - timedelta(hours=1) for week in weeks]
    assert set(found) == {f"w.ics#{start:%Y%m%dT%H%M%SZ}" for start in starts}
    moved = found["w.ics#20260316T080000Z"]
    assert (moved.title, moved.times.starts_at) == ("Moved", datetime(2026, 3, 17, 13, tzinfo=UTC))
    assert {(entry.series, entry.key) for entry in found.values()} == {("w.ics", None)}

    async def other(calendar: Adapter) -> Changes:
        assert await calendar.get(moved.remote_id) == moved
        with pytest.raises(Refused, match="only changed in its own calendar"):
            await calendar.delete(moved.remote_id, moved.etag)
        with pytest.raises(Refused, match="not understood"):
            await calendar.update("w.ics", None, draft(), [Field.TITLE])
        token = (await calendar.changes(None, WINDOW)).token
        phone.change("w.ics", "FREQ=WEEKLY", "FREQ=WEEKLY;COUNT=4")
        return await calendar.changes(token, WINDOW)

    changes = served(phone.url, other)
    gone = {remote_id for remote_id in found if changes.without(remote_id, "w.ics")}
    assert set(found) - gone == {f"w.ics#{start:%Y%m%dT%H%M%SZ}" for start in starts[:3]}


@pytest.mark.parametrize(
    "rule",
    [
        *("FREQ=SECONDLY", "FREQ=HOURLY;COUNT=9", "FREQ=DAILY;BYHOUR=1,2,3"),
        *("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;COUNT=1", "FREQ=NEVER"),
        *("FREQ=DAILY;INTERVAL=0", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=DAILY;INTERVAL=7;BYDAY=MO"),
    ],
)
def test_a_rule_that_takes_for_ever_takes_no_time(rule: str) -> None:
    text = of(f"UID:a\nSUMMARY:A\nDTSTART:20200101T090000Z\nRRULE:{rule}")
    began = time.process_time()
    try:
        found = read(text.encode(), "a.ics", None, WINDOW, UTC_ZONE, ())
    except Unreadable:
        found = []
    assert found == []
    # Of processor time; the library alone takes up to ten seconds.
    assert time.process_time() - began < 3


def zoned(rule: str, *, winter: str = "+0100", summer: str = "+0200") -> str:
    """A text whose time zone is its own, with clocks that change by such a rule."""
    halves = [("STANDARD", summer, winter), ("DAYLIGHT", winter, summer)]
    zone = "".join(
        f"BEGIN:{name}\r\nDTSTART:19700101T000000\r\nRRULE:{rule}\r\nTZOFFSETFROM:{before}\r\nTZOFFSETTO:{after}\r\n"
        f"END:{name}\r\n"
        for name, before, after in halves
    )
    event = of("UID:a\nSUMMARY:A\nDTSTART;TZID=Customized:20260310T090000\nDURATION:PT1H")
    return event.replace(
        "BEGIN:VEVENT", f"BEGIN:VTIMEZONE\r\nTZID:Customized\r\n{zone}END:VTIMEZONE\r\nBEGIN:VEVENT", 1
    )


ENDLESS = {
    **{
        f"clocks that change by {rule}": zoned(rule)
        for rule in ("FREQ=SECONDLY", "FREQ=DAILY", "FREQ=YEARLY;INTERVAL=0")
    },
    "clocks that never change": zoned("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"),
    "folded twice": zoned("FREQ=SECONDLY").replace("RRULE", "RR\n\n ULE"),
    "a day of the year 2": of("UID:a\nDTSTART:00020101T000000Z\nRRULE:FREQ=DAILY"),
    "centuries, each day": of("UID:a\nDTSTART:19700101T000000Z\nDTEND:22000101T000000Z\nRRULE:FREQ=DAILY"),
    "each second, named": of(
        "UID:a\nDTSTART:20260601T000000Z\nRDATE:"
        + ",".join(f"20260601T00{n // 60:02}{n % 60:02}Z" for n in range(3000))
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_text_that_would_take_for_ever_is_left_alone_at_once(name: str) -> None:
    began = time.process_time()
    with pytest.raises(Unreadable):
        read(ENDLESS[name].encode(), "a.ics", None, WINDOW, UTC_ZONE, ())
    assert time.process_time() - began < 3


def test_a_time_zone_of_a_texts_own_says_nothing_about_another_text() -> None:
    """Outlook calls any zone that was changed by hand the same, and the library keeps zones by name."""
    rules = "FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU"
    for hours, winter, summer in ((1, "+0100", "+0100"), (-5, "-0500", "-0500")):
        text = zoned(rules, winter=winter, summer=summer)
        (entry,) = read(text.encode(), "a.ics", None, WINDOW, UTC_ZONE, ())
        assert entry.times.starts_at.hour == 9 - hours


def test_what_a_server_forgot_is_read_anew(phone: Phone) -> None:
    phone.put("m.ics", MEETING)

    async def forgotten(calendar: Adapter) -> Changes:
        with pytest.raises(TokenExpired):
            await calendar.changes("sync:http://radicale.org/ns/sync/" + "0" * 64, WINDOW)
        return await calendar.changes(None, WINDOW)

    assert [entry.title for entry in served(phone.url, forgotten).entries] == ["Meet Marie"]


@given(
    title=st.text(max_size=300),
    description=st.text(max_size=50),
    completed=st.booleans(),
    minutes=st.integers(0, 3000),
    starts=st.integers(0, 3 * 366 * 24 * 60),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Africa/Casablanca", "Asia/Kathmandu"]),
    all_day=st.booleans(),
)
def test_what_is_written_is_what_is_read(
    title: str, description: str, completed: bool, minutes: int, starts: int, zone: str, all_day: bool
) -> None:
    starts_at = NOW + timedelta(minutes=starts)
    if all_day:
        starts_at = starts_at.replace(hour=0)
        starts_at, minutes = starts_at.replace(minute=0), 24 * 60 * (1 + minutes // 1000)
    times = Times(starts_at, starts_at + timedelta(minutes=minutes), all_day)
    ours = draft(title=title, description=description, completed=completed, zone=zone, times=times)
    (entry,) = read(created(ours), "a.ics", None, WINDOW, UTC_ZONE, ())
    assert (entry.times, entry.key, entry.uid) == (times, ours.key, ours.uid)
    # What is read is as a record can store it, and from then on stays the same.
    again = replace(ours, title=entry.title, description=entry.description, completed=entry.completed)
    (same,) = read(updated(created(ours), again, list(Field), ()), "a.ics", None, WINDOW, UTC_ZONE, ())
    assert same == entry
    if not title.lstrip().startswith("✓"):
        assert entry.completed == completed


class Reply(NamedTuple):
    """An answer of a server that is told what to say."""

    content: str = ""
    status: int = 207
    headers: dict[str, str] = {}  # noqa: RUF012 -- never changed


Replies = dict[str, Reply | list[Reply]]


@contextmanager
def server(replies: Replies) -> Iterator[str]:
    """A server that answers by method and path; of a list, one answer after the other."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            reply = replies.get(f"{self.command} {self.path}", Reply(status=404))
            if isinstance(reply, list):
                reply = reply.pop(0)
            content = reply.content.encode()
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(content)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_PROPFIND = do_REPORT = do_GET = do_PUT = do_DELETE = answer  # noqa: N815 -- the library's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}/c/"
        finally:
            listening.shutdown()


def many(*responses: str, token: str = "") -> Reply:
    spaces = 'xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav" xmlns:S="http://calendarserver.org/ns/"'
    after = f"<sync-token>{token}</sync-token>" if token else ""
    return Reply(f"<multistatus {spaces}>{''.join(responses)}{after}</multistatus>")


def about(href: str, properties: str) -> str:
    status = "<status>HTTP/1.1 200 OK</status>"
    return f"<response><href>{href}</href><propstat><prop>{properties}</prop>{status}</propstat></response>"


def of_status(href: str, status: str) -> str:
    return f"<response><href>{href}</href><status>HTTP/1.1 {status}</status></response>"


def text(name: str, title: str = "A") -> str:
    event = of(f"UID:{name}\nSUMMARY:{title}\nDTSTART:20260310T090000Z")
    return about(f"/c/{name}", f'<getetag>"1"</getetag><C:calendar-data>{event}</C:calendar-data>')


def test_a_server_that_knows_only_whether_something_changed_is_read_whole_then() -> None:
    listed = many(about("/c/a.ics", '<getetag>"1"</getetag>'))
    replies: Replies = {
        "PROPFIND /c/": [many(about("/c/", f"<S:getctag>{ctag}</S:getctag>")) for ctag in ("1", "1", "2")],
        "REPORT /c/": [listed, many(text("a.ics")), listed, many(text("a.ics", "B"))],
    }

    async def work(calendar: Adapter) -> None:
        first = await calendar.changes(None, WINDOW)
        same = await calendar.changes(first.token, WINDOW)
        other = await calendar.changes(same.token, WINDOW)
        assert [each.complete for each in (first, same, other)] == [True, False, True]
        assert [[entry.title for entry in each.entries] for each in (first, same, other)] == [["A"], [], ["B"]]

    with server(replies) as url:
        served(url, work)


def test_a_difference_in_parts_is_put_together() -> None:
    etag = '<getetag>"1"</getetag>'
    parts = [
        many(about("/c/a.ics", etag), about("/c/b.ics", etag), of_status("/c/", "507 No"), token="2"),
        many(of_status("/c/b.ics", "404 Gone"), about("/c/d%2f.ics", etag), about("/c/", etag), token="3"),
        many(text("a.ics"), of_status("/c/d%2f.ics", "404 Gone")),
    ]
    with server({"REPORT /c/": parts}) as url:
        changes = served(url, lambda calendar: calendar.changes("sync:1", WINDOW))
    assert [entry.remote_id for entry in changes.entries] == ["a.ics"]
    assert (set(changes.removed), changes.token) == ({"b.ics"}, "sync:3")


def test_a_person_has_the_calendar_that_the_server_calls_the_default() -> None:
    kind = "<resourcetype><collection/><C:calendar/></resourcetype>"
    tasks = '<C:supported-calendar-component-set><C:comp name="VTODO"/></C:supported-calendar-component-set>'
    reading = "<current-user-privilege-set><privilege><read/></privilege></current-user-privilege-set>"
    home = "<C:calendar-home-set><href>/h/</href></C:calendar-home-set>"
    inbox = "<C:schedule-inbox-URL><href>/i/</href></C:schedule-inbox-URL>"
    default = "<C:schedule-default-calendar-URL><href>/h/default</href></C:schedule-default-calendar-URL>"
    calendars = [
        *(about("/h/", "<resourcetype><collection/></resourcetype>"), about("/h/todo/", kind + tasks)),
        *(about("/h/read/", kind + reading), about("/h/first/", kind), about("/h/default/", kind)),
    ]
    replies: Replies = {
        "PROPFIND /c/": Reply(status=405),
        "PROPFIND /.well-known/caldav": Reply(status=301, headers={"Location": "/dav/"}),
        "PROPFIND /dav/": many(about("/dav/", "<current-user-principal><href>/p/</href></current-user-principal>")),
        "PROPFIND /p/": many(about("/p/", home + inbox)),
        "PROPFIND /h/": many(*calendars),
        "PROPFIND /i/": many(about("/i/", default)),
    }
    with server(replies) as url:
        assert served(url, lambda calendar: calendar.check()).calendar == url.replace("/c/", "/h/default/")
        replies["PROPFIND /i/"] = Reply(status=403)
        assert served(url, lambda calendar: calendar.check()).calendar == url.replace("/c/", "/h/first/")
        replies["PROPFIND /c/"] = many(about("/c/", kind + reading))
        with pytest.raises(Refused, match="can't be written"):
            served(url, lambda calendar: calendar.check())


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><multistatus xmlns="DAV:">&b;</multistatus>'
SOON = {"Retry-After": "120"}
FAILURES: dict[str, tuple[Reply, type[CalendarError]]] = {
    "entities": (Reply(BOMB), Away),
    "no XML": (Reply("<html>"), Away),
    "a page": (Reply("<html></html>", 200), Refused),
    "wrong password": (Reply(status=401), ReconnectNeeded),
    "no right": (Reply(status=403), Refused),
    "gone": (Reply(status=410), Gone),
    "too often": (Reply(status=429, headers=SOON), Throttled),
    "upkeep": (Reply(status=503, headers=SOON), Throttled),
    "broken": (Reply(status=500), Away),
    "elsewhere for ever": (Reply(status=302, headers={"Location": "/c/"}), Refused),
    "too large": (Reply("a" * (17 * 1024 * 1024)), Refused),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_what_a_server_answers_has_one_meaning(failure: str) -> None:
    reply, error = FAILURES[failure]
    with server({"PROPFIND /c/": reply}) as url, pytest.raises(error) as raised:
        served(url, lambda calendar: calendar.changes(None, WINDOW))
    assert "secret" not in str(raised.value)
    if isinstance(raised.value, Throttled):
        assert raised.value.seconds == 120


def test_an_address_that_is_not_public_is_not_called() -> None:
    with pytest.raises(Away, match="not public"):
        served("http://10.0.0.1/", lambda calendar: calendar.changes(None, WINDOW))
    replies: Replies = {"PROPFIND /c/": Reply(status=301, headers={"Location": "http://10.0.0.1/"})}
    with server(replies) as url, pytest.raises(Away, match="not public"):
        served(url, lambda calendar: calendar.changes(None, WINDOW))


def test_no_log_tells_where_a_calendar_is_nor_what_lets_in(
    phone: Phone, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    for name, logger in log_config("debug", "json")["loggers"].items():
        monkeypatch.setattr(logging.getLogger(name), "level", logging.getLevelNamesMapping()[logger["level"]])
    phone.put("m.ics", MEETING)
    caplog.clear()
    everything(phone)
    login = base64.b64encode(f"{phone.username}:{phone.password}".encode()).decode()
    for secret in (phone.url, phone.password, login, "Meet Marie"):
        assert secret not in caplog.text


def test_a_password_never_leaves_https() -> None:
    assert join("https://a.example/c/", "http://a.example/d/") == "https://a.example/d/"
    assert join("https://a.example/c/", "//b.example/d/") == "https://b.example/d/"
    assert join("https://a.example/c/", "file:///etc/passwd") is None


def test_one_entry_that_is_not_understood_or_too_large_stops_no_other() -> None:
    etag = '<getetag>"1"</getetag>'
    names = ["a.ics", "broken.ics", "large.ics"]
    listed, large = many(*(about(f"/c/{name}", etag) for name in names)), Reply("a" * (17 * 1024 * 1024))
    broken = about("/c/broken.ics", f"{etag}<C:calendar-data>BEGIN:VEVENT</C:calendar-data>")
    replies: Replies = {
        "PROPFIND /c/": many(about("/c/", "<sync-token>1</sync-token>")),
        "REPORT /c/": [listed, large, many(text("a.ics")), large, many(broken), large],
        "GET /c/broken.ics": Reply("BEGIN:VEVENT", 200),
    }
    with server(replies) as url:
        found = served(url, lambda calendar: calendar.changes(None, WINDOW))
        assert [entry.remote_id for entry in found.entries] == ["a.ics"]
        with pytest.raises(Refused, match="not understood"):
            served(url, lambda calendar: calendar.get("broken.ics"))
