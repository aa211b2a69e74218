"""What people are told, exactly once, and how they want to be told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.admin.jobs.schemas import JobKind
from app.admin.notifications.mentions import People, mentioned
from app.admin.notifications.schemas import NotificationKind
from app.admin.notifications.watching import NotificationWatch, prune_notifications, remind
from app.db.database import Database
from app.db.roles import enter_tenant
from app.events import streams
from app.locales import Locale
from app.sentences import SENTENCES, sentence
from app.settings import Settings
from tests.callers import Caller, Callers, refused
from tests.records.chains import seal
from tests.streams import listening

Tell = Callable[[], None]
PATH = "/admin/me/notifications"
SETTINGS = "/admin/me/notification-settings"
NAME = "admin@example.com"


@pytest.fixture
def tell(settings: Settings, tenant: str) -> Tell:
    """Do what the background does for the organization."""

    async def catch_up() -> None:
        async with Database(settings) as database:
            await NotificationWatch(database).catch_up(tenant)
            await remind(database)

    def run() -> None:
        seal(settings)
        asyncio.run(catch_up())

    return run


def told(caller: Caller, **query: Any) -> list[tuple[str, str]]:
    """The kinds and texts of what a person was told, newest first."""
    return [(each["kind"], each["text"]) for each in caller.ok("GET", PATH, **query)["data"]]


def later(**after: int) -> str:
    return (datetime.now(UTC) + timedelta(**after)).isoformat()


def test_what_somebody_else_gives_a_person_is_told_once(admin: Caller, agent: Caller, tell: Tell) -> None:
    mine = admin.customer("Mine", assigned_to=agent.user_id)
    agent.ok("POST", "/admin/activities", {"title": "My own", "type": "call"})
    tell()
    tell()
    (notification,) = agent.ok("GET", PATH)["data"]
    assert notification == {
        "id": notification["id"],
        "kind": "assigned",
        "at": notification["at"],
        "read_at": None,
        "actor": {"id": admin.user_id, "name": notification["actor"]["name"]},
        "record": {"type": "customer", "id": mine["id"], "title": "Mine"},
        "text": f"{notification['actor']['name']} assigned a customer to you: Mine",
    }
    assert admin.ok("GET", PATH)["data"] == []


def test_a_reminder_comes_once_and_not_of_what_is_done(admin: Caller, tell: Tell) -> None:
    for title, fields in (
        ("Call", {}),
        ("Done", {"status": "completed"}),
        ("Later", {"remind_at": later(hours=1)}),
        ("Trashed", {}),
    ):
        body = {"title": title, "type": "call", "due_date": later(hours=1), "remind_at": later(seconds=-5), **fields}
        made = admin.ok("POST", "/admin/activities", body)
        if title == "Trashed":
            admin.ok("DELETE", f"/admin/activities/{made['id']}")
    tell()
    tell()
    ((kind, text),) = told(admin)
    assert kind == "reminder"
    assert text.startswith("Reminder of an activity, due on ")
    assert text.endswith(": Call")


def test_a_live_stream_tells_its_person_of_new_notifications_and_nobody_else(
    admin: Caller, agent: Caller, manager: Caller, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "NOTICE_SECONDS", 0.02)
    admin.customer("Before", assigned_to=agent.user_id)
    tell()
    with listening(agent) as mine, listening(manager) as theirs:
        made = [admin.customer(name, assigned_to=agent.user_id)["id"] for name in ("One", "Two")]
        tell()
        heard = [event for event in mine.events(4) if event.type == "notification"]
        admin.customer("Last", assigned_to=manager.user_id)
        tell()
        others = [event for event in theirs.events(4) if event.type == "notification"]
    assert [(event.id, event.data["kind"], event.data["resource_id"]) for event in heard] == [
        (None, "assigned", customer) for customer in made
    ]
    listed = agent.ok("GET", PATH)["data"]
    assert [event.data["id"] for event in heard] == [each["id"] for each in reversed(listed)][1:]
    assert [event.data["resource_type"] for event in others] == ["customer"]


# ── what others do ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_action_tells_a_person_once(admin: Caller, manager: Caller, agent: Caller, tell: Tell) -> None:
    ids = [admin.customer(name)["id"] for name in ("First", "Second", "Third")]
    given = {"values": {"assigned_to": agent.user_id}}
    admin.ok("POST", "/admin/customers/bulk", {"ids": ids, "action": "reassign", **given})
    deal = admin.ok("POST", "/admin/deals", {"title": "Big", "customer_id": ids[0], "owner_id": manager.user_id})["id"]
    tell()
    assert [text for _, text in told(agent)] == [f"{NAME} assigned a customer to you: First, and 2 more"]
    admin.ok("PATCH", f"/admin/deals/{deal}", {"stage": "proposal", "owner_id": agent.user_id})
    tell()
    assert [kind for kind, _ in told(agent)] == ["assigned", "assigned"]
    # Of the deal that was the manager's, only what happened while it was.
    assert told(manager) == [("assigned", f"{NAME} assigned a deal to you: Big")]


def test_whose_deal_somebody_else_moves_is_told(admin: Caller, manager: Caller, tell: Tell) -> None:
    customer = admin.customer()["id"]
    deal = manager.ok("POST", "/admin/deals", {"title": "Big", "customer_id": customer})["id"]
    manager.ok("PATCH", f"/admin/deals/{deal}", {"stage": "qualification"})
    admin.ok("PATCH", f"/admin/deals/{deal}", {"title": "Bigger"})
    tell()
    assert told(manager) == []
    admin.ok("PATCH", f"/admin/deals/{deal}", {"stage": "proposal"})
    tell()
    assert told(manager) == [("deal_moved", f"{NAME} moved a deal of yours to another stage: Bigger")]


def test_a_note_tells_whom_it_names(admin: Caller, callers: Callers, tell: Tell) -> None:
    ann, annabel = (callers.person("agent", admin.tenant, name=name) for name in ("Ann Bo", "Ann Boleyn"))
    for caller in (ann, annabel):
        caller.ok("GET", "/admin/me")
    customer = admin.customer()["id"]
    note = admin.ok("POST", "/admin/notes", {"content": "Ask @ann  boleyn, not x@ann bo.", "customer_id": customer})
    tell()
    assert told(annabel) == [("mentioned", f"{NAME} mentioned you in a note: Ask @ann boleyn, not x@ann bo.")]
    assert told(ann) == []
    admin.ok("PATCH", f"/admin/notes/{note['id']}", {"content": "Ask @Ann Boleyn or @Ann Bo"})
    tell()
    assert [kind for kind, _ in told(annabel)] == ["mentioned"]
    assert [kind for kind, _ in told(ann)] == ["mentioned"]


def test_notes_of_one_action_tell_once_and_those_that_are_moved_in_nobody(
    admin: Caller, callers: Callers, settings: Settings, tell: Tell
) -> None:
    ann = callers.person("agent", admin.tenant, name="Ann Bo")
    ann.ok("GET", "/admin/me")
    customer = admin.customer()["id"]
    notes = [{"content": f"{number}: @Ann Bo", "customer_id": customer} for number in range(3)]
    requests = [{"method": "POST", "path": "/admin/notes", "body": note} for note in notes]
    admin.ok("POST", "/admin/batch", {"requests": requests})
    with psycopg.connect(settings.database_dsn) as connection:
        enter_tenant(connection, admin.tenant, {"user_id": admin.user_id, "user_name": "Ada", "via": "import"})
        connection.execute(
            "INSERT INTO notes (tenant_id, author_id, content, customer_id)"
            " SELECT %s, %s, '@Ann Bo ' || n, %s FROM generate_series(1, 9) AS n",
            [admin.tenant, admin.user_id, customer],
        )
    tell()
    assert told(ann) == [("mentioned", f"{NAME} mentioned you in a note: 0: @Ann Bo, and 2 more")]


def test_of_what_one_action_does_a_person_is_told_what_they_want_to_hear(
    admin: Caller, callers: Callers, tell: Tell
) -> None:
    ann = callers.person("agent", admin.tenant, name="Ann Bo")
    ann.ok("PUT", SETTINGS, {"kinds": {"assigned": {"in_app": False, "email": False}}})
    customer = admin.customer()["id"]
    requests = [
        {"method": "PATCH", "path": f"/admin/customers/{customer}", "body": {"assigned_to": ann.user_id}},
        {"method": "POST", "path": "/admin/notes", "body": {"content": "For @Ann Bo", "customer_id": customer}},
    ]
    admin.ok("POST", "/admin/batch", {"requests": requests})
    tell()
    assert [kind for kind, _ in told(ann)] == ["mentioned"]


def test_whose_deal_is_moved_is_told_also_when_it_is_given_away_later(
    admin: Caller, manager: Caller, agent: Caller, tell: Tell
) -> None:
    customer = admin.customer()["id"]
    deal = manager.ok("POST", "/admin/deals", {"title": "Big", "customer_id": customer})["id"]
    admin.ok("PATCH", f"/admin/deals/{deal}", {"stage": "qualification"})
    admin.ok("PATCH", f"/admin/deals/{deal}", {"owner_id": agent.user_id})
    tell()
    assert [kind for kind, _ in told(manager)] == ["deal_moved"]
    assert [kind for kind, _ in told(agent)] == ["assigned"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("@Ann", {"1"}),
        ("(@ann)!", {"1"}),
        ("@Anna", set()),
        ("@Ann_", set()),
        ("mail me at x@Ann", set()),
        ("@ann lee", {"2"}),
        ("@Ann\nLee", {"2"}),
        ("@Ann Leeds", {"1"}),
        ("@JOSÉ and @Straße", {"3", "4", "5"}),
        ("@ada@x.co", {"6"}),
        ("@@Ann", {"1"}),
        ("", set()),
    ],
)
def test_a_name_after_an_at_sign_is_its_persons(content: str, named: set[str]) -> None:
    names = ["Ann", "Ann Lee", "Jose\N{COMBINING ACUTE ACCENT}", "STRASSE", "José", "ada@x.co"]
    people = People((str(number), name) for number, name in enumerate(names, 1))
    assert mentioned(content, people) == named


def test_many_at_signs_take_no_time() -> None:
    people = People([("1", "a" * 255)])
    assert mentioned(("@" + "a" * 254) * 80, people) == set()
    assert mentioned("@" * 20_000, people) == set()


def test_admins_are_told_of_a_webhook_that_the_service_switched_off(
    admin: Caller, manager: Caller, settings: Settings, tell: Tell
) -> None:
    hook = {"url": "https://198.51.100.7/hook", "types": ["deal.*"]}
    with psycopg.connect(settings.database_dsn) as connection:
        enter_tenant(connection, admin.tenant, {})
        manager.ok("GET", "/admin/me")
        admin.ok("GET", "/admin/me")
        connection.execute(
            "INSERT INTO webhooks (tenant_id, url, types) VALUES (%s, %s, %s)",
            [admin.tenant, hook["url"], hook["types"]],
        )
        connection.execute("UPDATE webhooks SET is_active = false")
    tell()
    ((kind, text),) = told(admin)
    assert kind == "webhook_disabled"
    assert text.endswith(f": {hook['url']}")
    assert told(manager) == []


# ── what is due ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def looked_until(settings: Settings) -> Callable[[timedelta], None]:
    """As if reminders had been made up to so long ago."""

    def put_back(ago: timedelta) -> None:
        with psycopg.connect(settings.migration_dsn) as owner:
            owner.execute("SELECT set_config('crm.tenant', '', true)")
            owner.execute("UPDATE reminder_progress SET until = now() - %s", [ago])

    return put_back


def test_what_was_due_on_a_day_is_overdue_once_when_the_day_has_ended(
    admin: Caller, tell: Tell, looked_until: Callable[[timedelta], None]
) -> None:
    zone = ZoneInfo("Pacific/Auckland")
    admin.ok("PUT", "/admin/settings", {"timezone": zone.key})
    today = datetime.now(zone).date()
    for title, days in (("Yesterday", 1), ("Today", 0), ("Long ago", 5)):
        body = {"title": title, "type": "call", "due_date": str(today - timedelta(days=days))}
        admin.ok("POST", "/admin/activities", body)
    looked_until(timedelta(hours=26))
    tell()
    looked_until(timedelta(hours=26))
    tell()
    yesterday = Locale.ENGLISH.day(today - timedelta(days=1))
    assert told(admin) == [("overdue", f"An activity was due on {yesterday}: Yesterday")]


def test_a_zone_that_the_server_does_not_know_stops_nobodys_reminders(
    admin: Caller, stranger: Caller, tell: Tell, settings: Settings, looked_until: Callable[[timedelta], None]
) -> None:
    """As after a backup was read into an older server."""
    due = datetime.now(UTC) - timedelta(seconds=30)
    for person in (admin, stranger):
        person.ok("PUT", SETTINGS, {"quiet_hours": {"from": "00:00", "to": "23:59"}, "digest": "daily"})
        person.ok("POST", "/admin/activities", {"title": "Call", "type": "call", "due_date": due.isoformat()})
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [stranger.tenant])
        for table in ("settings", "notification_settings"):
            owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER known_timezone, NO FORCE ROW LEVEL SECURITY")
            owner.execute(f"UPDATE {table} SET timezone = 'Mars/Olympus' WHERE tenant_id = %s", [stranger.tenant])
            owner.execute(f"ALTER TABLE {table} ENABLE TRIGGER known_timezone, FORCE ROW LEVEL SECURITY")
    try:
        looked_until(timedelta(minutes=1))
        tell()
        assert [kind for kind, _ in told(admin)] == ["overdue"]
        with psycopg.connect(settings.migration_dsn) as owner:
            kinds = "SELECT kind FROM notifications WHERE user_id = %s"
            owner.execute("SELECT set_config('crm.tenant', %s, true)", [stranger.tenant])
            owner.execute("SELECT set_config('crm.user', %s, true)", [stranger.user_id])
            assert owner.execute(kinds, [stranger.user_id]).fetchall() == [("overdue",)]
        with psycopg.connect(settings.database_dsn) as service:
            service.execute("SET ROLE crm_service")
            service.execute("SELECT crm_make_digests()")
    finally:
        stranger.ok("PUT", "/admin/settings", {"timezone": "UTC"})
        stranger.ok("PUT", SETTINGS, {"timezone": "UTC"})


def test_a_project_is_overdue_once_when_its_day_has_ended(
    admin: Caller, tell: Tell, looked_until: Callable[[timedelta], None]
) -> None:
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    for name, fields in (
        ("Late", {}),
        ("Done", {"status": "completed"}),
        ("Today", {"due_date": str(datetime.now(UTC).date())}),
    ):
        admin.ok("POST", "/admin/projects", {"name": name, "due_date": str(yesterday)} | fields)
    for _ in range(2):
        looked_until(timedelta(hours=26))
        tell()
    assert told(admin) == [("overdue", f"A project was due on {Locale.ENGLISH.day(yesterday)}: Late")]


def test_a_moment_that_passes_is_overdue_and_a_new_one_again(admin: Caller, tell: Tell) -> None:
    body = {"title": "Call", "type": "call", "due_date": later(seconds=-5)}
    call = admin.ok("POST", "/admin/activities", body)["id"]
    tell()
    admin.ok("PATCH", f"/admin/activities/{call}", {"due_date": later(seconds=-3)})
    tell()
    admin.ok("PATCH", f"/admin/activities/{call}", {"due_date": later(seconds=-2), "status": "cancelled"})
    tell()
    assert [kind for kind, _ in told(admin)] == ["overdue", "overdue"]


def test_follow_ups_and_closings_remind_as_long_before_as_the_person_wants(
    admin: Caller, tell: Tell, looked_until: Callable[[timedelta], None]
) -> None:
    admin.ok("PUT", SETTINGS, {"remind": {"follow_ups": 60, "closings": 120}})
    mine = {"assigned_to": admin.user_id}
    for name, minutes in (("Soon", 59), ("Later", 62), ("Past", -90)):
        admin.customer(name, next_follow_up_at=later(minutes=minutes), **mine)
    moved = admin.customer("Moved", next_follow_up_at=later(minutes=58), **mine)["id"]
    admin.ok("PATCH", f"/admin/customers/{moved}", {"next_follow_up_at": later(days=3)})
    for title, fields in (
        ("Open", {"expected_close_date": later(minutes=119)}),
        ("Won", {"expected_close_date": later(minutes=119), "stage": "closed_won", "amount": 1}),
        ("In days", {"expected_close_date": later(days=2)}),
    ):
        admin.ok("POST", "/admin/deals", {"title": title, "customer_id": moved, **fields})
    looked_until(timedelta(minutes=10))
    tell()
    tell()
    texts = [text for _, text in told(admin)]
    assert sorted(text.rsplit(": ", 1)[1] for text in texts) == ["Open", "Soon"]
    assert {text.split(" on ")[0] for text in texts} == {"A deal is expected to close", "Follow up with a customer"}


def test_a_whole_days_reminder_counts_from_the_end_of_the_day(
    admin: Caller, tell: Tell, looked_until: Callable[[timedelta], None]
) -> None:
    zone = ZoneInfo("America/New_York")
    admin.ok("PUT", "/admin/settings", {"timezone": zone.key})
    now = datetime.now(zone)
    day = now.date() + timedelta(days=3)
    ends = datetime(day.year, day.month, day.day, tzinfo=zone) + timedelta(days=1)
    minutes = int((ends.astimezone(UTC) - now.astimezone(UTC)).total_seconds() // 60)
    looked_until(timedelta(minutes=5))
    tell()
    admin.ok("PUT", SETTINGS, {"remind": {"follow_ups": minutes - 5}})
    admin.customer("Ada", assigned_to=admin.user_id, next_follow_up_at=str(day))
    tell()
    assert told(admin) == []
    admin.ok("PUT", SETTINGS, {"remind": {"follow_ups": minutes + 1}})
    tell()
    assert told(admin) == [("reminder", f"Follow up with a customer on {Locale.ENGLISH.day(day)}: Ada")]


def test_what_is_set_to_soon_is_told_at_once_unless_it_is_told_anyway(admin: Caller, agent: Caller, tell: Tell) -> None:
    agent.ok("PUT", SETTINGS, {"remind": {"follow_ups": 600}})
    soon = {"next_follow_up_at": later(minutes=30)}
    given = admin.customer("Given", assigned_to=agent.user_id, **soon)["id"]
    tell()
    assert [kind for kind, _ in told(agent)] == ["assigned"]
    admin.ok("PATCH", f"/admin/customers/{given}", {"next_follow_up_at": later(minutes=40)})
    tell()
    assert [kind for kind, _ in told(agent)] == ["reminder", "assigned"]


def test_whoever_wants_to_hear_of_no_assignment_is_reminded_of_what_is_given(
    admin: Caller, agent: Caller, tell: Tell
) -> None:
    quiet = {"assigned": {"in_app": False, "email": False}}
    agent.ok("PUT", SETTINGS, {"remind": {"follow_ups": 600}, "kinds": quiet})
    admin.customer("Given", assigned_to=agent.user_id, next_follow_up_at=later(minutes=30))
    tell()
    assert [kind for kind, _ in told(agent)] == ["reminder"]


def test_what_should_have_been_reminded_of_days_ago_and_is_ahead_is_told_at_once(admin: Caller, tell: Tell) -> None:
    for title, due in (("Ahead", later(days=2)), ("Past", later(days=-2))):
        body = {"title": title, "type": "call", "due_date": due, "remind_at": later(days=-3)}
        admin.ok("POST", "/admin/activities", body)
    tell()
    assert [text.rsplit(": ", 1)[1] for kind, text in told(admin) if kind == "reminder"] == ["Ahead"]


# ── what has ended ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_asked_for_a_job_is_told_of_its_end(admin: Caller, manager: Caller, settings: Settings, tell: Tell) -> None:
    ids = [admin.ok("POST", "/admin/report-runs", {"report": "team", "format": "json"})["job"]["id"] for _ in range(3)]
    ends = ({"status": "done"}, {"status": "failed"}, {"status": "cancelled"})
    with psycopg.connect(settings.database_dsn) as connection:
        enter_tenant(connection, admin.tenant, {})
        for job, end in zip(ids, ends, strict=True):
            connection.execute("UPDATE jobs SET status = %s, finished_at = now() WHERE id = %s", [end["status"], job])
    tell()
    tell()
    found = admin.ok("GET", PATH)["data"]
    assert {(each["kind"], each["text"], each["record"]["id"], each["actor"] is None) for each in found} == {
        ("report_ready", "Your report is ready", ids[0], True),
        ("job_failed", "Your report could not be made", ids[1], True),
    }
    assert told(manager) == []


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_person_reads_one_or_all_of_their_own(admin: Caller, agent: Caller, stranger: Caller, tell: Tell) -> None:
    for name in ("One", "Two", "Three"):
        admin.customer(name, assigned_to=agent.user_id)
        tell()
    first, second, third = agent.ok("GET", PATH, unread="true")["data"]
    for caller in (admin, stranger):
        refused(caller.post(f"{PATH}/{first['id']}/read"), 404, "NOTIFICATION_NOT_FOUND")
    read = agent.ok("POST", f"{PATH}/{first['id']}/read")
    assert read == {**first, "read_at": read["read_at"]}
    assert agent.ok("POST", f"{PATH}/{first['id']}/read") == read
    assert agent.ok("POST", f"{PATH}/read", {"until": third["at"]}) == {"read": 1}
    assert [each["id"] for each in agent.ok("GET", PATH, unread="true")["data"]] == [second["id"]]
    assert [each["id"] for each in agent.ok("GET", PATH, unread="false")["data"]] == [first["id"], third["id"]]
    page = agent.ok("GET", PATH, page_size=2)
    rest = agent.ok("GET", PATH, cursor=page["next_cursor"])
    assert [each["id"] for each in page["data"] + rest["data"]] == [first["id"], second["id"], third["id"]]


def test_the_title_is_for_who_may_see_the_record(
    admin: Caller, callers: Callers, own_scope: TestClient[Litestar], tell: Tell
) -> None:
    agent = callers.person("agent", admin.tenant, client=own_scope)
    customer = admin.customer("Secret", assigned_to=agent.user_id)["id"]
    tell()
    assert told(agent) == [("assigned", f"{NAME} assigned a customer to you: Secret")]
    admin.ok("PATCH", f"/admin/customers/{customer}", {"assigned_to": None})
    (hidden,) = agent.ok("GET", PATH)["data"]
    assert (hidden["record"]["title"], hidden["text"]) == (None, f"{NAME} assigned a customer to you")


def test_notifications_go_with_their_record(admin: Caller, agent: Caller, tell: Tell) -> None:
    customer = admin.customer("Ada", assigned_to=agent.user_id)["id"]
    tell()
    admin.ok("DELETE", f"/admin/customers/{customer}")
    assert [text for _, text in told(agent)] == [f"{NAME} assigned a customer to you"]
    admin.ok("POST", f"/admin/customers/{customer}/erase", {"reason": "Asked for it", "confirm": "Ada"})
    assert told(agent) == []


def test_the_service_sees_only_the_persons_own(admin: Caller, agent: Caller, settings: Settings, tell: Tell) -> None:
    admin.customer("Ada", assigned_to=agent.user_id)
    agent.ok("GET", "/admin/me")
    tell()
    counts = []
    with psycopg.connect(settings.database_dsn) as connection:
        for person in (agent.user_id, admin.user_id):
            enter_tenant(connection, admin.tenant, {})
            connection.execute("SELECT set_config('crm.user', %s, true)", [person])
            (row,) = connection.execute("SELECT count(*), min(user_id) FROM notification_settings").fetchall()
            assert row == (1, person)
            counts += connection.execute("SELECT count(*) FROM notifications").fetchall()
    assert counts == [(1,), (0,)]


def test_old_notifications_are_forgotten(admin: Caller, agent: Caller, settings: Settings, tell: Tell) -> None:
    for name in ("Old", "New"):
        admin.customer(name, assigned_to=agent.user_id)
        tell()
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [admin.tenant])
        owner.execute(
            "UPDATE notifications SET at = now() - interval '91 days' WHERE id = (SELECT min(id) FROM notifications)"
        )

    async def prune() -> None:
        async with Database(settings) as database:
            await prune_notifications(database)

    asyncio.run(prune())
    assert [text.rsplit(": ", 1)[1] for _, text in told(agent)] == ["New"]


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_person_says_how_to_be_told(admin: Caller, agent: Caller, tell: Tell) -> None:
    admin.ok("PUT", "/admin/settings", {"timezone": "Europe/Berlin"})
    before = agent.ok("GET", SETTINGS)
    assert before["kinds"].keys() == {kind.value for kind in NotificationKind}
    assert all(ways["in_app"] for ways in before["kinds"].values())
    del before["kinds"]
    assert before == {
        "digest": "none",
        "digest_at": "08:00",
        "quiet_hours": None,
        "timezone": "Europe/Berlin",
        "locale": "en",
        "remind": {"follow_ups": 900, "closings": 2340},
    }
    change = {
        "kinds": {"assigned": {"in_app": False, "email": False}, "overdue": {"email": True}},
        "digest": "daily",
        "digest_at": "07:30",
        "quiet_hours": {"from": "20:00", "to": "07:00"},
        "timezone": "Asia/Dubai",
        "locale": "ar",
        "remind": {"closings": None},
    }
    after = agent.ok("PUT", SETTINGS, change)
    assert after == agent.ok("GET", SETTINGS)
    assert agent.ok("PUT", SETTINGS, after) == after
    assert after["kinds"]["assigned"] == {"in_app": False, "email": False}
    assert after["kinds"]["overdue"] == {"in_app": True, "email": True}
    assert after["remind"] == {"follow_ups": 900, "closings": None}
    assert {name: after[name] for name in change.keys() - {"kinds", "remind"}} == {
        name: value for name, value in change.items() if name not in {"kinds", "remind"}
    }
    assert agent.ok("PUT", SETTINGS, {"quiet_hours": None, "timezone": None})["timezone"] == "Europe/Berlin"
    assert admin.ok("GET", SETTINGS)["locale"] == "en"
    admin.customer("Ada", assigned_to=agent.user_id)
    tell()
    assert told(agent) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kinds": {"assigned": {"in_app": "yes"}}}, "kinds"),
        ({"kinds": {"gossip": {"in_app": True}}}, "kinds"),
        ({"kinds": {"assigned": {"sms": True}}}, "kinds"),
        ({"digest": "hourly"}, "digest"),
        ({"digest_at": "24:00"}, "digest_at"),
        ({"quiet_hours": {"from": "20:00"}}, "quiet_hours"),
        ({"quiet_hours": {"from": "20:00", "to": "20:00"}}, "quiet_hours"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"locale": "fr"}, "locale"),
        ({"remind": {"follow_ups": -1}}, "remind"),
        ({"remind": {"closings": 43_201}}, "remind"),
    ],
)
def test_settings_that_make_no_sense_are_refused(admin: Caller, body: dict[str, Any], field: str) -> None:
    (fault,) = refused(admin.put(SETTINGS, body), 400, "INVALID_REQUEST")["fields"]
    assert fault["field"] == field


@pytest.mark.parametrize("body", [{"digest_at": "8:00"}, {"quiet_hours": {"from": "8:00", "to": "20:00"}}])
def test_a_time_of_day_that_is_none_is_told_in_plain_words(admin: Caller, body: dict[str, Any]) -> None:
    (fault,) = refused(admin.put(SETTINGS, body), 400, "INVALID_REQUEST")["fields"]
    assert "must be text like HH:MM, such as 08:30" in fault["message"]


def test_what_is_only_mailed_is_not_shown(admin: Caller, agent: Caller, settings: Settings, tell: Tell) -> None:
    agent.ok("PUT", SETTINGS, {"kinds": {"assigned": {"in_app": False, "email": True}}})
    admin.customer("Ada", assigned_to=agent.user_id)
    tell()
    assert agent.ok("GET", PATH)["total"] == 0
    assert agent.ok("POST", f"{PATH}/read", {"until": later(days=1)}) == {"read": 0}
    with psycopg.connect(settings.database_dsn) as connection:
        enter_tenant(connection, admin.tenant, {})
        assert connection.execute("SELECT in_app, by_email FROM notifications").fetchall() == [(False, True)]


# ── sentences ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_sentence_is_there_in_each_language() -> None:
    for name, languages in SENTENCES.items():
        assert languages.keys() == set(Locale), name
        fields = {locale: set(re.findall(r"{(\w+)}", text)) for locale, text in languages.items()}
        assert len(set(map(frozenset, fields.values()))) == 1, name
    assert {name.split("/")[0] for name in SENTENCES} == {kind.value for kind in NotificationKind}
    assert {f"job_failed/{kind}" for kind in JobKind} <= SENTENCES.keys()


@pytest.mark.parametrize(
    ("locale", "said"),
    [
        (Locale.ENGLISH, "Ada assigned a deal to you: Motor, and one more"),
        (Locale.GERMAN, "Ada hat Ihnen einen Deal zugewiesen: Motor und ein weiterer Datensatz"),
        (Locale.ARABIC, "أُسندت إليك صفقة من \u2068Ada\u2069: \u2068Motor\u2069، وسجل آخر"),
    ],
)
def test_a_sentence_is_in_the_readers_language(locale: Locale, said: str) -> None:
    zone = ZoneInfo("Europe/Berlin")
    assert sentence(locale, zone, "assigned", "deal", actor="Ada", title="Motor", data={"count": 2}) == said


@pytest.mark.parametrize(
    ("locale", "said"),
    [
        (Locale.ENGLISH, "An activity was due on 5 March 2026, 16:30"),
        (Locale.GERMAN, "Eine Aktivität war am 5. März 2026, 16:30 fällig"),
        (Locale.ARABIC, "تأخر نشاط كان موعده 5 مارس 2026، 4:30 م"),
    ],
)
def test_a_time_is_in_the_readers_timezone(locale: Locale, said: str) -> None:
    data = {"due_at": "2026-03-05T15:30:00+00:00", "all_day": False}
    text = sentence(locale, ZoneInfo("Europe/Berlin"), "overdue", "activity", data=data)
    assert text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ") == said
