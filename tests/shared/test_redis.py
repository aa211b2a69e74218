"""What two workers share through a real Redis, and that nobody needs it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import structlog
from litestar import Litestar
from litestar.testing import TestClient
from msgspec.structs import replace

from app.events import fan_out, live, streams, waiting
from app.main import create_app
from app.settings import Settings
from app.shared import redis as shared_redis
from app.shared.redis import Shared
from tests.admin.test_events import Seal, seal
from tests.callers import Caller, Callers
from tests.client import InProcess
from tests.processes import wait_until
from tests.redis_server import RedisServer, redis_server
from tests.streams import listening

__all__ = ["seal"]
Workers = tuple[TestClient[Litestar], TestClient[Litestar]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def workers(settings: Settings, server: RedisServer) -> Iterator[Workers]:
    """Two workers of one service, which share a Redis."""
    shared = replace(
        settings,
        redis_url=server.url,
        report_cache_seconds=600,
        rate_limit_per_minute=100,
        auth_failures_per_minute=100,
    )
    with (
        InProcess(create_app(shared)) as first,
        InProcess(create_app(shared)) as second,
    ):
        yield first, second


@pytest.fixture(autouse=True)
def _there(workers: Workers, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(streams, "HEAR_SECONDS", 0.1)
    monkeypatch.setattr(fan_out, "LEASE_MS", 300)
    monkeypatch.setattr(shared_redis, "PROBE_SECONDS", 0.1)
    # What is to be shared is shared, however busy this machine is.
    monkeypatch.setattr(shared_redis, "REQUEST_SECONDS", 1.0)
    wait_until(lambda: all(worker.app.state.shared.is_up for worker in workers), "both workers find Redis")
    yield
    server.signal(signal.SIGCONT)


def people(callers: Callers, workers: Workers, tenant: str, role: str = "admin") -> tuple[Caller, Caller]:
    """One person, as each of the workers sees them."""
    first = callers.person(role, tenant, client=workers[0])
    return first, callers.person(role, tenant, user_id=first.user_id, client=workers[1])


def overview(caller: Caller) -> tuple[int, int]:
    """How many customers the overview has, and how old it is."""
    answer = caller.get("/admin/reports/overview")
    return answer.json()["customers"]["total"], int(answer.headers["Age"])


# ── rate limits ──────────────────────────────────────────────────────────────────────────────────────────────────────


def until_refused(ask: Callable[[], int], *, most: int) -> int:
    """How many requests get through before one is refused."""
    through = 0
    while ask() != 429:
        through += 1
        assert through < most, "nothing is shared"
        time.sleep(0.05)  # the workers tell each other ten times a second
    return through


def test_workers_count_the_requests_of_a_person_together(workers: Workers, callers: Callers, tenant: str) -> None:
    first, second = people(callers, workers, tenant)
    for _ in range(100):
        assert first.get("/admin/me").status_code == 200
    until_refused(lambda: second.get("/admin/me").status_code, most=50)
    other = callers.person("admin", tenant, client=workers[1])
    assert other.get("/admin/me").status_code == 200


def test_workers_count_the_failures_of_an_address_together(workers: Workers) -> None:
    wrong = {"Authorization": "Bearer wrong"}

    def failed(worker: TestClient[Any]) -> int:
        return worker.get("/admin/me", headers=wrong).status_code

    for _ in range(100):
        assert failed(workers[0]) == 401
    # One more is let through every 0.6 seconds.
    until_refused(partial(failed, workers[0]), most=50)
    until_refused(partial(failed, workers[1]), most=50)


# ── reports ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_workers_share_a_report_until_any_of_them_writes(workers: Workers, callers: Callers, tenant: str) -> None:
    first, second = people(callers, workers, tenant)
    statements = counted(workers[1])
    first.customer()
    wait_until(lambda: not workers[0].app.state.report_cache.untold, "the write is told")
    assert overview(first)[0] == 1
    second.ok("GET", "/admin/me")
    before = len(statements)
    assert before, "a person's first request is counted"
    assert first.get("/admin/reports/overview").json() == second.get("/admin/reports/overview").json()
    assert len(statements) == before, "the second worker took it from the first"
    second.customer("Grace")
    assert overview(second)[0] == 2
    wait_until(lambda: not workers[1].app.state.report_cache.untold, "the write is told")


def counted(client: TestClient[Litestar]) -> list[str]:
    """The connections that this worker's requests take from now on, and not what it looks after meanwhile."""
    taken: list[str] = []
    pool = client.app.state.database.pool
    acquire = pool.acquire

    async def counting() -> Any:
        if "request_id" in structlog.contextvars.get_contextvars():
            taken.append("one")
        return await acquire()

    pool.acquire = counting
    return taken


def test_nobody_gets_another_organization_s_or_another_person_s_report(settings: Settings) -> None:
    shared = Shared(replace(settings, redis_url="redis://127.0.0.1:1"))
    name = shared.name("report", "a")
    kept = shared.encrypt(name, b"a's report")
    assert shared.decrypt(name, kept) == b"a's report"
    others = [shared.name("report", "b"), shared.name("report", "a", "7"), shared.name("live", "a")]
    assert len({name, *others}) == 4
    assert [shared.decrypt(other, kept) for other in others] == [None] * 3
    another = Shared(replace(settings, redis_url="redis://127.0.0.1:1", jwt_secret="another secret" * 3))
    assert another.name("report", "a") != name
    assert another.decrypt(name, kept) is None
    assert shared.decrypt(name, b"") is None


