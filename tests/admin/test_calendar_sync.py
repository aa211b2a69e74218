"""A connected calendar and its person's activities become the same, whatever happens on both sides and between them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from app.admin.calendar_sync import queries
from app.admin.calendar_sync.queries import Claimed
from app.admin.calendar_sync.syncing import CalendarSyncing
from app.calendars.entries import Changes, Entry, Times, Window
from app.calendars.errors import Away, ReconnectNeeded, Refused, Throttled
from app.db.database import Database
from app.settings import Settings
from tests.admin.calendars import DAY, HOUR, NOON, PATH, Connected
from tests.callers import Caller, refused
from tests.peers.memory_calendar import LOST, MemoryCalendar
from tests.records.chains import seal


@pytest.fixture
def calendar() -> MemoryCalendar:
    return MemoryCalendar()


@pytest.fixture
def connected(settings: Settings, agent: Caller, calendar: MemoryCalendar) -> Connected:
    return Connected.to_memory(settings, agent, calendar)


def only(calendar: MemoryCalendar) -> Entry:
    (entry,) = calendar.entries.values()
    return entry


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_what_is_planned_here_is_there_after_a_sync(connected: Connected, calendar: MemoryCalendar) -> None:
    connected.activity("Meet Ada", description="Bring the offer")
    connected.activity("Write it down", type="note")
    connected.activity("Pay", type="task", due_date=f"{(NOON + DAY).date()}", all_day=True, duration=None)
    shown = connected.sync()
    assert (shown["status"], shown["last_error"], shown["last_synced_at"] is not None) == ("active", None, True)
    meeting, task = sorted(calendar.entries.values(), key=lambda each: each.title)
    assert (meeting.title, meeting.description, meeting.busy) == ("Meet Ada", "Bring the offer", True)
    assert meeting.times == Times(NOON, NOON + HOUR, False)
    midnight = (NOON + DAY).replace(hour=0)
    assert (task.title, task.times, task.busy) == ("Pay", Times(midnight, midnight + DAY, True), False)
    before = list(calendar.requests)
    connected.sync()
    assert calendar.requests[len(before) :] == ["changes"]


def test_what_is_done_there_happens_here_and_is_audited(connected: Connected, calendar: MemoryCalendar) -> None:
    made = connected.activity(remind_at=(NOON - HOUR / 4).isoformat())
    connected.sync()
    entry = only(calendar)
    calendar.edit(entry.remote_id, title="Call Grace", times=Times(NOON + DAY, NOON + DAY + 2 * HOUR, False))
    connected.sync()
    (moved,) = connected.activities()
    assert (moved["title"], moved["duration"]) == ("Call Grace", 120)
    assert moment(moved["due_date"]) == NOON + DAY
    # A reminder stays as long before as it was.
    assert moment(moved["remind_at"]) == NOON + DAY - HOUR / 4
    calendar.edit(entry.remote_id, completed=True)
    connected.sync()
    (done,) = connected.activities()
    assert done["status"] == "completed"
    versions = connected.caller.ok("GET", f"/admin/activities/{made['id']}/versions")["data"]
    assert [each["via"] for each in versions] == ["calendar", "calendar", "api"]
    assert {each["user_id"] for each in versions} == {made["assigned_to"]}
    # What came from there can be taken back, as everything: then it is taken back there, too.
    connected.caller.ok("POST", f"/admin/operations/{versions[0]['operation_id']}/undo", {})
    connected.sync()
    assert not only(calendar).completed
    calendar.edit(entry.remote_id, completed=True)
    connected.sync()
    calendar.edit(entry.remote_id, completed=False)
    connected.sync()
    calendar.drop(entry.remote_id)
    connected.sync()
    assert connected.activities() == []
    assert connected.caller.ok("GET", f"/admin/activities/{made['id']}")["status"] == "cancelled"


def test_what_is_done_here_happens_there(connected: Connected, calendar: MemoryCalendar) -> None:
    made = connected.activity()
    connected.sync()
    path = f"/admin/activities/{made['id']}"
    connected.caller.ok("PATCH", path, {"title": "Call Grace", "due_date": (NOON + DAY).isoformat()})
    connected.sync()
    assert (only(calendar).title, only(calendar).times.starts_at) == ("Call Grace", NOON + DAY)
    connected.caller.ok("PATCH", path, {"status": "completed"})
    connected.sync()
    assert only(calendar).completed
    connected.caller.ok("PATCH", path, {"status": "cancelled"})
    connected.sync()
    assert calendar.entries == {}
    connected.caller.ok("PATCH", path, {"status": "scheduled"})
    connected.sync()
    assert only(calendar).title == "Call Grace"


def test_of_a_field_changed_on_both_sides_ours_stays_and_the_other_is_in_a_note(
    connected: Connected, calendar: MemoryCalendar
) -> None:
    made = connected.activity()
    connected.sync()
    entry = only(calendar)
    calendar.edit(entry.remote_id, title="Call Grace", description="From the phone")
    connected.caller.ok("PATCH", f"/admin/activities/{made['id']}", {"title": "Call Alan"})
    connected.sync()
    (kept,) = connected.activities()
    assert (kept["title"], kept["description"]) == ("Call Alan", "From the phone")
    assert (only(calendar).title, only(calendar).description) == ("Call Alan", "From the phone")
    (note,) = connected.caller.ok("GET", "/admin/notes", activity_id=made["id"])["data"]
    assert "Call Grace" in note["content"]
    assert "From the phone" not in note["content"]
    assert connected.sync()["last_error"] is None
    assert len(connected.caller.ok("GET", "/admin/notes", activity_id=made["id"])["data"]) == 1


def test_a_meeting_with_somebody_known_comes_in_and_everything_else_is_only_busy(
    connected: Connected, calendar: MemoryCalendar, admin: Caller
) -> None:
    customer = connected.caller.customer("Analytical Engines", email="office@engines.example")
    contact = connected.caller.ok(
        "POST", f"/admin/customers/{customer['id']}/contacts", {"first_name": "Ada", "email": "Ada@Engines.example"}
    )
    calendar.put("Talk about it", NOON, NOON + HOUR, attendees=("nobody@else.example", "ada@engines.example"))
    calendar.put("Dentist", NOON + DAY, NOON + DAY + HOUR)
    calendar.put("Holidays", NOON + DAY, NOON + 2 * DAY, busy=False)
    calendar.put("Over", NOON - 5 * DAY, NOON - 5 * DAY + HOUR, attendees=("office@engines.example",))
    connected.sync()
    over, meeting = sorted(connected.activities(), key=lambda each: str(each["due_date"]))
    assert (meeting["title"], meeting["type"], meeting["status"]) == ("Talk about it", "meeting", "scheduled")
    assert (meeting["customer_id"], meeting["contact_id"]) == (customer["id"], contact["id"])
    assert meeting["assigned_to"] == connected.caller.user_id
    assert (over["status"], over["contact_id"]) == ("completed", None)
    shown = connected.caller.ok(
        "GET", "/admin/me/calendar", **{"from": f"{NOON.date()}", "to": f"{(NOON + 3 * DAY).date()}"}
    )["data"]
    (busy,) = [each for each in shown if each["kind"] == "busy"]
    assert (busy["title"], busy["record"], moment(busy["starts_at"])) == ("", None, NOON + DAY)
    assert "Dentist" not in str(connected.sql("SELECT each::text FROM calendar_entries AS each"))
    # Nothing that was taken over is written back.
    assert {"create", "update", "delete"}.isdisjoint(calendar.requests)
    # Managers see that somebody is busy, too.
    others = {"from": f"{NOON.date()}", "to": f"{(NOON + 3 * DAY).date()}", "user_id": connected.caller.user_id}
    assert [each["kind"] for each in admin.ok("GET", "/admin/me/calendar", **others)["data"]].count("busy") == 1
    calendar.drop(next(each.remote_id for each in calendar.entries.values() if each.title == "Dentist"))
    connected.sync()
    assert [each["kind"] for each in admin.ok("GET", "/admin/me/calendar", **others)["data"]].count("busy") == 0


def test_occurrences_of_a_series_come_in_and_are_never_written(connected: Connected, calendar: MemoryCalendar) -> None:
    connected.caller.customer("Engines", email="office@engines.example")
    for week in range(3):
        starts_at = NOON + 7 * week * DAY
        calendar.put(
            "Weekly", starts_at, starts_at + HOUR, series="s1", uid="weekly", attendees=("office@engines.example",)
        )
    connected.sync()
    first, *rest = connected.activities()
    assert len(rest) == 2
    connected.caller.ok("PATCH", f"/admin/activities/{first['id']}", {"title": "Ours"})
    connected.caller.ok("PATCH", f"/admin/activities/{rest[0]['id']}", {"status": "cancelled"})
    connected.sync()
    assert {each.title for each in calendar.entries.values()} == {"Weekly"}
    assert len(calendar.entries) == 3
    connected.sql("UPDATE calendar_connections SET listed_at = NULL WHERE id = %s RETURNING id", connected.id)
    connected.sync()
    assert len(connected.activities()) == 2


def test_an_answer_lost_after_the_write_doubles_nothing(connected: Connected, calendar: MemoryCalendar) -> None:
    connected.activity("One")
    connected.activity("Two")
    calendar.after = [LOST]
    assert "lost" in connected.sync()["last_error"]
    connected.sync()
    assert sorted(each.title for each in calendar.entries.values()) == ["One", "Two"]
    first = connected.activities()[0]
    connected.caller.ok("PATCH", f"/admin/activities/{first['id']}", {"title": "Uno"})
    calendar.after = [LOST]
    connected.sync()
    # Meanwhile it goes back to what it was before.
    connected.caller.ok("PATCH", f"/admin/activities/{first['id']}", {"title": "One"})
    connected.sync()
    assert sorted(each.title for each in calendar.entries.values()) == ["One", "Two"]
    assert connected.caller.ok("GET", "/admin/notes", activity_id=first["id"])["data"] == []


def test_a_server_that_keeps_less_than_it_is_given_is_not_written_again_and_again(
    connected: Connected, calendar: MemoryCalendar
) -> None:
    made = connected.activity(description="A long text. " * 20)
    connected.sync()
    before = len(calendar.requests)
    connected.sync()
    calendar.expire()
    connected.sync()
    assert {"create", "update"}.isdisjoint(calendar.requests[before:])
    assert connected.caller.ok("GET", f"/admin/activities/{made['id']}")["description"] == made["description"]


def test_a_calendar_that_is_connected_anew_finds_its_entries(
    connected: Connected, calendar: MemoryCalendar, settings: Settings
) -> None:
    made = connected.activity()
    connected.sync()
    connected.caller.ok("DELETE", f"/admin/me/connections/{connected.id}")
    connected.caller.ok("PATCH", f"/admin/activities/{made['id']}", {"title": "Renamed meanwhile"})
    again = Connected.to_memory(settings, connected.caller, calendar)
    again.sync()
    assert only(calendar).title == "Renamed meanwhile"
    assert len(again.activities()) == 1


def test_meetings_of_a_calendar_that_is_connected_anew_are_not_made_again(
    connected: Connected, calendar: MemoryCalendar, settings: Settings
) -> None:
    connected.caller.customer("Engines", email="office@engines.example")
    for days in (-3, 0, 1):
        starts_at = NOON + days * DAY
        calendar.put("Talk  about it", starts_at, starts_at + HOUR, attendees=("office@engines.example",))
    connected.sync()
    assert len(connected.activities()) == 3
    connected.caller.ok("DELETE", f"/admin/me/connections/{connected.id}")
    again = Connected.to_memory(settings, connected.caller, calendar)
    again.sync()
    assert (len(again.activities()), len(calendar.entries)) == (3, 3)
    calendar.edit(next(iter(calendar.entries)), title="Over")
    again.sync()
    assert [each["title"] for each in again.activities()].count("Over") == 1


def test_what_a_server_says_that_can_not_be_kept_stops_nothing_else(
    connected: Connected, calendar: MemoryCalendar, settings: Settings
) -> None:
    made = connected.activity()
    connected.sync()
    connected.caller.ok("DELETE", f"/admin/me/connections/{connected.id}")
    entry = only(calendar)
    calendar.entries[entry.remote_id] = replace(entry, key=f"{entry.key}{'-' * 100}", etag="e" * 2000, uid="u" * 2000)
    calendar.put("Backwards", NOON + DAY, NOON)
    calendar.put("Long", NOON + DAY, NOON + 2 * DAY, remote_id="r" * 2000)
    calendar.put("Dentist", NOON + DAY, NOON + 2 * DAY)
    again = Connected.to_memory(settings, connected.caller, calendar)
    assert again.sync()["last_error"] is None
    assert again.sql("SELECT count(*) FROM calendar_entries") == [(2,)]
    assert [each["id"] for each in again.activities()] == [made["id"]]


def test_a_calendar_that_is_away_for_months_is_asked_once_an_hour(
    connected: Connected, calendar: MemoryCalendar
) -> None:
    connected.sql("UPDATE calendar_connections SET failures = 5000 RETURNING id")
    calendar.before = [Away("Not there")]
    waits = connected.sync()
    assert waits["last_error"] == "Not there"
    assert moment(waits["next_sync_at"]) - datetime.now(NOON.tzinfo) > timedelta(minutes=40)


def test_an_invitation_in_two_calendars_is_one_meeting(
    connected: Connected, calendar: MemoryCalendar, settings: Settings
) -> None:
    connected.caller.customer("Engines", email="office@engines.example")
    second = MemoryCalendar()
    for each in (calendar, second):
        each.put("Invited", NOON, NOON + HOUR, uid="one@engines.example", attendees=("office@engines.example",))
    other = Connected.to_memory(settings, connected.caller, second, "second")
    connected.sync()
    other.sync()
    (meeting,) = connected.activities()
    connected.caller.ok("PATCH", f"/admin/activities/{meeting['id']}", {"title": "Renamed"})
    connected.sync()
    other.sync()
    assert [only(each).title for each in (calendar, second)] == ["Renamed", "Renamed"]


def test_entries_moved_out_of_sight_are_not_taken_for_deleted(connected: Connected, calendar: MemoryCalendar) -> None:
    made = connected.activity()
    connected.sync()
    calendar.edit(only(calendar).remote_id, times=Times(NOON + 900 * DAY, NOON + 900 * DAY + HOUR, False))
    calendar.expire()
    connected.sync()
    found = connected.caller.ok("GET", f"/admin/activities/{made['id']}")
    assert (found["status"], moment(found["due_date"])) == ("scheduled", NOON + 900 * DAY)


def test_what_was_deleted_and_made_again_by_a_program_is_the_same(
    connected: Connected, calendar: MemoryCalendar
) -> None:
    connected.activity()
    connected.sync()
    entry = only(calendar)
    calendar.drop(entry.remote_id)
    calendar.put("Moved", NOON + DAY, NOON + DAY + HOUR, uid=entry.uid, key=entry.key)
    connected.sync()
    (moved,) = connected.activities()
    assert (moved["title"], len(calendar.entries)) == ("Moved", 1)


@pytest.mark.parametrize(("apply", "left", "there"), [(True, 2, 2), (False, 5, 5)])
def test_if_half_of_all_vanishes_nothing_changes_until_the_person_says_so(
    connected: Connected, calendar: MemoryCalendar, apply: bool, left: int, there: int
) -> None:
    for number in range(5):
        connected.activity(f"Meeting {number}")
    connected.sync()
    for remote_id in list(calendar.entries)[:3]:
        calendar.drop(remote_id)
    shown = connected.sync()
    assert (shown["status"], shown["vanished"]) == ("needs_confirmation", 3)
    assert len(connected.activities()) == 5
    told = connected.caller.ok("GET", "/admin/me/notifications")["data"][0]
    assert (told["kind"], told["record"]) == ("connection", {"type": "connection", "id": connected.id, "title": "Work"})
    assert "vanished" in told["text"]
    connected.sync()
    assert len(connected.activities()) == 5
    answered = connected.caller.ok("POST", f"/admin/me/connections/{connected.id}/confirm", {"apply": apply})
    assert (answered["status"], answered["vanished"]) == ("active", None)
    refused(
        connected.caller.post(f"/admin/me/connections/{connected.id}/confirm", {"apply": apply}),
        *(409, "NOTHING_TO_CONFIRM"),
    )
    connected.sync()
    assert (len(connected.activities()), len(calendar.entries)) == (left, there)


def test_of_many_one_more_than_twenty_is_asked_about(connected: Connected, calendar: MemoryCalendar) -> None:
    for number in range(45):
        connected.activity(f"Meeting {number}")
    connected.sync()
    assert len(calendar.entries) == 45
    for remote_id in list(calendar.entries)[:20]:
        calendar.drop(remote_id)
    assert connected.sync()["status"] == "active"
    assert len(connected.activities()) == 25


def test_a_calendar_says_how_long_to_wait_and_one_that_refuses_is_to_be_connected_again(
    connected: Connected, calendar: MemoryCalendar
) -> None:
    calendar.before = [Throttled("Slow down", 5000)]
    waits = connected.sync()
    assert waits["last_error"] == "Slow down"
    assert (moment(waits["next_sync_at"]) - datetime.now(NOON.tzinfo)).total_seconds() > 4900
    calendar.before = [Away("Not there")]
    first = moment(connected.sync()["next_sync_at"]) - datetime.now(NOON.tzinfo)
    calendar.before = [Away("Not there")]
    second = moment(connected.sync()["next_sync_at"]) - datetime.now(NOON.tzinfo)
    # Each time it is longer.
    assert second > first > timedelta(minutes=5)
    calendar.before = [ReconnectNeeded("Log in again")]
    assert connected.sync()["status"] == "needs_reconnect"
    assert "connected again" in connected.caller.ok("GET", "/admin/me/notifications")["data"][0]["text"]
    calendar.requests.clear()
    connected.sync()
    assert calendar.requests == []


def test_what_the_server_refuses_is_told_and_not_tried_again(connected: Connected, calendar: MemoryCalendar) -> None:
    connected.activity()
    connected.sync()
    (made,) = connected.activities()
    connected.caller.ok("PATCH", f"/admin/activities/{made['id']}", {"title": "Not theirs"})
    calendar.before = [None, Refused("Only the organizer may")]
    assert connected.sync()["last_error"] == "Only the organizer may"
    calendar.requests.clear()
    connected.sync()
    assert calendar.requests == ["changes"]
    connected.caller.ok("PATCH", f"/admin/activities/{made['id']}", {"title": "Once more"})
    connected.sync()
    assert only(calendar).title == "Once more"


def test_a_change_here_makes_the_sync_due_and_its_own_do_not(
    connected: Connected, calendar: MemoryCalendar, settings: Settings
) -> None:
    def wake(since: int | None) -> int:
        async def run() -> int:
            async with Database(settings) as database:
                return await queries.wake(database, since)

        seal(settings)
        return asyncio.run(run())

    def due() -> bool:
        return bool(connected.sql("SELECT next_sync_at <= now() FROM calendar_connections")[0][0])

    made = connected.activity()
    connected.sync()
    mark = wake(None)
    assert not due()
    connected.caller.ok("PATCH", f"/admin/activities/{made['id']}", {"title": "Renamed"})
    mark = wake(mark)
    assert due()
    connected.sync()
    calendar.edit(only(calendar).remote_id, title="By phone")
    connected.sync()
    wake(mark)
    assert not due()


def test_whoever_is_shut_out_or_signed_out_is_not_synced(
    connected: Connected, calendar: MemoryCalendar, admin: Caller
) -> None:
    connected.activity()
    (member,) = [each for each in admin.ok("GET", "/admin/members")["data"] if each["role"] == "agent"]
    admin.ok("PATCH", f"/admin/members/{member['id']}", {"is_active": False})
    connected.run()
    assert calendar.requests == []
    admin.ok("PATCH", f"/admin/members/{member['id']}", {"is_active": True})
    admin.ok("POST", f"/admin/members/{member['id']}/sign-out")
    assert connected.sql("SELECT status FROM calendar_connections") == [("needs_reconnect",)]


def test_whoever_is_shut_out_in_the_middle_of_a_sync_is_synced_no_further(
    connected: Connected, calendar: MemoryCalendar, admin: Caller
) -> None:
    (member,) = [each for each in admin.ok("GET", "/admin/members")["data"] if each["role"] == "agent"]
    connected.activity()
    listed = calendar.changes

    async def changes(token: str | None, window: Window) -> Changes:
        await asyncio.to_thread(admin.ok, "PATCH", f"/admin/members/{member['id']}", {"is_active": False})
        return await listed(token, window)

    calendar.changes = changes  # type: ignore[method-assign]  # at this moment
    connected.run()
    assert calendar.entries == {}


def test_one_worker_at_a_time_has_a_connection_and_takes_over_from_a_dead_one(
    connected: Connected, calendar: MemoryCalendar, settings: Settings
) -> None:
    connected.activity()

    async def run() -> None:
        async with Database(settings) as database:
            (dead,) = [each for each in await queries.claim(database, 100, 30) if each.id == connected.id]
            assert [each for each in await queries.claim(database, 100, 30) if each.id == connected.id] == []
            connected.sql("UPDATE calendar_connections SET claimed_until = now() - interval '1 second'")
            (alive,) = [each for each in await queries.claim(database, 100, 30) if each.id == connected.id]
            syncing = CalendarSyncing(database, calendar.open, 300)
            # It wakes up late, and is not the one any more.
            await syncing.sync(dead)
            assert calendar.requests == []
            await syncing.sync(alive)

    asyncio.run(run())
    assert len(calendar.entries) == 1


def test_an_erasure_reaches_the_calendar(connected: Connected, calendar: MemoryCalendar, admin: Caller) -> None:
    customer = admin.customer("Ada", assigned_to=connected.caller.user_id)
    connected.activity("About Ada", customer_id=customer["id"])
    connected.activity("Something else")
    connected.sync()
    admin.ok("POST", f"/admin/customers/{customer['id']}/erase", {"reason": "She asked for it", "confirm": "Ada"})
    connected.sync()
    assert only(calendar).title == "Something else"


def test_workers_sync_what_is_due_and_what_changes_and_a_calendar_that_hangs_delays_nobody(
    connected: Connected, calendar: MemoryCalendar, settings: Settings, manager: Caller
) -> None:
    hanging = Connected.to_memory(settings, manager, MemoryCalendar())

    @asynccontextmanager
    async def open_one(claimed: Claimed, *_: object) -> AsyncIterator[Any]:
        if claimed.id == hanging.id:
            await asyncio.Event().wait()
        async with calendar.open() as adapter:
            yield adapter

    async def until(so: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(so):  # noqa: ASYNC110 -- what it waits for is in the database
                await asyncio.sleep(0.1)

    def renamed() -> bool:
        # A service seals what is to be found.
        seal(settings)
        return only(calendar).title == "Renamed"

    async def run() -> None:
        async with Database(settings) as database:
            workers = [
                asyncio.create_task(CalendarSyncing(database, open_one, 3600, lease_seconds=3).run()) for _ in range(2)
            ]
            try:
                made = await asyncio.to_thread(connected.activity)
                await asyncio.to_thread(
                    connected.sql, "UPDATE calendar_connections SET next_sync_at = now() RETURNING id"
                )
                await until(lambda: bool(calendar.entries))
                await until(lambda: connected.shown()["last_synced_at"] is not None)
                path = f"/admin/activities/{made['id']}"
                await asyncio.to_thread(connected.caller.ok, "PATCH", path, {"title": "Renamed"})
                await until(renamed)
            finally:
                for each in workers:
                    each.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    asyncio.run(run())
    # What was being done when the workers ended is due at once.
    assert hanging.sql("SELECT claimed_until IS NULL AND next_sync_at <= now() FROM calendar_connections") == [(True,)]


# ── whatever happens ─────────────────────────────────────────────────────────────────────────────────────────────────


def both(connected: Connected, calendar: MemoryCalendar) -> tuple[list[Any], list[Any]]:
    """What each side has, to be compared."""

    def short(text: str | None) -> str | None:
        return text and text[:40].rstrip()

    linked = {activity for (activity,) in connected.sql("SELECT activity_id FROM calendar_entries")}
    here = [
        (
            each["title"],
            short(each["description"]),
            moment(each["due_date"]),
            timedelta(minutes=each["duration"] or 0),
            each["status"] == "completed",
        )
        for each in connected.activities()
        # What was done before it was there does not come there any more.
        if each["id"] in linked or each["status"] != "completed"
    ]
    there = [
        (
            each.title,
            short(each.description),
            each.times.starts_at,
            each.times.ends_at - each.times.starts_at,
            each.completed,
        )
        for each in calendar.entries.values()
        if each.key is not None or each.attendees
    ]
    return sorted(here, key=repr), sorted(there, key=repr)


class Walk:
    """Acts at random, on either side."""

    def __init__(self, connected: Connected, calendar: MemoryCalendar, seed: int) -> None:
        self.connected = connected
        self.calendar = calendar
        self.dice = random.Random(seed)

    def word(self) -> str:
        return f"{self.dice.choice(['Call', 'Meet', 'Ask', 'Show'])} {self.dice.randrange(10**6)}"

    def at(self) -> datetime:
        return NOON + self.dice.randrange(60 * 24 * 60) * timedelta(minutes=1)

    def act(self) -> None:
        acts = ("make", "make", "rename", "rename", "describe", "move", "move", "finish", "cancel")
        self.dice.choice([self.here, self.there])(self.dice.choice(acts))

    def here(self, act: str) -> None:
        mine = self.connected.activities()
        if act == "make" or not mine:
            length = self.dice.choice([15, 30, 90])
            self.connected.activity(self.word(), due_date=self.at().isoformat(), duration=length)
            return
        changes = {
            "rename": {"title": self.word()},
            "describe": {"description": self.dice.choice([None, self.word() * 5])},
            "move": {"due_date": self.at().isoformat()},
            "finish": {"status": self.dice.choice(["completed", "scheduled"])},
            "cancel": {"status": "cancelled"},
        }
        self.connected.caller.ok("PATCH", f"/admin/activities/{self.dice.choice(mine)['id']}", changes[act])

    def there(self, act: str) -> None:
        starts_at = self.at()
        theirs = [each for each in self.calendar.entries.values() if each.key or each.attendees]
        if act == "make" or not theirs:
            attendees = ("office@engines.example",) if self.dice.random() < 0.5 else ()
            self.calendar.put(self.word(), starts_at, starts_at + HOUR, attendees=attendees)
            return
        entry = self.dice.choice(theirs)
        if act == "cancel":
            self.calendar.drop(entry.remote_id)
            return
        length = entry.times.ends_at - entry.times.starts_at
        changes: dict[str, dict[str, Any]] = {
            "rename": {"title": self.word()},
            "describe": {"description": self.dice.choice([None, self.word()])},
            "move": {"times": Times(starts_at, starts_at + length, False)},
            "finish": {"completed": not entry.completed},
        }
        self.calendar.edit(entry.remote_id, **changes[act])

    def sync_in_trouble(self) -> None:
        """A sync, of whose requests some fail before they are done, and some after."""
        if self.dice.random() < 0.1:
            self.calendar.expire()
        trouble = [None, None, None, None, LOST]
        self.calendar.after = [self.dice.choice(trouble) for _ in range(8)]
        self.calendar.before = [None, None, *(self.dice.choice(trouble) for _ in range(8))]
        if self.connected.sync()["status"] == "needs_confirmation":
            answer = {"apply": self.dice.random() < 0.5}
            self.connected.caller.ok("POST", f"{PATH}/{self.connected.id}/confirm", answer)
        self.calendar.after, self.calendar.before = [], []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_after_any_walk_on_both_sides_they_are_equal_and_nothing_is_there_twice(
    connected: Connected, calendar: MemoryCalendar, seed: int
) -> None:
    connected.caller.customer("Engines", email="office@engines.example")
    walk = Walk(connected, calendar, seed)
    for _ in range(25):
        for _ in range(walk.dice.randrange(6)):
            walk.act()
        walk.sync_in_trouble()
    for _ in range(3):
        connected.sync()
    ours, theirs = both(connected, calendar)
    assert ours == theirs
    assert ours
    keys = [each.key for each in calendar.entries.values() if each.key]
    assert len({*keys}) == len(keys)
    requests = len(calendar.requests)
    connected.sync()
    assert calendar.requests[requests:] == ["changes"]
