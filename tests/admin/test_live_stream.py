"""The live stream, as a screen reads it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.events import live, streams, waiting
from app.settings import Settings
from app.web import limits
from tests.admin.test_events import Seal, events, seal
from tests.callers import Caller, Callers, refused
from tests.processes import wait_until
from tests.streams import PATH, Listener, Sent, listening

__all__ = ["seal"]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(streams, "TICK_SECONDS", 0.02)


def test_a_change_is_told_as_it_happens(admin: Caller, agent: Caller, seal: Seal) -> None:
    with listening(admin) as mine, listening(agent) as theirs:
        assert (mine.status, mine.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert (mine.headers["cache-control"], mine.headers["x-accel-buffering"]) == ("no-store", "no")
        customer = admin.customer()
        admin.ok("PATCH", f"/admin/customers/{customer['id']}", {"assigned_to": 12})
        seal()
        first, second = mine.events(2)
        assert theirs.events(2) == [first, second]
    at = admin.audit()[0]["created_at"]
    assert (second.id, second.type) == (2, "customer.assigned")
    assert second.data == {
        "sequence": 2,
        "type": "customer.assigned",
        "resource_type": "customer",
        "resource_id": customer["id"],
        "version": 2,
        "user_id": admin.user_id,
        "at": at,
    }


def test_each_kind_of_record_is_told_of_with_each_change(admin: Caller, seal: Seal) -> None:
    customer = admin.customer()["id"]
    deal = admin.ok("POST", "/admin/deals", {"title": "D", "customer_id": customer, "amount": 5})["id"]
    call = {"title": "A", "type": "call", "customer_id": customer}
    made = {
        "customer": customer,
        "deal": deal,
        "contact": admin.ok("POST", f"/admin/customers/{customer}/contacts", {"first_name": "Kay"})["id"],
        "activity": admin.ok("POST", "/admin/activities", call)["id"],
        "note": admin.ok("POST", "/admin/notes", {"content": "N", "customer_id": customer})["id"],
        "project": admin.ok("POST", "/admin/projects", {"name": "P", "customer_id": customer})["id"],
        "attachment": admin.attach(f"/admin/deals/{deal}").json()["id"],
        "tag": admin.tag()["id"],
        "pipeline_stage": admin.ok("POST", "/admin/pipeline-stages", {"name": "x", "display_name": "X"})["id"],
    }
    assert made.keys() == live.LIVE.keys(), "make one of each kind"
    seal()
    with listening(admin, 0) as stream:
        created: dict[str, int] = {}
        while len(created) < len(made):
            (event,) = stream.events(1)
            if event.type == f"{event.data['resource_type']}.created":
                created[event.data["resource_type"]] = event.data["resource_id"]
        assert created == made
        admin.ok("PUT", "/admin/settings", {"country": "DE"})
        for kind in ("tag", "pipeline_stage", "note", "attachment", "contact"):
            admin.ok("DELETE", f"/admin/{live.LIVE[kind].table.name.replace('_', '-')}/{made[kind]}")
        admin.ok("DELETE", f"/admin/customers/{customer}")
        admin.ok("POST", f"/admin/customers/{customer}/restore")
        told = _until_tag(admin, stream, seal, "Restored")
        for kind in ("tag", "pipeline_stage", "note", "attachment", "contact"):
            assert (f"{kind}.removed", made[kind]) in told
        for kind in ("customer", "deal", "activity", "project"):
            of_kind = [name for name, record in told if name.startswith(f"{kind}.") and record == made[kind]]
            assert of_kind == [f"{kind}.removed", f"{kind}.restored"]
        admin.ok("POST", f"/admin/customers/{customer}/erase", {"confirm": "Ada Lovelace", "reason": "asked"})
        told = _until_tag(admin, stream, seal, "Erased")
        for kind in ("customer", "deal", "activity", "project"):
            assert (f"{kind}.removed", made[kind]) in told


def _until_tag(admin: Caller, stream: Listener, seal: Seal, name: str) -> list[tuple[str, int]]:
    """All that is told up to a new tag, which everybody sees."""
    tag = admin.tag(name)["id"]
    seal()
    told: list[tuple[str, int]] = []
    while not told or told[-1] != ("tag.created", tag):
        told += stream.told(1)
    return told


# ── coming back ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_who_comes_back_misses_nothing_and_gets_nothing_twice_while_others_write(
    admin: Caller, service_connection: psycopg.Connection
) -> None:
    def write(writer: int) -> None:
        for number in range(25):
            admin.customer(f"W{writer}-{number}")

    def sealed(stream: Listener) -> bool:
        service_connection.execute("SELECT crm_seal_audit(20)")
        return stream.has_event()

    seen: list[Sent] = []
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, writer) for writer in range(3)]
        while len(seen) < 75:
            with listening(admin, seen[-1].id if seen else 0) as stream:
                for _ in range(min(11, 75 - len(seen))):
                    wait_until(partial(sealed, stream), "an event")
                    seen += stream.events(1)
        for writer in writers:
            writer.result()
    assert [event.id for event in seen] == list(range(1, 76))


def test_an_id_that_is_none_is_refused(admin: Caller) -> None:
    for wrong in ("x", "-1", "1.5", str(2**63), "1,2"):
        answer = admin.call("GET", PATH, headers={"Last-Event-ID": wrong})
        assert refused(answer, 400, "INVALID_REQUEST")["fields"][0]["field"] == "Last-Event-ID"


def test_who_was_away_for_too_long_is_told_to_read_anew(
    admin: Caller, settings: Settings, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        admin.customer(f"N{number}")
    seal()
    monkeypatch.setattr(streams, "MOST_BEHIND", 2)
    with listening(admin, 2) as stream:
        assert [event.id for event in stream.events(2)] == [3, 4]
    # Too far behind; and ahead, since the database was restored.
    for place in (1, 99):
        with listening(admin, place) as stream:
            (told,) = stream.events(1)
            assert (told.type, told.data) == ("reload", {"sequence": told.id})
            admin.tag(f"T{place}")
            seal()
            assert stream.next() is not None
    monkeypatch.setattr(streams, "MOST_BEHIND", 1000)
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [admin.tenant])
        owner.execute(
            "INSERT INTO audit_cuts (tenant_id, sequence, entry_id, hash, until) VALUES (%s, 3, 0, sha256(''), now())",
            [admin.tenant],
        )
    for place, first in ((2, "reload"), (3, "customer.created")):
        with listening(admin, place) as stream:
            assert stream.events(1)[0].type == first


def test_a_quiet_stream_says_that_it_is_there_and_where_to_go_on(
    own_scope: TestClient[Litestar], admin: Caller, callers: Callers, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "COMMENT_SECONDS", 0.1)
    agent = callers.person("agent", admin.tenant, client=own_scope)
    with listening(agent) as stream:
        admin.customer("Somebody else's")
        seal()
        wait_until(lambda: stream.peek() and stream.last_id == 1 and stream.comments > 0, "a comment, and the place")
    with listening(agent, stream.last_id) as stream:
        agent.customer("Mine")
        seal()
        assert [event.id for event in stream.events(1)] == [2]


# ── who hears what ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_hears_of_another_organization(admin: Caller, stranger: Caller, seal: Seal) -> None:
    stranger.customer("Theirs")
    seal()
    with listening(admin, 0) as mine, listening(stranger, 0) as theirs:
        admin.tag("Mine")
        customer = stranger.customer("Theirs too")
        seal()
        assert [event.type for event in mine.events(1)] == ["tag.created"]
        assert theirs.told(2)[1] == ("customer.created", customer["id"])
        mine.close()
        assert "customer" not in mine.body.decode()


class World:
    """Records of two agents and of nobody, an agent's stream, and what the database lets each agent see."""

    def __init__(self, admin: Caller, agents: list[Caller], connection: psycopg.Connection, seal: Seal) -> None:
        self.admin, self.agents, self.seal = admin, agents, seal
        self._connection = connection
        self._steps = 0
        a, b = agents
        mine, theirs, nobodys = (admin.customer(name, assigned_to=user)["id"] for name, user in self._customers())
        self.customers = [mine, theirs, nobodys]
        for customer in self.customers:
            admin.ok("POST", f"/admin/customers/{customer}/contacts", {"first_name": "Kay"})
        self.deals = [
            self._make("deals", title="D", amount=5, customer_id=customer, owner_id=owner)
            for customer, owner in ((mine, None), (theirs, a.user_id), (nobodys, b.user_id), (mine, b.user_id))
        ]
        self.projects = [
            self._make("projects", name="P", customer_id=mine, owner_id=owner, assignees=people)
            for owner, people in ((None, [a.user_id, b.user_id]), (b.user_id, []))
        ]
        self.activities = [
            self._make("activities", title="A", type="call", **links, assigned_to=who)
            for links, who in (
                *(({"customer_id": nobodys}, a.user_id), ({"deal_id": self.deals[0]}, b.user_id)),
                *(({"customer_id": mine}, None), ({"deal_id": self.deals[1]}, a.user_id)),
            )
        ]
        self.notes = [
            self._make("notes", by=by, content="N", customer_id=customer)
            for by, customer in ((a, mine), (admin, mine), (b, theirs))
        ]
        paths = (f"customers/{mine}", f"customers/{nobodys}", *(f"deals/{deal}" for deal in self.deals))
        paths = (*paths, *(f"projects/{project}" for project in self.projects))
        self.attachments = [
            admin.attach(f"/admin/{path}").json()["id"]
            for path in (*paths, *(f"activities/{activity}" for activity in self.activities))
        ]
        self.attachments.append(a.attach(f"/admin/customers/{mine}").json()["id"])
        self.tag = admin.tag()["id"]

    def _customers(self) -> tuple[tuple[str, str | None], ...]:
        a, b = self.agents
        return (("Mine", a.user_id), ("Theirs", b.user_id), ("Nobody's", None))

    def _make(self, collection: str, *, by: Caller | None = None, **body: Any) -> int:
        return int((by or self.admin).ok("POST", f"/admin/{collection}", body)["id"])

    def seen(self, agent: Caller) -> set[tuple[str, int]]:
        """The live records that the policies of the database let the agent read."""
        found = set()
        with self._connection.transaction():
            for name, value in (("role", "crm_service_own"), ("crm.tenant", agent.tenant), ("crm.user", agent.user_id)):
                self._connection.execute("SELECT set_config(%s, %s, true)", [name, value])
            for resource in live.LIVE.values():
                live_only = "WHERE deleted_at IS NULL" if resource.has_trash else ""
                rows = self._connection.execute(f"SELECT id FROM {resource.table.name} {live_only}")
                found |= {(resource.kind, record_id) for (record_id,) in rows}
        return found

    def take(self, step: Callable[[], object], listeners: dict[Caller, Listener]) -> None:
        """Do something, and compare what each agent hears with what the agent may read, before and after."""
        before = {agent: self.seen(agent) for agent in self.agents}
        self.seal()
        newest = self.admin.ok("GET", "/admin/events")["last_sequence"]
        step()
        self._steps += 1
        end = self.admin.tag(f"Step {self._steps}")["id"]
        self.seal()
        happened = [event for event in events(self.admin, newest) if event["resource_type"] in live.LIVE]
        for agent, listener in listeners.items():
            after = self.seen(agent)
            told: list[Sent] = []
            while not told or told[-1].told != ("tag.created", end):
                told += listener.events(1)
            assert [event.data["sequence"] for event in told] == sorted(event.data["sequence"] for event in told)
            types = {each["sequence"]: each["type"] for each in happened}
            assert all(event.type in {types[event.data["sequence"]], self._removed(event)} for event in told)
            removed = {self._record(event) for event in told if event.type.endswith(".removed")}
            kept = {self._record(event) for event in told} - removed
            assert removed == before[agent] - after, "who may no longer see a record hears so, and nobody else"
            changed = {(event["resource_type"], event["resource_id"]) for event in happened}
            assert kept == changed & after, "who may see what changed hears of it, and nobody else"

    @staticmethod
    def _record(event: Sent) -> tuple[str, int]:
        return event.data["resource_type"], event.data["resource_id"]

    @staticmethod
    def _removed(event: Sent) -> str:
        return f"{event.data['resource_type']}.removed"


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_agents_hear_of_what_they_may_read_and_when_they_no_longer_may(
    whole: bool,
    admin: Caller,
    callers: Callers,
    own_scope: TestClient[Litestar],
    service_connection: psycopg.Connection,
    seal: Seal,
) -> None:
    agents = [callers.person("agent", admin.tenant, client=own_scope) for _ in range(2)]
    world = World(admin, agents, service_connection, seal)
    a, b = (agent.user_id for agent in agents)
    mine, theirs, nobodys = world.customers

    def change(collection: str, record_id: int, **values: Any) -> Callable[[], object]:
        return lambda: admin.ok("PATCH", f"/admin/{collection}/{record_id}", values)

    def trash(collection: str, record_id: int) -> Callable[[], object]:
        return lambda: admin.ok("DELETE", f"/admin/{collection}/{record_id}")

    def restore(collection: str, record_id: int) -> Callable[[], object]:
        return lambda: admin.ok("POST", f"/admin/{collection}/{record_id}/restore")

    def erase() -> None:
        admin.ok("POST", f"/admin/customers/{theirs}/erase", {"confirm": "Theirs", "reason": "asked"})

    steps = [
        # Of each kind: what is the agent's own, and what is not.
        *(change("customers", customer, company=f"C{customer}") for customer in world.customers),
        *(change("deals", deal, description="…") for deal in world.deals),
        *(change("projects", project, description="…") for project in world.projects),
        *(change("activities", activity, description="…") for activity in world.activities),
        *(change("notes", note, content="…") for note in world.notes),
        # A customer goes with all that was seen through it.
        *(change("customers", mine, assigned_to=user) for user in (b, None, a)),
        # So does a deal, and an activity.
        *(change("deals", deal, owner_id=user) for deal in world.deals[1:] for user in (b, a, None)),
        *(change("activities", activity, assigned_to=user) for activity in world.activities for user in (b, a, None)),
        # So does a project: whoever works on it sees it.
        *(
            change("projects", project, assignees=people)
            for project in world.projects
            for people in ([b], [a], [], [a, b])
        ),
        *(change("projects", world.projects[1], owner_id=user, assignees=[b]) for user in (a, None)),
        # A deal that moves from customer to customer.
        *(change("deals", world.deals[0], customer_id=customer) for customer in (theirs, nobodys, mine)),
        *(trash("attachments", attachment) for attachment in world.attachments[:3]),
        restore("attachments", world.attachments[0]),
        *(step(*deal) for deal in (("deals", world.deals[0]), ("deals", world.deals[1])) for step in (trash, restore)),
        *(step("projects", world.projects[0]) for step in (trash, restore)),
        *(step("customers", mine) for step in (trash, restore)),
        trash("tags", world.tag),
    ]
    few = [
        change("deals", world.deals[2], description="…"),
        change("customers", mine, assigned_to=b),
        change("deals", world.deals[1], owner_id=b),
        trash("attachments", world.attachments[1]),
    ]
    seal()
    with ExitStack() as open_streams:
        listeners = {agent: open_streams.enter_context(listening(agent)) for agent in agents}
        for step in steps if whole else few:
            world.take(step, listeners)
        erase()
        seal()
        for listener in listeners.values():
            told = [listener.events(1)[0]]
            while told[-1].told != ("customer.removed", theirs):
                told += listener.events(1)
            # Nothing says any longer whose they were; nor does the stream say who erased them.
            assert all(event.type.endswith(".removed") and event.data["user_id"] is None for event in told)