def test_what_is_in_redis_says_nothing_and_does_not_stay(
    workers: Workers, server: RedisServer, callers: Callers, tenant: str
) -> None:
    first, _ = people(callers, workers, tenant)
    first.customer("Ada Lovelace")
    wait_until(lambda: not workers[0].app.state.report_cache.untold, "the write is told")
    overview(first)
    names = [line for line in server.command("KEYS", "*").split(b"\r\n") if line.startswith(b"crm:")]
    assert len(names) >= 3
    for name in names:
        assert b":-1\r\n" not in server.command("PTTL", name.decode()), "everything expires"
        value = server.command("GET", name.decode())
        for secret in (b"Ada", tenant.encode(), first.user_id.encode()):
            assert secret not in name + value


# ── live streams ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_worker_reads_for_all(
    workers: Workers, callers: Callers, tenant: str, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    read = live.read

    async def counting(*arguments: Any, **more: Any) -> live.Changes:
        nonlocal reads
        reads += 1
        return await read(*arguments, **more)

    first, second = people(callers, workers, tenant)
    first.ok("GET", "/admin/me")
    monkeypatch.setattr(streams, "read", counting)
    with listening(first) as one, listening(second) as other:
        rooms = [worker.app.state.streams.reads_by_itself for worker in workers]
        wait_until(lambda: sorted(is_reader(tenant) for is_reader in rooms) == [False, True], "one of them reads")
        # Its subscription is there as soon as something comes that it has not read.
        for number in range(10):
            customer = first.customer(f"N{number}")
            seal()
            expected = [("customer.created", customer["id"])]
            assert one.told(1) == other.told(1) == expected
    assert reads < 20, "each read it by itself"


def test_a_message_that_is_lost_is_lost_to_nobody(
    workers: Workers, callers: Callers, tenant: str, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = fan_out.FanOut.tell
    lost = iter([True, False, True, True, False])

    async def losing(self: fan_out.FanOut, tenant_id: str, changes: live.Changes) -> None:
        if not next(lost, True):
            await tell(self, tenant_id, changes)

    monkeypatch.setattr(fan_out.FanOut, "tell", losing)
    first, second = people(callers, workers, tenant)
    first.ok("GET", "/admin/me")
    with listening(first) as one, listening(second) as other:
        for number in range(6):
            first.customer(f"N{number}")
            seal()
        assert [event.id for event in one.events(6)] == [event.id for event in other.events(6)] == [1, 2, 3, 4, 5, 6]


# ── without it ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("trouble", ["paused", "killed"])
def test_while_it_is_away_each_worker_goes_on_with_its_own(
    trouble: str,
    workers: Workers,
    server: RedisServer,
    callers: Callers,
    tenant: str,
    seal: Seal,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = people(callers, workers, tenant)
    first.ok("GET", "/admin/me")
    with listening(first) as one, listening(second) as other:
        if trouble == "paused":
            server.signal(signal.SIGSTOP)
        else:
            server.stop()
        customer = first.customer()
        seal()
        assert one.told(1) == other.told(1) == [("customer.created", customer["id"])]
        assert overview(first)[0] == overview(second)[0] == 1
        said: list[str] = []

        def both_say_so() -> bool:
            said.append(capsys.readouterr().out)
            return "".join(said).count("redis is away") == 2

        wait_until(both_say_so, "each worker says so", at_most=20)
        assert not any(worker.app.state.shared.is_up for worker in workers)
        first.customer("Grace")
        assert overview(first)[0] == 2
        assert both_say_so(), "they say so once"
        if trouble == "paused":
            server.signal(signal.SIGCONT)
        else:
            server.start()
        wait_until(lambda: all(worker.app.state.shared.is_up for worker in workers), "both are back")
        wait_until(lambda: not workers[0].app.state.report_cache.untold, "the writes are told")
        first.customer("Kay")
        wait_until(lambda: overview(second)[0] == 3, "reports are shared again")
        seal()
        assert [event.id for event in one.events(2)] == [event.id for event in other.events(2)] == [2, 3]


def test_no_request_waits_for_a_redis_that_hangs(workers: Workers, server: RedisServer) -> None:
    shared: Shared = workers[0].app.state.shared
    server.signal(signal.SIGSTOP)

    async def ask() -> tuple[Any, float, Any, float]:
        began = time.monotonic()
        first = await shared.call(lambda redis: redis.get("x"), 0.01)
        then = time.monotonic()
        second = await shared.call(lambda redis: redis.get("x"))
        return first, then - began, second, time.monotonic() - then

    first, waited, second, waited_again = workers[0].blocking_portal.call(ask)
    assert (first, second) == (None, None)
    # A busy machine takes some time to notice; the second time nobody waits.
    assert waited < 0.9
    assert waited_again < waited
