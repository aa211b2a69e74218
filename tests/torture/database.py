"""What happens to the database: killed, paused, and failing at the last moment."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from contextlib import suppress

import psycopg

from app.dev.servers import EmbeddedError
from tests.processes import Service, fetch
from tests.torture.place import Finding, Place, ready, seconds_until
from tests.torture.wire import at_once, raw, wire

CUSTOMERS = "/admin/customers"


def killed_at_fifty_writes_a_second(place: Place) -> Finding:
    """`kill -9` the database under load; the client keeps a ledger of what was acknowledged."""
    tenant, kills = place.tenant(), place.times(10, 2)
    token = place.token(tenant)
    ledger: set[str] = set()
    statuses: Counter[int] = Counter()
    waits: list[float] = []

    def kill_again_and_again(service: Service, stop: threading.Event) -> None:
        for _ in range(kills):
            time.sleep(1)
            before = place.postgres.pid
            assert before is not None
            os.kill(before, signal.SIGKILL)
            seconds_until(lambda before=before: place.postgres.pid not in {None, before} and accepts(place))  # type: ignore[misc]  # mypy knows no defaults of lambdas
            waits.append(seconds_until(lambda: ready(service.url)))
        time.sleep(1)
        stop.set()

    async def write(url: str, stop: threading.Event) -> None:
        writing: set[asyncio.Task[None]] = set()
        for number in range(10**6):
            if stop.is_set():
                break
            writing.add(task := asyncio.create_task(write_one(url, f"write-{number}")))
            task.add_done_callback(writing.discard)
            await asyncio.sleep(0.02)
        await asyncio.gather(*writing)

    async def write_one(url: str, name: str) -> None:
        async with wire(url) as line:
            answer = await line.ask(raw("POST", CUSTOMERS, token, json={"name": name}))
        statuses[answer.status] += 1
        if answer.status == 201:
            ledger.add(name)

    service = place.kept
    stop = threading.Event()
    killer = threading.Thread(target=kill_again_and_again, args=(service, stop))
    killer.start()
    asyncio.run(write(service.url, stop))
    killer.join()
    with place.superuser() as connection:
        stored = {row[0] for row in connection.execute("SELECT name FROM customers WHERE tenant_id = %s", [tenant])}
    rows, entries = place.unaudited(tenant)
    lost = len(ledger - stored)
    kept = (
        not (lost or rows or entries)
        and set(statuses) <= {201, 503}
        and max(waits) < place.within(5)
        and len(ledger) > 10
    )
    return Finding(
        f"killed {kills} times under 50 writes/s: {dict(statuses)}; ready at worst {max(waits):.1f} s after it accepts",
        f"{lost} of {len(ledger)} acknowledged writes, {rows + entries} without their audit entry",
        kept,
    )


def accepts(place: Place) -> bool:
    with suppress(psycopg.Error, EmbeddedError):
        return bool(place.look("SELECT 1") == 1)
    return False


def a_commit_that_fails(place: Place) -> Finding:
    """A deferred constraint, and a backend that ends in the middle of COMMIT."""
    tenant, each = place.tenant(), place.times(50, 10)
    token = place.token(tenant)
    harm = """
        CREATE FUNCTION torture() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
            IF NEW.name = 'refused' THEN RAISE foreign_key_violation; END IF;
            PERFORM pg_terminate_backend(pg_backend_pid());
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER torture AFTER INSERT ON customers DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (NEW.name IN ('refused', 'ended')) EXECUTE FUNCTION torture();
    """
    service = place.kept
    with place.superuser() as connection:
        service.call("GET", CUSTOMERS, token)
        connection.execute(harm)
        try:
            statuses = Counter(
                service.call("POST", CUSTOMERS, token, json={"name": name}).status_code
                for _ in range(each)
                for name in ("refused", "ended")
            )
        finally:
            connection.execute("DROP FUNCTION torture CASCADE")
        afterwards = service.call("POST", CUSTOMERS, token, json={"name": "after"}).status_code
    stored = place.look("SELECT count(*) FROM customers WHERE tenant_id = %s AND name <> 'after'", tenant)
    successes = sum(count for status, count in statuses.items() if status < 400)
    return Finding(
        f"{2 * each} commits failed, by a deferred constraint or an ended backend: {dict(statuses)}",
        f"{successes} answered as done, {stored} rows stored",
        successes == stored == 0 and afterwards == 201,
    )


def away(place: Place) -> Finding:
    """The whole server paused: connections stay open, new ones are accepted, and nothing is ever answered."""
    token = place.token(place.tenant())
    requests = [raw("GET", CUSTOMERS, token), raw("POST", CUSTOMERS, token, json={"name": "A"})] * 10
    said: dict[str, tuple[int, float]] = {}

    def ask(service: Service, path: str) -> None:
        began = time.perf_counter()
        status = fetch(service.url + path, timeout=30).status_code
        said[path] = (status, time.perf_counter() - began)

    service = place.kept
    assert set(asyncio.run(_statuses(service.url, requests))) == {200, 201}
    with place.paused():
        for path in ("/health", "/ready"):
            ask(service, path)
        answers = asyncio.run(at_once(service.url, requests))
    recovered = seconds_until(lambda: service.call("GET", CUSTOMERS, token).status_code == 200)
    statuses = Counter(answer.status for answer in answers)
    slowest = max(answer.seconds for answer in answers)
    return Finding(
        f"database paused: {', '.join(f'{path} {status} in {s:.2f} s' for path, (status, s) in said.items())};"
        f" {len(answers)} requests: {dict(statuses)}, slowest {slowest:.1f} s; recovered in {recovered:.2f} s",
        f"{len(answers) - statuses[503]} not refused",
        set(statuses) == {503}
        and slowest < place.within(12)
        and recovered < place.within(5)
        and all(status == 503 and seconds < place.within(1) for status, seconds in said.values()),
    )


async def _statuses(url: str, requests: list[bytes]) -> list[int]:
    return [answer.status for answer in await at_once(url, requests)]