def test_more_than_can_be_listed_is_read_anew(
    admin: Caller, callers: Callers, own_scope: TestClient[Litestar], seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_BELOW", 2)
    agent = callers.person("agent", admin.tenant, client=own_scope)
    customer = admin.customer(assigned_to=agent.user_id)["id"]
    for number in range(3):
        admin.ok("POST", f"/admin/customers/{customer}/contacts", {"first_name": f"N{number}"})
    seal()
    with listening(agent) as stream:
        admin.ok("PATCH", f"/admin/customers/{customer}", {"assigned_to": None})
        seal()
        assert [event.type for event in stream.events(1)] == ["reload"]


# ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_ends_when_the_token_expires_and_does_not_begin_then(
    callers: Callers, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = callers.person("agent", tenant, ttl=3600)
    with listening(caller) as stream:
        in_an_hour = SimpleNamespace(time=lambda: time.time() + 3600, monotonic=time.monotonic)
        monkeypatch.setattr(streams, "time", in_an_hour)
        assert stream.next() is None
    assert stream.body.endswith(b"\n\n"), "it ended well"
    refused(caller.get(PATH), 401, "INVALID_TOKEN")


def test_it_ends_when_the_person_may_do_less(
    callers: Callers, tenant: str, monkeypatch: pytest.MonkeyPatch, seal: Seal
) -> None:
    monkeypatch.setattr(streams, "RECHECK_SECONDS", 0.05)
    boss = callers.person("manager", tenant)
    with listening(boss) as stream, listening(callers.person("agent", tenant)) as other:
        callers.person("admin", tenant, user_id=boss.user_id).customer()
        seal()
        assert stream.told(1) == other.told(1), "more rights end nothing"
        callers.person("agent", tenant, user_id=boss.user_id).ok("GET", "/admin/me")
        assert stream.next() is None
        boss.customer()
        seal()
        assert [event.type for event in other.events(1)] == ["customer.created"]
    with listening(boss, stream.last_id) as again:
        assert [event.type for event in again.events(1)] == ["customer.created"]


def test_it_ends_when_the_service_stops_and_clients_come_back_spread_out(
    admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as open_streams:
        opened = [open_streams.enter_context(listening(admin)) for _ in range(8)]
        monkeypatch.setattr(streams, "is_draining", lambda: True)
        assert [stream.next() for stream in opened] == [None] * 8
        retries = [stream.retries[-1] for stream in opened]
        assert all(1000 <= retry <= 5000 for retry in retries)
        assert len(set(retries)) > 1
        refused(admin.get(PATH), 503, "SERVICE_UNAVAILABLE")


@pytest.mark.slow
def test_who_does_not_read_is_ended_and_comes_back_to_what_was_missed(
    admin: Caller, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_UNREAD_BYTES", 1000)
    monkeypatch.setattr(limits, "STALLED_SECONDS", 0.3)
    with listening(admin) as slow, listening(admin) as fast:
        slow.pause()
        for number in range(20):
            admin.customer(f"N{number}")
            seal()
            fast.events(1)
        assert len(slow.rest()) < 20
    with listening(admin, slow.last_id) as again:
        assert [event.id for event in again.events(20 - (slow.last_id or 0))][-1] == 20


def test_a_person_has_20_and_they_take_nothing_from_other_requests(
    variant: Callable[..., TestClient[Litestar]], callers: Callers, tenant: str
) -> None:
    client = variant(open_requests_per_person=1)
    caller = callers.person("admin", tenant, client=client)
    with ExitStack() as open_streams:
        opened = [open_streams.enter_context(listening(caller)) for _ in range(20)]
        answer = caller.get(PATH)
        refused(answer, 429, "RATE_LIMITED")
        assert answer.headers["Retry-After"]
        assert caller.get("/admin/me").status_code == 200
        with listening(callers.person("admin", tenant, client=client)) as other:
            assert other.status == 200
        opened[0].close()
        with listening(caller) as another:
            assert another.status == 200
    assert client.app.state.streams.count == 0, "streams that are closed leave nothing behind"


# ── what it costs ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_streams_share_one_reader_and_hold_no_connection(
    admin: Caller, agent: Caller, app: Litestar, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    read = live.read

    async def counted(*arguments: Any, **more: Any) -> live.Changes:
        nonlocal reads
        reads += 1
        return await read(*arguments, **more)

    monkeypatch.setattr(streams, "read", counted)
    with ExitStack() as open_streams:
        opened = [open_streams.enter_context(listening(caller)) for caller in (admin, agent) for _ in range(5)]
        assert app.state.streams.count == 10
        admin.customer()
        seal()
        for stream in opened:
            stream.events(1)
    assert reads == 1
    wait_until(lambda: app.state.database.pool.in_use == 0, "streams that hold no connection")


def test_streams_wait_for_a_database_that_is_away(admin: Caller, seal: Seal, monkeypatch: pytest.MonkeyPatch) -> None:
    read, failures = live.read, iter([OSError("away"), OSError("away")])

    async def failing(*arguments: Any, **more: Any) -> live.Changes:
        for failure in failures:
            raise failure
        return await read(*arguments, **more)

    monkeypatch.setattr(streams, "read", failing)
    with listening(admin) as stream:
        customer = admin.customer()
        seal()
        assert stream.told(1) == [("customer.created", customer["id"])]


def test_an_open_stream_is_counted_and_is_no_slow_request(admin: Caller) -> None:
    measured = f'crm_http_request_duration_seconds_count{{endpoint="{PATH}",method="GET"}} '
    before = admin.client.get("/metrics").text.partition(measured)[2].partition("\n")[0]
    with listening(admin):
        assert "\ncrm_streams_open 1.0\n" in admin.client.get("/metrics").text
    metrics = admin.client.get("/metrics").text
    assert "\ncrm_streams_open 0.0\n" in metrics
    assert f'crm_http_requests_total{{endpoint="{PATH}",method="GET",status="200"}}' in metrics
    assert metrics.partition(measured)[2].partition("\n")[0] == before
