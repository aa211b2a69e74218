"""Calendars at Google and Microsoft: what is read of them and written to them is the same, and so is what fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from typing import Any

import pytest

from app.calendars.entries import Account as CalendarAccount
from app.calendars.entries import Adapter, Changes, Draft, Entry, EntryStatus, Field, Times
from app.calendars.errors import Away, CalendarError, Gone, Outdated, ReconnectNeeded, Refused, Throttled, TokenExpired
from tests.calendars.accounts import KEY, WINDOW, Account, draft, utc
from tests.peers.consent import Fail, Lost, http_date

EIGHT, NINE = utc(2026, 6, 1, 8), utc(2026, 6, 1, 9)
HOUR = timedelta(hours=1)
MOVED = Times(utc(2026, 6, 2, 12), utc(2026, 6, 2, 13), all_day=False)


def changes(token: str | None = None) -> Callable[[Adapter], Awaitable[Changes]]:
    return lambda adapter: adapter.changes(token, WINDOW)


def create(what: Draft) -> Callable[[Adapter], Awaitable[Entry]]:
    return lambda adapter: adapter.create(what)


def update(entry: Entry, what: Draft, *fields: Field, etag: str | None = None) -> Callable[[Adapter], Awaitable[Entry]]:
    return lambda adapter: adapter.update(entry.remote_id, etag or entry.etag, what, fields)


def delete(entry: Entry) -> Callable[[Adapter], Awaitable[None]]:
    return lambda adapter: adapter.delete(entry.remote_id, entry.etag)


def the_one(changes: Changes) -> Entry:
    (entry,) = changes.entries
    return entry


def title(account: Account) -> str:
    """As the person sees it of the only event."""
    (event,) = account.peer.events()
    return str(event["summary" if account.provider == "google" else "subject"])


def invite(account: Account, event_id: str, *addresses: str) -> None:
    if account.provider == "google":
        attendees: list[Any] = [{"email": address} for address in (*addresses, account.peer.email)]
        attendees[-1] |= {"self": True, "responseStatus": "accepted"}
    else:
        attendees = [
            {"emailAddress": {"address": each}, "type": "required"} for each in (*addresses, account.peer.email)
        ]
    account.peer.change(event_id, attendees=attendees)


def test_the_account_and_its_calendar_have_names(account: Account) -> None:
    found = account.run(lambda adapter: adapter.check())
    expected = {
        "google": CalendarAccount("ada@example.com", "ada@example.com", "ada@example.com"),
        "microsoft": CalendarAccount("ada@example.com", "AAMkCalendar=", "Calendar"),
    }
    assert found == expected[account.provider]


def test_a_calendar_that_can_only_be_read_is_refused(account: Account) -> None:
    account.peer.read_only = True
    with pytest.raises(Refused, match="can only be read"):
        account.run(lambda adapter: adapter.check())


def test_a_list_has_what_is_in_the_window_page_by_page(account: Account) -> None:
    account.peer.page = 2
    ids = {account.peer.add(f"Visit {day}", utc(2026, 6, day, 8), utc(2026, 6, day, 9)) for day in range(1, 6)}
    account.peer.add("Long ago", utc(2026, 1, 1, 8), utc(2026, 1, 1, 9))
    account.peer.add("Far ahead", utc(2028, 1, 1, 8), utc(2028, 1, 1, 9))
    found = account.run(changes())
    assert {entry.remote_id for entry in found.entries} == ids
    assert (found.complete, found.removed) == (True, frozenset())
    first = min(found.entries, key=lambda entry: entry.times.starts_at)
    assert first.uid
    assert first.etag
    assert first == Entry(
        remote_id=first.remote_id,
        etag=first.etag,
        uid=first.uid,
        title="Visit 1",
        description=None,
        times=Times(EIGHT, NINE, all_day=False),
        status=EntryStatus.CONFIRMED,
        busy=True,
        completed=False,
    )


def test_after_a_token_come_only_changes(account: Account) -> None:
    peer = account.peer
    stays, moves, goes = (peer.add(name, EIGHT, NINE) for name in ("Stays", "Moves", "Goes"))
    before = account.run(changes())
    nothing = account.run(changes(before.token))
    assert (nothing.entries, nothing.removed, nothing.whole) == ((), frozenset(), frozenset())
    peer.change(moves, start=EIGHT + HOUR, end=NINE + HOUR)
    peer.remove(goes)
    new = peer.add("New", EIGHT, NINE)
    after = account.run(changes(before.token))
    assert {entry.remote_id: entry.times.starts_at for entry in after.entries} == {moves: NINE, new: EIGHT}
    assert (set(after.removed), after.complete) == ({goes}, False)
    assert not after.without(stays, None)
    assert after.without(goes, None)


def test_what_moves_out_of_the_window_is_not_taken_for_deleted(account: Account) -> None:
    event_id = account.peer.add("Inauguration", EIGHT, NINE)
    token = account.run(changes()).token
    account.peer.change(event_id, start=utc(2028, 1, 1, 8), end=utc(2028, 1, 1, 9))
    after = account.run(changes(token))
    assert the_one(after).times.starts_at == utc(2028, 1, 1, 8)
    assert after.removed == frozenset()


def test_an_expired_token_is_said_to_be_so(account: Account) -> None:
    token = account.run(changes()).token
    account.peer.forget_places()
    with pytest.raises(TokenExpired):
        account.run(changes(token))
    assert account.run(changes()).complete


def test_what_is_written_is_read_back(account: Account) -> None:
    made = account.run(create(draft()))
    assert (made.title, made.times, made.key) == ("Call Marie", draft().times, KEY)
    assert (made.description, made.busy) == ("About the shielding.\nBring the plan.", True)
    assert the_one(account.run(changes())) == made
    assert account.run(lambda adapter: adapter.get(made.remote_id)) == made


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "Europe/Vienna", "Asia/Kathmandu", "America/Sao_Paulo", "Etc/GMT-14"]
)
def test_times_are_kept_whatever_the_zone_and_its_clocks(account: Account, zone: str) -> None:
    for number, starts_at in enumerate(
        # The hour that comes twice in Berlin, and the one that comes not at all.
        [utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 30), utc(2026, 3, 29, 1, 30), utc(2026, 7, 1, 22)]
    ):
        times = Times(starts_at, starts_at + HOUR, all_day=False)
        made = account.run(create(draft(key=f"{KEY}{number}", times=times, zone=zone)))
        assert made.times == times


def test_people_see_times_by_the_clocks_of_their_zone(account: Account) -> None:
    account.run(create(draft(zone="America/New_York")))
    (event,) = account.peer.events()
    if account.provider == "google":
        assert event["start"] == {"dateTime": "2026-06-01T10:00:00+02:00", "timeZone": "America/New_York"}
    else:
        assert event["originalStartTimeZone"] == "Eastern Standard Time"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Los_Angeles", "Pacific/Auckland", "Etc/GMT-14"])
def test_a_whole_day_is_the_same_day_everywhere(account: Account, zone: str) -> None:
    day = Times(utc(2026, 6, 1), utc(2026, 6, 2), all_day=True)
    made = account.run(create(draft(times=day, zone=zone)))
    assert made.times == day
    several = Times(utc(2026, 6, 3), utc(2026, 6, 6), all_day=True)
    assert account.run(update(made, draft(times=several, zone=zone), Field.TIMES)).times == several
    # And to an hour, and back.
    moved = account.run(
        update(made, draft(times=MOVED, zone=zone), Field.TIMES, etag=the_one(account.run(changes())).etag)
    )
    assert moved.times == MOVED
    assert account.run(update(moved, draft(times=day, zone=zone), Field.TIMES)).times == day


def test_an_update_leaves_alone_what_it_does_not_name(account: Account) -> None:
    event_id = account.peer.add("Visit", EIGHT, NINE, location="Lab" if account.provider == "google" else {"x": "Lab"})
    entry = the_one(account.run(changes()))
    changed = account.run(update(entry, draft(times=MOVED), Field.TIMES))
    assert (changed.title, changed.description, changed.times, changed.key) == ("Visit", None, MOVED, None)
    changed = account.run(update(changed, draft(title="Inspection"), Field.TITLE))
    assert (changed.title, changed.times) == ("Inspection", MOVED)
    changed = account.run(update(changed, draft(busy=False), Field.BUSY, Field.DESCRIPTION))
    assert (changed.busy, changed.description) == (False, draft().description)
    (event,) = account.peer.events()
    assert event["location"] in ("Lab", {"x": "Lab"})
    assert event["id"] == event_id


def test_nobody_writes_over_what_was_changed_meanwhile(account: Account) -> None:
    event_id = account.peer.add("Visit", EIGHT, NINE)
    known = the_one(account.run(changes()))
    account.peer.change(event_id, **{"summary" if account.provider == "google" else "subject": "Inspection"})
    for field in (Field.TITLE, Field.TIMES, Field.COMPLETED):
        with pytest.raises(Outdated):
            account.run(update(known, draft(), field))
    with pytest.raises(Outdated):
        account.run(delete(known))
    assert title(account) == "Inspection"
    account.run(lambda adapter: adapter.update(event_id, None, draft(), [Field.TITLE]))
    assert title(account) == "Call Marie"


def test_deleting_twice_is_fine(account: Account) -> None:
    made = account.run(create(draft()))
    account.run(delete(made))
    account.run(delete(made))
    assert account.peer.events() == []
    assert account.run(lambda adapter: adapter.get(made.remote_id)) is None
    with pytest.raises(Gone):
        account.run(update(made, draft(), Field.TITLE))


def test_an_answer_that_is_lost_makes_nothing_double(account: Account) -> None:
    token = account.run(changes()).token
    account.peer.next.append(Lost())
    with pytest.raises(Away):
        account.run(create(draft()))
    if account.provider == "google":
        with pytest.raises(Outdated):
            account.run(create(draft()))
    else:
        # It is as it should be: so it does not matter which request has made it.
        account.run(create(draft()))
    assert len(account.peer.events()) == 1
    assert the_one(account.run(changes(token))).key == KEY
    # A moment later the person moves it. Then it is not taken for what we have written.
    account.peer.change(account.peer.events()[0]["id"], start=EIGHT + HOUR, end=NINE + HOUR)
    with pytest.raises(Outdated):
        account.run(create(draft()))
    assert the_one(account.run(changes(token))).times.starts_at == NINE


def test_a_lost_answer_to_a_change_is_found_out(account: Account) -> None:
    made = account.run(create(draft()))
    account.peer.next += [Lost()]
    with pytest.raises(Away):
        account.run(update(made, draft(times=MOVED), Field.TIMES))
    with pytest.raises(Outdated):
        account.run(update(made, draft(times=MOVED), Field.TIMES))
    assert the_one(account.run(changes())).times == MOVED


def test_what_was_deleted_before_we_knew_of_it_can_be_made_again(account: Account) -> None:
    made = account.run(create(draft()))
    account.peer.remove(made.remote_id)
    again = account.run(create(draft()))
    assert again.remote_id != made.remote_id
    account.peer.remove(again.remote_id)
    account.run(create(draft()))
    assert len(account.peer.events()) == 1


def test_a_series_comes_as_its_occurrences(account: Account) -> None:
    rule = "FREQ=WEEKLY"
    more: dict[str, Any] = {"recurrence": [f"RRULE:{rule}"] if account.provider == "google" else rule}
    # In Berlin, always at ten o'clock.
    series = account.peer.add("Weekly", utc(2026, 6, 1, 8), utc(2026, 6, 1, 9), **more)
    found = account.run(changes())
    starts = sorted(entry.times.starts_at for entry in found.entries)
    assert starts == [utc(2026, 6, 1, 8) + timedelta(weeks=week) for week in range(14)]
    assert {(entry.title, entry.series) for entry in found.entries} == {("Weekly", series)}
    first, second, third, *_ = sorted(found.entries, key=lambda entry: entry.times.starts_at)
    # One is moved, one deleted.
    account.peer.change(second.remote_id, start=EIGHT + 8 * HOUR, end=NINE + 8 * HOUR)
    account.peer.remove(third.remote_id)
    after = account.run(changes(found.token))
    now = {entry.remote_id: entry.times.starts_at for entry in after.entries if WINDOW.has(entry.times, entry.series)}
    assert now[second.remote_id] == EIGHT + 8 * HOUR
    assert after.without(third.remote_id, series)
    assert not after.without(first.remote_id, series)
    assert account.run(lambda adapter: adapter.get(third.remote_id)) is None
    # All of it.
    account.peer.remove(series)
    gone = account.run(changes(after.token))
    assert all(gone.without(entry.remote_id, series) for entry in found.entries)


def test_what_is_done_has_a_mark_in_its_title(account: Account) -> None:
    made = account.run(create(draft()))
    done = account.run(update(made, draft(completed=True), Field.COMPLETED))
    assert title(account) == "✓ Call Marie"
    assert (done.title, done.completed) == ("Call Marie", True)
    renamed = account.run(update(done, draft(title="Call Pierre", completed=False), Field.TITLE))
    assert (title(account), renamed.completed) == ("✓ Call Pierre", True)
    account.run(update(renamed, draft(completed=False), Field.COMPLETED))
    assert title(account) == "Call Pierre"


def test_who_is_invited_sees_no_mark(account: Account) -> None:
    event_id = account.peer.add("Visit", EIGHT, NINE)
    invite(account, event_id, "Marie@Radium.example")
    entry = the_one(account.run(changes()))
    assert entry.attendees == ("marie@radium.example",)
    done = account.run(update(entry, draft(completed=True), Field.COMPLETED))
    assert (done.completed, done.title, title(account)) == (True, "Visit", "Visit")
    again = account.run(update(done, draft(completed=False), Field.COMPLETED))
    assert again.completed is False
    # The person puts the mark there.
    account.peer.change(event_id, **{"summary" if account.provider == "google" else "subject": "✓ Visit"})
    entry = the_one(account.run(changes()))
    assert entry.completed


def test_only_the_organizer_moves_what_others_invite_to(account: Account) -> None:
    marie: Any = {"email": "marie@radium.example"}
    if account.provider == "microsoft":
        marie = {"emailAddress": {"address": "marie@radium.example"}}
    account.peer.add("Tour of the lab", EIGHT, NINE, organizer=marie)
    entry = the_one(account.run(changes()))
    assert entry.attendees == ("marie@radium.example",)
    with pytest.raises(Refused):
        account.run(update(entry, draft(times=MOVED), Field.TIMES))
    done = account.run(update(entry, draft(completed=True), Field.COMPLETED))
    assert done.completed
    account.run(delete(done))
    assert account.peer.events() == []


def test_what_a_person_declined_takes_no_time(account: Account) -> None:
    if account.provider == "google":
        own = {"email": "ada@example.com", "self": True, "responseStatus": "declined"}
        account.peer.add("Visit", EIGHT, NINE, attendees=[own])
        account.peer.add("Reading", EIGHT, NINE, transparency="transparent")
        account.peer.add("Perhaps", EIGHT, NINE, status="tentative")
    else:
        account.peer.add("Visit", EIGHT, NINE, responseStatus={"response": "declined"})
        account.peer.add("Reading", EIGHT, NINE, showAs="free")
        account.peer.add("Perhaps", EIGHT, NINE, showAs="tentative")
    found = {entry.title: (entry.busy, entry.status) for entry in account.run(changes()).entries}
    assert found == {"Visit": (False, "confirmed"), "Reading": (False, "confirmed"), "Perhaps": (True, "tentative")}


def test_reminders_are_minutes_before(account: Account) -> None:
    made = account.run(create(draft(remind_at=EIGHT - timedelta(minutes=45))))
    (event,) = account.peer.events()
    google = account.provider == "google"
    reminder = event["reminders"]["overrides"][0] if google else event
    assert reminder["minutes" if google else "reminderMinutesBeforeStart"] == 45
    account.run(update(made, draft(), Field.REMIND_AT))
    (event,) = account.peer.events()
    assert event["reminders"]["useDefault"] if google else not event["isReminderOn"]
    # Of a whole day, before its midnight in Berlin.
    day = Times(utc(2026, 6, 1), utc(2026, 6, 2), all_day=True)
    account.peer.remove(made.remote_id)
    account.run(create(draft(key=f"{KEY}2", times=day, remind_at=utc(2026, 5, 31, 16))))
    (event,) = account.peer.events()
    reminder = event["reminders"]["overrides"][0] if google else event
    assert reminder["minutes" if google else "reminderMinutesBeforeStart"] == 6 * 60


FAILURES: list[tuple[Fail, type[Exception], float | None]] = [
    (Fail(429, "rateLimitExceeded", {"Retry-After": "17"}), Throttled, 17.0),
    (Fail(429, "ApplicationThrottled"), Throttled, None),
    (Fail(403, "rateLimitExceeded"), Throttled, None),
    (Fail(403, "userRateLimitExceeded", {"Retry-After": "5"}), Throttled, 5.0),
    (Fail(403, "quotaExceeded"), Throttled, None),
    (Fail(403, "forbidden"), Refused, None),
    (Fail(403, "insufficientPermissions"), ReconnectNeeded, None),
    (Fail(503, "serviceNotAvailable", {"Retry-After": "30"}), Throttled, 30.0),
    (Fail(429, "x", {"Retry-After": http_date(2_000_000_060), "Date": http_date(2_000_000_000)}), Throttled, 60.0),
    (Fail(429, "x", {"Retry-After": "soon"}), Throttled, None),
    (Fail(429, "x", {"Retry-After": "99999999"}), Throttled, 86_400.0),
    (Fail(500, "backendError"), Away, None),
    (Fail(502), Away, None),
    (Fail(504, "ErrorInternalServerTransientError"), Away, None),
    (Fail(400, "badRequest"), Refused, None),
    (Fail(400, "SyncStateInvalid"), TokenExpired, None),
    (Fail(410, "resyncRequired"), TokenExpired, None),
    (Fail(410, "updatedMinTooLongAgo"), TokenExpired, None),
    (Fail(404, "notFound"), TokenExpired, None),
]


def test_failures_have_one_meaning(account: Account) -> None:
    token = account.run(changes()).token
    account.peer.next += [fail for fail, _, _ in FAILURES]

    async def meanings(adapter: Adapter) -> list[tuple[type[Exception], float | None]]:
        found: list[tuple[type[Exception], float | None]] = []
        for _ in FAILURES:
            with pytest.raises(CalendarError) as caught:
                await adapter.changes(token, WINDOW)
            found.append((type(caught.value), getattr(caught.value, "seconds", None)))
            assert not any(secret in str(caught.value) for secret in account.peer.tokens)
        return found

    assert account.run(meanings) == [(kind, seconds) for _, kind, seconds in FAILURES]


def test_more_than_there_is_room_for_is_refused(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"app.calendars.{account.provider}.MOST_ENTRIES", 3)
    for number in range(3):
        account.peer.add(f"Visit {number}", EIGHT, NINE)
    assert len(account.run(changes()).entries) == 3
    account.peer.add("One more", EIGHT, NINE)
    with pytest.raises(Refused, match="more than 3 entries"):
        account.run(changes())


def test_texts_are_such_that_a_record_can_store_them(account: Account) -> None:
    google = account.provider == "google"
    text = "Line\r\n" + "z̷" * 20_000 + "\x00\x07"
    body = {"description": text} if google else {"body": {"contentType": "text", "content": text}}
    account.peer.add("A\tb\nc\x00" + "x" * 300, date(2026, 6, 1), date(2026, 6, 2), **body)
    entry = the_one(account.run(changes()))
    assert entry.title == ("A b c " + "x" * 300)[:255]
    assert entry.description is not None
    assert len(entry.description) <= 10_000
    assert "\x00" not in entry.description
    assert entry.description.startswith("Line\n")
