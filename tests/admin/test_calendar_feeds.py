"""Feeds of calendars: read by two libraries that have nothing to do with the one that writes them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import httpx
import psycopg
import pytest
from dateutil.tz import tzical
from ical.calendar_stream import IcsCalendarStream
from icalendar import Calendar
from litestar import Litestar
from litestar.testing import TestClient
from vobject.base import readOne

from app.admin.calendar import feeds, subscriptions
from app.admin.calendar.ics import written
from app.admin.calendar.queries import Published
from app.admin.calendar.schemas import CalendarKind
from app.admin.calendar.subscriptions import Content
from app.locales import Locale
from app.settings import Settings
from tests.admin.test_calendar import plan
from tests.callers import Caller, Callers, refused

FEEDS = "/admin/me/calendar/feeds"
HOUR = timedelta(hours=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


class Read(NamedTuple):
    """An entry as a reader understands it; a whole day has dates, and everything else is in UTC."""

    uid: str
    title: str
    starts: date
    ends: date
    sequence: int
    status: str
    description: str | None


def day(days: int) -> str:
    return f"{(TODAY + timedelta(days=days)).date()}"


def moment(days: float) -> str:
    return f"{TODAY + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


def subscribe(caller: Caller, **fields: Any) -> str:
    url: str = caller.ok("POST", FEEDS, {"name": "My work", **fields})["url"]
    return urlsplit(url).path


def fetch(client: TestClient[Litestar], path: str, **headers: str) -> httpx.Response:
    """Without a token."""
    return client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def entries(client: TestClient[Litestar], path: str) -> dict[str, Read]:
    """The entries of a feed by title; both readers found the same."""
    response = fetch(client, path)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "text/calendar; charset=utf-8"
    return readings(response.content)


def readings(file: bytes) -> dict[str, Read]:
    assert all(len(line) <= 75 and not set(line) & {*range(9), *range(10, 32)} for line in file.split(b"\r\n"))
    first, second = (sorted(read(file.decode())) for read in (by_vobject, by_ical))
    assert first == second
    assert len({entry.uid for entry in first}) == len(first)
    return {entry.title: entry for entry in first}


def by_vobject(file: str) -> Iterator[Read]:
    for event in getattr(readOne(file), "vevent_list", []):  # type: ignore[no-untyped-call]  # the library says no types
        text = {name: getattr(event, name).value for name in ("uid", "summary", "sequence", "status")}
        starts = event.dtstart.value
        ends = event.dtend.value if hasattr(event, "dtend") else starts
        description = event.description.value if hasattr(event, "description") else None
        times = in_utc(starts), in_utc(ends)
        yield Read(text["uid"], text["summary"], *times, int(text["sequence"]), text["status"], description)


def by_ical(file: str) -> Iterator[Read]:
    for event in IcsCalendarStream.calendar_from_ics(file).events:
        assert event.uid
        assert event.summary
        assert event.dtstart
        assert event.status
        assert event.sequence
        times = in_utc(event.dtstart), in_utc(event.dtend or event.dtstart)
        yield Read(event.uid, event.summary, *times, event.sequence, event.status.value, event.description or None)


def in_utc(value: date) -> date:
    return value.astimezone(UTC).replace(tzinfo=UTC) if isinstance(value, datetime) else value


def test_a_feed_shows_what_its_person_has_to_do(agent: Caller, callers: Callers) -> None:
    customer = agent.customer("Ada", next_follow_up_at=day(2))
    visit = plan(agent, "Visit", moment(3.5), duration=45, customer_id=customer["id"], description="Bring cogs")
    plan(agent, "Write", day(5), type="task")
    deal = {"title": "Engine", "customer_id": customer["id"], "expected_close_date": moment(6.25)}
    agent.ok("POST", "/admin/deals", deal)
    plan(callers.person("agent", agent.tenant), "Somebody else's", moment(3))
    path = subscribe(agent)
    shown = entries(agent.client, path)
    assert list(shown) == sorted(["Follow-up: Ada", "Visit", "Write", "Closing: Engine"], key=lambda t: shown[t].uid)
    met = shown["Visit"]
    assert (met.starts, met.ends) == (TODAY + timedelta(days=3.5), TODAY + timedelta(days=3.5, minutes=45))
    assert met.description == "Ada\n\nBring cogs"
    tomorrow = TODAY.date() + timedelta(days=1)
    assert shown["Follow-up: Ada"][2:4] == (tomorrow + timedelta(days=1), tomorrow + timedelta(days=2))
    assert shown["Closing: Engine"].starts == shown["Closing: Engine"].ends == TODAY + timedelta(days=6.25)
    # It moves, is called off, and keeps its name.
    agent.ok("PATCH", f"/admin/activities/{visit['id']}", {"due_date": moment(4)})
    agent.ok("PATCH", f"/admin/activities/{visit['id']}", {"status": "cancelled"})
    moved = entries(agent.client, path)["Visit"]
    assert moved.uid == met.uid
    assert (moved.sequence, moved.status, moved.starts) == (3, "CANCELLED", TODAY + timedelta(days=4))
    assert "VTIMEZONE" not in fetch(agent.client, path).text


STRANGE = [
    "Semi; colon, comma \\ backslash \\n not a break",
    "Quotes \" ' and : = & <b>",
    "BEGIN:VEVENT",
    "Ünïcödé 日本語 العربية 👩‍👩‍👧 " * 8,
    "x" * 255,
    "😀" * 200,
    "soft\u00adhyphen and \u202eturned around",
]


def test_strange_titles_and_texts_are_read_as_they_were_typed(agent: Caller) -> None:
    text = "One\r\nTwo\rThree\vFour\u2028Five\x85Six\tSeven;,\\ \x07\x1b[0m END:VEVENT\nEND:VCALENDAR"
    for number, title in enumerate(STRANGE):
        plan(agent, title, moment(number + 1), description=text)
    path = subscribe(agent, name="A;,\\ name")
    content = fetch(agent.client, path).text
    assert {r"NAME:A\;\,\\ name", r"X-WR-CALNAME:A\;\,\\ name"} <= set(content.splitlines())
    shown = entries(agent.client, path)
    assert {entry.title for entry in shown.values()} == {title.strip() for title in STRANGE}
    lines = {entry.description for entry in shown.values()}
    assert lines == {"One\nTwo\nThree\nFour\nFive\nSix\tSeven;,\\ [0m END:VEVENT\nEND:VCALENDAR"}


def lasting(number: int, starts: datetime) -> tuple[CalendarKind, Published]:
    entry = Published(
        id=number,
        starts_at=starts,
        ends_at=starts + HOUR,
        all_day=False,
        status="scheduled",
        user_id="me",
        title=starts.isoformat(),
        activity_type="meeting",
        customer_id=None,
        customer_name=None,
        version=1,
        created_at=starts,
        updated_at=starts,
        description=None,
        remind_at=None,
    )
    return CalendarKind.ACTIVITY, entry


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("Europe/Berlin", "2027-03-28T01:00:00Z"),
        ("Europe/Berlin", "2026-10-25T01:00:00Z"),
        ("America/New_York", "2026-11-01T06:00:00Z"),
        ("Australia/Lord_Howe", "2027-04-03T15:00:00Z"),  # by half an hour
        ("Africa/Casablanca", "2027-02-07T02:00:00Z"),  # and back five weeks later
        ("Pacific/Kiritimati", "2026-10-25T01:00:00Z"),
    ],
)
def test_times_stay_the_same_when_clocks_change(zone: str, change: str) -> None:
    around = datetime.fromisoformat(change)
    moments = [around + hours * HOUR / 2 for hours in range(-8, 9)] + [
        around + timedelta(days=days) for days in (-30, 30)
    ]
    content = Content(
        tenant_id="t",
        name="My work",
        zone=zone,
        locale=Locale.ENGLISH,
        first=date(2026, 9, 1),
        last=date(2027, 12, 31),
        entries=[lasting(number, starts) for number, starts in enumerate(moments)],
    )
    file = written(content)
    shown = readings(file)
    assert {(entry.starts, entry.ends) for entry in shown.values()} == {(starts, starts + HOUR) for starts in moments}
    assert all(datetime.fromisoformat(title) == entry.starts for title, entry in shown.items())
    # A reader that knows no timezones has the one in the file.
    own = tzical(io.StringIO(file.decode())).get()  # type: ignore[no-untyped-call]  # as above
    known = ZoneInfo(zone)
    for starts in moments:
        local = starts.astimezone(known).replace(tzinfo=None)
        if not starts.astimezone(known).fold:
            assert local.replace(tzinfo=own).astimezone(UTC) == starts


def test_the_organizations_timezone_is_in_it_and_whole_days_stay_whole(admin: Caller) -> None:
    admin.ok("PUT", "/admin/settings", {"timezone": "America/New_York"})
    plan(admin, "Late", moment(3.125))
    plan(admin, "Whole", day(4))
    path = subscribe(admin)
    text = fetch(admin.client, path).text
    assert text.count("BEGIN:VTIMEZONE") == 1
    assert "DTSTART;TZID=America/New_York:" in text
    shown = entries(admin.client, path)
    assert shown["Late"].starts == TODAY + timedelta(days=3.125)
    assert shown["Whole"].starts == TODAY.date() + timedelta(days=4)
    admin.ok("PUT", "/admin/settings", {"timezone": "Asia/Tokyo"})
    again = entries(admin.client, path)
    assert again == shown


def test_a_person_reads_it_in_their_own_timezone_and_language(agent: Caller, settings: Settings) -> None:
    customer = agent.customer("Ada", next_follow_up_at=day(2))
    deal = {"title": "Engine", "customer_id": customer["id"], "expected_close_date": moment(4.5)}
    deal = agent.ok("POST", "/admin/deals", deal)
    agent.ok("POST", "/admin/projects", {"name": "Mill", "due_date": day(6)})
    agent.ok("PATCH", f"/admin/deals/{deal['id']}", {"stage": "closed_won", "amount": 5})
    path = subscribe(agent)
    titles = {
        "en": {"Follow-up: Ada", "✓ Closing: Engine", "Project due: Mill"},
        "de": {"Wiedervorlage: Ada", "✓ Abschluss: Engine", "Projekt fällig: Mill"},
        "ar": {"متابعة: Ada", "✓ إغلاق صفقة: Engine", "موعد مشروع: Mill"},
    }
    for locale, expected in titles.items():
        with psycopg.connect(settings.migration_dsn) as owner:
            owner.execute("SELECT set_config('crm.tenant', %s, false)", [agent.tenant])
            change = "UPDATE notification_settings SET locale = %s, timezone = 'Asia/Tokyo' WHERE user_id = %s"
            owner.execute(change, [locale, agent.user_id])
        assert entries(agent.client, path).keys() == expected
        assert "X-WR-TIMEZONE:Asia/Tokyo" in fetch(agent.client, path).text


def test_what_one_wants_to_be_reminded_of_has_an_alarm(agent: Caller) -> None:
    visit = plan(agent, "Visit; them", moment(3), remind_at=moment(2.75))
    plan(agent, "Call", moment(3), type="call")
    path = subscribe(agent)
    entries(agent.client, path)
    events = {str(event["summary"]): event for event in Calendar.from_ical(fetch(agent.client, path).content).events}
    assert events["Call"].subcomponents == []
    (alarm,) = events["Visit; them"].subcomponents
    assert (alarm["action"], alarm["description"]) == ("DISPLAY", "Visit; them")
    assert alarm.decoded("trigger") == TODAY + timedelta(days=2.75)
    # Without it, a trigger is a duration.
    assert alarm["trigger"].params["VALUE"] == "DATE-TIME"
    agent.ok("PATCH", f"/admin/activities/{visit['id']}", {"status": "completed"})
    assert "VALARM" not in fetch(agent.client, path).text
    assert "✓ Visit; them" in entries(agent.client, path)


def test_what_is_not_new_is_not_sent_again(agent: Caller, admin: Caller) -> None:
    visit = plan(agent, "Visit", moment(3))
    path = subscribe(agent)
    first = fetch(agent.client, path)
    tag = first.headers["ETag"]
    assert fetch(agent.client, path).content == first.content
    for known in (tag, f'W/{tag}, "other"', "*"):
        same = fetch(agent.client, path, If_None_Match=known)
        assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
    assert fetch(agent.client, path, If_None_Match='"other"').status_code == 200
    head = agent.client.head(path)
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", tag)
    assert head.headers["Content-Length"] == str(len(first.content))
    agent.ok("PATCH", f"/admin/activities/{visit['id']}", {"title": "Visit them"})
    changed = fetch(agent.client, path, If_None_Match=tag)
    assert changed.status_code == 200
    admin.ok("PUT", "/admin/settings", {"timezone": "Asia/Tokyo"})
    assert fetch(agent.client, path, If_None_Match=changed.headers["ETag"]).status_code == 200


def test_a_feed_has_what_its_person_chose(agent: Caller) -> None:
    customer = agent.customer("Ada", next_follow_up_at=day(2))
    plan(agent, "Visit", moment(3))
    deal = {"title": "Engine", "customer_id": customer["id"], "expected_close_date": day(4)}
    agent.ok("POST", "/admin/deals", deal)
    for include, titles in {
        ("activities",): {"Visit"},
        ("follow_ups", "follow_ups"): {"Follow-up: Ada"},
        ("closings", "activities"): {"Visit", "Closing: Engine"},
    }.items():
        assert entries(agent.client, subscribe(agent, include=list(include))).keys() == titles
    chosen = [feed["include"] for feed in agent.ok("GET", FEEDS)["data"]]
    assert chosen == [["activities"], ["follow_ups"], ["activities", "closings"]]
    for body in ({"name": "X", "include": []}, {"name": "X", "include": ["everything"]}, {"include": ["activities"]}):
        refused(agent.post(FEEDS, body), 400, "INVALID_REQUEST")


def test_of_too_many_entries_the_next_ones_are_there(agent: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    for days in (-91, -90, -2, -1, 0.5, 1, 2, 400, 401):
        plan(agent, f"{days}", moment(days), type="call", all_day=False)
    path = subscribe(agent)
    assert entries(agent.client, path).keys() == {"-90", "-2", "-1", "0.5", "1", "2", "400"}
    for most, titles in (5, {"0.5", "1", "2", "400", "-1"}), (2, {"0.5", "1"}):
        monkeypatch.setattr(subscriptions, "MOST_ENTRIES", most)
        assert entries(agent.client, path).keys() == titles


def test_the_address_is_shown_once_and_kept_nowhere(
    agent: Caller, settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    key = {"Idempotency-Key": "feed"}
    made = agent.post(FEEDS, {"name": "Phone"}, headers=key).json()
    replayed = agent.post(FEEDS, {"name": "Phone"}, headers=key)
    assert replayed.headers["Idempotency-Replayed"] == "true"
    assert replayed.json() == made | {"url": None}
    tried = agent.post(FEEDS, {"name": "Phone"}, headers={"Dry-Run": "true"}).json()
    assert tried["result"] == {**tried["result"], "id": None, "url": None}
    assert agent.ok("GET", FEEDS) == {"data": [made | {"url": None}], "total": 1}
    path = urlsplit(made["url"]).path
    secret = path.rsplit("/", 1)[1].removesuffix(".ics")
    assert len(secret) == 43
    assert fetch(agent.client, path).status_code == 200
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("ALTER TABLE calendar_feeds NO FORCE ROW LEVEL SECURITY")
        kept = owner.execute("SELECT each::text FROM calendar_feeds AS each").fetchall()
        kept += owner.execute("SELECT convert_from(body, 'UTF8') FROM idempotency_keys").fetchall()
        owner.rollback()
    assert secret not in json.dumps(kept)
    logged = capfd.readouterr()
    assert "/public/calendar/{secret}" in logged.out + logged.err
    assert secret not in logged.out + logged.err


def test_a_feed_that_is_deleted_shows_nothing_any_more(agent: Caller, callers: Callers, admin: Caller) -> None:
    path = subscribe(agent)
    (feed,) = agent.ok("GET", FEEDS)["data"]
    for other in (admin, callers.person("agent", agent.tenant), callers.person("admin", "another")):
        assert other.ok("GET", FEEDS)["total"] == 0
        refused(other.delete(f"{FEEDS}/{feed['id']}"), 404, "FEED_NOT_FOUND")
    assert fetch(agent.client, path).status_code == 200
    agent.ok("DELETE", f"{FEEDS}/{feed['id']}")
    refused(fetch(agent.client, path), 404, "NOT_FOUND")
    refused(agent.delete(f"{FEEDS}/{feed['id']}"), 404, "FEED_NOT_FOUND")


@pytest.mark.parametrize("name", ["x.ics", "x", ".ics", "%00.ics", "%ff.ics", "x" * 9000 + ".ics", "ä.ics"])
def test_an_address_that_nobody_has_shows_nothing(client: TestClient[Litestar], name: str) -> None:
    refused(fetch(client, f"/public/calendar/{name}"), 404, "NOT_FOUND")


def test_a_feed_ends_with_its_persons_membership(agent: Caller, admin: Caller) -> None:
    path = subscribe(agent)
    (member,) = [each for each in admin.ok("GET", "/admin/members")["data"] if each["user_id"] == agent.user_id]
    for is_active, status in ((True, 200), (False, 404), (True, 200)):
        admin.ok("PATCH", f"/admin/members/{member['id']}", {"is_active": is_active})
        assert fetch(agent.client, path).status_code == status


def test_who_sees_only_their_own_sees_the_same_feed(own_scope: TestClient[Litestar], callers: Callers) -> None:
    manager = callers.person("manager", "own-feed", client=own_scope)
    agent = callers.person("agent", manager.tenant, client=own_scope)
    theirs = manager.customer("Grace")["id"]
    plan(manager, "Visit", moment(3), assigned_to=agent.user_id, customer_id=theirs, description="Cogs")
    plan(manager, "Mine", moment(3))
    for person, titles in (agent, {"Visit"}), (manager, {"Mine"}):
        assert entries(own_scope, subscribe(person)).keys() == titles
    assert entries(own_scope, subscribe(agent))["Visit"].description == "Grace\n\nCogs"


def test_one_person_has_a_limited_number_of_feeds(agent: Caller, manager: Caller, monkeypatch: Any) -> None:
    monkeypatch.setattr(feeds, "MOST_FEEDS", 2)
    for _ in range(2):
        subscribe(agent)
    assert refused(agent.post(FEEDS, {"name": "X"}), 409, "LIMIT_REACHED") == {"max": 2}
    subscribe(manager)


def test_guesses_are_limited_by_address_and_who_knows_is_not_kept_out(
    variant: Callable[..., TestClient[Litestar]], callers: Callers, tenant: str
) -> None:
    limited = variant(auth_failures_per_minute=2, rate_limit_per_minute=8)
    agent = callers.person("agent", tenant, client=limited)
    path = subscribe(agent)
    statuses = [fetch(limited, "/public/calendar/guess.ics").status_code for _ in range(4)]
    assert statuses == [404, 404, 429, 429]
    # A feed is limited by its person, from wherever it is asked for.
    assert [fetch(limited, path).status_code for _ in range(9)] == [200] * 8 + [429]
    other = subscribe(callers.person("agent", tenant, client=limited))
    assert fetch(limited, other).status_code == 200
    assert agent.get(FEEDS).status_code == 200


def test_in_production_there_are_feeds_where_the_service_knows_its_address(
    variant: Callable[..., TestClient[Litestar]], callers: Callers, tenant: str
) -> None:
    without = callers.person("agent", tenant, client=variant(environment="production"))
    refused(without.post(FEEDS, {"name": "X"}), 503, "SERVICE_UNAVAILABLE")
    refused(fetch(without.client, "/public/calendar/x.ics"), 404, "NOT_FOUND")
    known = variant(environment="production", public_url="https://crm.example.com/")
    feed = callers.person("agent", tenant, client=known).ok("POST", FEEDS, {"name": "X"})
    assert feed["url"].startswith("https://crm.example.com/public/calendar/")
    assert fetch(known, urlsplit(feed["url"]).path).status_code == 200
