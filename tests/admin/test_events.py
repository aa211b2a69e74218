"""The change feed, as another system reads it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from app.access.actor import Actor
from app.access.permissions import Role
from app.db.database import Database
from app.events import feed, waiting
from app.events.types import DERIVED, NAMES, VERBS
from app.events.waiting import NewEvents
from app.records.audit_values import ResourceType
from app.records.transaction import Transaction
from app.settings import Settings
from tests.callers import Caller, refused

Seal = Callable[[], None]


@pytest.fixture
def seal(service_connection: psycopg.Connection) -> Seal:
    """Seals what was committed, as the service does it in the background."""

    def sealed() -> None:
        until = time.monotonic() + 10
        while True:
            row = service_connection.execute("SELECT sealed, newest FROM crm_seal_audit(1000)").fetchone()
            assert row is not None
            if row[0] is not None and row[0] >= row[1]:
                return
            assert time.monotonic() < until, "something on this server holds the seals"

    return sealed


def events(caller: Caller, after: int = 0, **filters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = caller.ok("GET", "/admin/events", after=after, **filters)["data"]
    return found


def test_an_event_says_what_changed_and_how_the_record_is_now(admin: Caller, seal: Seal) -> None:
    customer = admin.customer("Ada")
    path = f"/admin/customers/{customer['id']}"
    changed = admin.patch(path, {"assigned_to": 12, "status": "active"}, headers={"X-Request-ID": "request-7"})
    admin.ok("PATCH", path, {"name": "Ada L"})
    seal()
    told = admin.ok("GET", "/admin/events", after=0)
    assert (told["last_sequence"], told["has_more"]) == (3, False)
    assert [event["sequence"] for event in told["data"]] == [1, 2, 3]
    at = admin.audit(request_id="request-7")[0]["created_at"]
    (listed,) = admin.ok("GET", "/admin/customers")["data"]
    assert told["data"][1] == {
        "sequence": 2,
        "type": "customer.assigned",
        "types": ["customer.assigned", "customer.updated"],
        "at": at,
        "resource_type": "customer",
        "resource_id": customer["id"],
        "version": changed.json()["version"],
        "user_id": admin.user_id,
        "user_name": admin.audit()[0]["user_name"],
        "request_id": "request-7",
        "changes": {"assigned_to": {"old": None, "new": 12}, "status": {"old": "lead", "new": "active"}},
        "record": listed,
    }


def test_what_is_in_the_trash_or_gone_has_no_record(admin: Caller, seal: Seal) -> None:
    customer, tag = admin.customer(), admin.tag()
    admin.ok("DELETE", f"/admin/customers/{customer['id']}")
    admin.ok("DELETE", f"/admin/tags/{tag['id']}")
    seal()
    told = events(admin)
    assert [event["type"] for event in told] == ["customer.created", "tag.created", "customer.deleted", "tag.deleted"]
    assert [event["record"] for event in told] == [None] * 4
    admin.ok("POST", f"/admin/customers/{customer['id']}/restore")
    seal()
    told = events(admin)
    assert told[-1]["type"] == "customer.restored"
    assert told[0]["record"] is not None
    assert told[0]["record"] == told[-1]["record"]


def test_without_a_place_it_only_says_where_the_feed_is_now(admin: Caller, seal: Seal) -> None:
    assert admin.ok("GET", "/admin/events") == {"data": [], "last_sequence": 0, "has_more": False}
    admin.customer()
    assert admin.ok("GET", "/admin/events", after=0)["data"] == [], "it is not sealed yet"
    seal()
    assert admin.ok("GET", "/admin/events") == {"data": [], "last_sequence": 1, "has_more": False}
    assert events(admin, after=1) == events(admin, after=1000) == []


# ── types ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def story(admin: Caller, seal: Seal) -> dict[str, dict[str, Any]]:
    """An event of each derived type, by its first type; each is made by one request."""
    admin.ok("POST", "/admin/pipeline-stages", {"name": "paid", "display_name": "Paid", "kind": "won"})
    customer = admin.customer()["id"]
    admin.ok("PATCH", f"/admin/customers/{customer}", {"assigned_to": 12})
    deal = admin.ok("POST", "/admin/deals", {"title": "D", "customer_id": customer, "amount": 5, "owner_id": None})[
        "id"
    ]
    for change in (
        *({"owner_id": 7}, {"stage": "proposal"}, {"stage": "closed_won"}, {"stage": "paid"}, {"stage": "proposal"}),
        *({"stage": "closed_lost", "lost_reason": "price", "owner_id": 8}, {"title": "E"}, {"owner_id": None}),
    ):
        admin.ok("PATCH", f"/admin/deals/{deal}", change)
    activity = admin.ok("POST", "/admin/activities", {"title": "A", "type": "call", "customer_id": customer})["id"]
    admin.ok("PATCH", f"/admin/activities/{activity}", {"assigned_to": 7})
    admin.ok("PATCH", f"/admin/activities/{activity}", {"status": "completed"})
    admin.ok("POST", "/admin/deals", {"title": "Imported", "customer_id": customer, "amount": 5, "stage": "closed_won"})
    project = admin.ok("POST", "/admin/projects", {"name": "P", "customer_id": customer})["id"]
    admin.ok("PATCH", f"/admin/projects/{project}", {"owner_id": 7})
    admin.ok("PATCH", f"/admin/projects/{project}", {"status": "completed"})
    seal()
    return {event["sequence"]: event for event in events(admin)}


def test_each_derived_type_is_made_by_a_request(story: dict[str, dict[str, Any]]) -> None:
    of_records = [event for event in story.values() if event["resource_type"] != "pipeline_stage"]
    assert [event["types"] for event in of_records] == [
        ["customer.created"],
        ["customer.assigned", "customer.updated"],
        ["deal.created"],
        ["deal.assigned", "deal.updated"],
        ["deal.stage_changed", "deal.updated"],
        ["deal.won", "deal.stage_changed", "deal.updated"],
        ["deal.stage_changed", "deal.updated"],
        ["deal.reopened", "deal.stage_changed", "deal.updated"],
        ["deal.lost", "deal.stage_changed", "deal.assigned", "deal.updated"],
        ["deal.updated"],
        ["deal.updated"],
        ["activity.created", "activity.assigned"],
        ["activity.assigned", "activity.updated"],
        ["activity.completed", "activity.updated"],
        ["deal.won", "deal.created", "deal.assigned"],
        ["project.created", "project.assigned"],
        ["project.assigned", "project.updated"],
        ["project.completed", "project.updated"],
    ]
    assert all(event["type"] == event["types"][0] for event in story.values())
    made = {name for event in story.values() for name in event["types"]}
    assert {derived.name for derived in DERIVED} <= made, "a derived type is made by none of these requests"


PATTERNS = ("*", "*.*", "deal.*", "*.assigned", "*.created", "deal.won", "deal.stage_changed", "customer.*,deal.lost")


def fits(name: str, pattern: str) -> bool:
    kind, _, verb = pattern.partition(".")
    return all(want in {"*", "", part} for part, want in zip(name.split("."), (kind, verb), strict=True))


@pytest.mark.usefixtures("story")
def test_a_pattern_finds_what_any_of_its_types_matches(admin: Caller) -> None:
    everything = events(admin)
    for patterns in (*PATTERNS, *(derived.name for derived in DERIVED)):
        wanted = [
            event
            for event in everything
            if any(fits(name, pattern) for name in event["types"] for pattern in patterns.split(","))
        ]
        assert wanted, patterns
        assert events(admin, types=patterns) == wanted, patterns
    assert events(admin, types="deal.*", resource_type="activity") == []
    of_kinds = events(admin, resource_type="activity,customer")
    assert {event["resource_type"] for event in of_kinds} == {"activity", "customer"}


def test_every_action_of_the_log_has_a_type(admin: Caller, settings: Any, seal: Seal) -> None:
    admin.ok("GET", "/admin/me")
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [admin.tenant])
        for name in NAMES[len(DERIVED) :]:
            kind, verb = name.split(".")
            owner.execute(
                "INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action) VALUES (%s, %s, 1, %s)",
                [admin.tenant, kind, next(action for action in VERBS if VERBS[action] == verb)],
            )
    seal()
    told = events(admin, limit=1000)
    assert [event["types"] for event in told] == [[name] for name in NAMES[len(DERIVED) :]]
    assert {event["resource_type"] for event in told} == set(ResourceType)


@pytest.mark.parametrize(
    "pattern", ["deal", "deal.", "deal.vanished", "lead.*", "deal.won.again", "d*.won", ".", "deal.?"]
)
def test_a_pattern_that_can_match_nothing_is_refused(admin: Caller, pattern: str) -> None:
    data = refused(admin.get("/admin/events", types=f"deal.won,{pattern}", after=0), 400, "INVALID_REQUEST")
    assert [fault["field"] for fault in data["fields"]] == ["types"]


# ── reading on ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pages_follow_each_other(admin: Caller, seal: Seal) -> None:
    for number in range(7):
        admin.customer(f"N{number}", status="active" if number % 2 else "lead")
    admin.tag()
    seal()
    page = admin.ok("GET", "/admin/events", after=0, limit=3)
    assert ([event["sequence"] for event in page["data"]], page["has_more"], page["last_sequence"]) == (
        [1, 2, 3],
        True,
        8,
    )
    page = admin.ok("GET", "/admin/events", after=5, limit=3)
    assert ([event["sequence"] for event in page["data"]], page["has_more"]) == ([6, 7, 8], False)
    page = admin.ok("GET", "/admin/events", after=0, limit=7, resource_type="customer")
    assert (len(page["data"]), page["has_more"], page["last_sequence"]) == (7, False, 8)


def test_a_filter_that_matches_few_looks_further_in_steps(
    admin: Caller, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "LOOKED_AT", 2)
    monkeypatch.setattr(feed, "LOOKED_SECONDS", 0)
    for number in range(5):
        admin.customer(f"N{number}")
    admin.tag()
    admin.customer("Last")
    seal()
    assert [event["sequence"] for event in events(admin, types="tag.*")] == [6]
    assert events(admin, types="note.*") == []
    page = admin.ok("GET", "/admin/events", after=0, resource_type="customer")
    assert ([event["sequence"] for event in page["data"]], page["has_more"]) == ([1, 2], True)


def test_a_reader_that_stops_and_resumes_sees_each_change_once_while_others_write(
    admin: Caller, service_connection: psycopg.Connection
) -> None:
    def write(writer: int) -> None:
        for number in range(30):
            admin.customer(f"W{writer}-{number}")

    seen: list[dict[str, Any]] = []
    until = time.monotonic() + 60
    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, writer) for writer in range(4)]
        while len(seen) < 120 and time.monotonic() < until:
            service_connection.execute("SELECT crm_seal_audit(20)")
            # All that it remembers is the last sequence.
            seen += events(admin, after=seen[-1]["sequence"] if seen else 0, limit=13)
        for writer in writers:
            writer.result()
    assert [event["sequence"] for event in seen] == list(range(1, 121))
    assert len({event["resource_id"] for event in seen}) == 120


def test_what_retention_deleted_unseen_is_said(admin: Caller, settings: Any, seal: Seal) -> None:
    for number in range(3):
        admin.customer(f"N{number}")
    admin.ok("PUT", "/admin/settings", {"audit_days": 365})
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [admin.tenant])
        owner.execute(
            "INSERT INTO audit_cuts (tenant_id, sequence, entry_id, hash, until) VALUES (%s, 7, 0, sha256(''), now())",
            [admin.tenant],
        )
    seal()
    assert [event["sequence"] for event in events(admin)] == [8, 9, 10, 11]
    assert [event["sequence"] for event in events(admin, after=7)] == [8, 9, 10, 11]
    refused(admin.get("/admin/events", after=6), 410, "HISTORY_CUT")


# ── waiting ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_waiting_ends_as_soon_as_something_is_there(admin: Caller, seal: Seal) -> None:
    with ThreadPoolExecutor(3) as pool:
        asked = time.monotonic()
        told = [pool.submit(events, admin, wait=20, types=types) for types in ("*", "tag.*")]
        time.sleep(0.3)
        admin.customer()
        seal()
        assert [event["type"] for event in told[0].result()] == ["customer.created"]
        assert not told[1].done(), "it waits for a tag"
        admin.tag()
        seal()
        assert [event["type"] for event in told[1].result()] == ["tag.created"]
        assert time.monotonic() - asked < 10


def test_waiting_ends_after_its_time(admin: Caller) -> None:
    asked = time.monotonic()
    assert admin.ok("GET", "/admin/events", after=0, wait=1) == {"data": [], "last_sequence": 0, "has_more": False}
    assert 1 <= time.monotonic() - asked < 5
    refused(admin.get("/admin/events", after=0, wait=31), 400, "INVALID_REQUEST")


def test_all_who_wait_share_one_look_and_hold_no_connection(
    admin: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = feed.newest
    in_use: list[int] = []

    async def wait_together() -> None:
        three_looks, ours = asyncio.Event(), asyncio.get_running_loop()

        async def counted(tx: Transaction) -> int:
            found = await newest(tx)
            # Streams of other tests may still look, in the service that all tests share.
            if asyncio.get_running_loop() is ours:
                in_use.append(database.pool.in_use)
                if len(in_use) == 3:
                    three_looks.set()
            return found

        monkeypatch.setattr(feed, "newest", counted)
        monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.05)
        async with Database(settings) as database:
            actor = Actor(user_id=admin.user_id, tenant_id=admin.tenant, role=Role.ADMIN)
            new_events, gone = NewEvents(database), asyncio.get_running_loop().create_future()
            all_who_wait = [asyncio.create_task(new_events.wait(actor, 0, 60, gone)) for _ in range(20)]
            await three_looks.wait()
            assert len(looks()) <= 1
            gone.set_result(None)
            assert await asyncio.gather(*all_who_wait) == [False] * 20
            await asyncio.gather(*looks())
            assert not looks(), "nobody waits any more"

    def looks() -> list[asyncio.Task[object]]:
        return [task for task in asyncio.all_tasks() if task.get_name() == waiting.TASK]

    asyncio.run(wait_together())
    assert set(in_use) == {1}


# ── who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_admins_read_it_and_only_their_own_organization_s(
    admin: Caller, manager: Caller, agent: Caller, stranger: Caller, seal: Seal
) -> None:
    customer = admin.customer()
    stranger.customer("Theirs")
    seal()
    assert [event["record"]["id"] for event in events(admin)] == [customer["id"]]
    for caller in (manager, agent):
        refused(caller.get("/admin/events", after=0), 403, "INSUFFICIENT_PERMISSIONS")


def test_an_erased_person_s_events_show_no_values(admin: Caller, seal: Seal) -> None:
    customer = admin.customer("Ada Lovelace", email="ada@example.com")
    admin.ok("PATCH", f"/admin/customers/{customer['id']}", {"assigned_to": 12})
    seal()
    admin.ok("POST", f"/admin/customers/{customer['id']}/erase", {"confirm": "Ada Lovelace", "reason": "she asked"})
    seal()
    answer = admin.get("/admin/events", after=0)
    assert "Ada" not in answer.text
    assert "ada@" not in answer.text
    told = answer.json()["data"]
    assert [(event["type"], event["changes"], event["record"]) for event in told[:2]] == [
        ("customer.created", {}, None),
        ("customer.updated", {}, None),
    ]
    assert "customer.erased" in [event["type"] for event in told[2:]]


def test_a_look_that_has_just_ended_is_not_the_next_one(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(*_: object) -> int:
        return 7

    async def run() -> None:
        new_events = NewEvents(Database(settings))
        first = new_events.look(actor)
        await asyncio.sleep(0)
        assert first.done()
        assert new_events.look(actor) is not first
        await new_events.close()

    monkeypatch.setattr(NewEvents, "_look", look)
    actor = Actor(user_id="1", tenant_id="acme", role=Role.ADMIN)
    asyncio.run(run())
