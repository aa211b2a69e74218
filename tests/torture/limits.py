"""What takes too long: connections that are all taken, locks, statements, and transactions that nobody ends."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.processes import Service
from tests.torture.place import Finding, Place, seconds_until
from tests.torture.wire import Answer, Wire, at_once, raw, wire

CUSTOMERS = "/admin/customers"


@contextmanager
def locked(place: Place, table: str = "customers") -> Iterator[psycopg.Connection]:
    """Nobody else reads or writes this table."""
    with place.superuser() as connection, connection.transaction():
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield connection


def no_connection_left(place: Place) -> Finding:
    """Every connection of the pool waits for a lock, and more requests come."""
    token = place.token(place.tenant())
    waiting = raw("GET", CUSTOMERS, token)
    other = raw("GET", "/admin/tags", token)
    rounds = place.times(5, 1)
    answers: list[Answer] = []
    health: list[float] = []

    async def crowd(url: str) -> None:
        async with wire(url) as line, asyncio.TaskGroup() as group:
            group.create_task(probe(line))
            for _ in range(rounds):
                # The whole pool, twice over, and then those who wanted something else.
                held = [group.create_task(alone(url, waiting)) for _ in range(4)]
                await asyncio.sleep(0.3)
                answers.extend(await at_once(url, [other] * 20))
                await asyncio.gather(*held)

    async def alone(url: str, request: bytes) -> None:
        async with wire(url) as line:
            answers.append(await line.ask(request))

    async def probe(line: Wire) -> None:
        for _ in range(5 * rounds):
            await asyncio.sleep(0.2)
            health.append((await line.ask(raw("GET", "/health"))).seconds)

    service = place.narrow
    service.call("GET", CUSTOMERS, token)
    with locked(place):
        asyncio.run(crowd(service.url))
    recovered = seconds_until(lambda: service.call("GET", CUSTOMERS, token).status_code == 200)
    refused = [answer for answer in answers if answer.status == 503]
    polite = all(b"retry-after" in answer.head.lower() for answer in refused)
    # What waits for a lock waits 2 s for it; what waits for a connection less than that.
    slowest, middle = max(answer.seconds for answer in answers), statistics.median(health)
    statuses = Counter(answer.status for answer in answers)
    return Finding(
        f"{len(answers)} requests to a pool of 2 whose connections all wait: {dict(statuses)}, slowest {slowest:.1f} s;"
        f" /health {1000 * middle:.0f} ms (median; worst {1000 * max(health):.0f}); recovered in {recovered:.2f} s",
        f"{len(answers) - len(refused)} not refused, Retry-After {'always' if polite else 'MISSING'}",
        len(refused) == len(answers)
        and polite
        and slowest < place.within(2.5)
        and middle < place.within(0.05)
        and recovered < place.within(1),
    )


def slow_and_locked(place: Place) -> Finding:
    """A lock that is held, a statement that sleeps, and a worker that stops in the middle of its transaction."""
    token = place.token(place.tenant())
    nap = """
        CREATE FUNCTION torture() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_sleep(CASE NEW.name WHEN 'long' THEN 8 ELSE 1 END); RETURN NULL;
        END $$;
        CREATE TRIGGER torture AFTER INSERT ON tags FOR EACH ROW
            WHEN (NEW.name IN ('long', 'short')) EXECUTE FUNCTION torture();
    """

    async def ask(url: str, *requests: bytes) -> list[Answer]:
        return await at_once(url, requests)

    with place.service() as service, place.superuser() as connection:
        customer = service.call("POST", CUSTOMERS, token, json={"name": "A"}).json()["id"]
        with connection.transaction():
            connection.execute("SELECT FROM customers WHERE id = %s FOR UPDATE", [customer])
            (lock,) = asyncio.run(ask(service.url, raw("PATCH", f"{CUSTOMERS}/{customer}", token, json={"name": "B"})))
        connection.execute(nap)
        try:
            (long,) = asyncio.run(ask(service.url, raw("POST", "/admin/tags", token, json={"name": "long"})))
            short, idle = asyncio.run(_stopped_in_the_middle(place, service, token))
        finally:
            connection.execute("DROP FUNCTION torture CASCADE")
    stored = place.look("SELECT count(*) FROM tags WHERE name IN ('long', 'short')")
    return Finding(
        f"lock held: {lock.status} after {lock.seconds:.1f} s; statement of 8 s: {long.status} after"
        f" {long.seconds:.1f} s; a worker stopped inside its transaction: ended after {idle:.1f} s, {short.status}",
        f"{stored} rows stored",
        (lock.status, long.status, short.status, stored) == (503, 503, 503, 0)
        and lock.seconds < place.within(3)
        and long.seconds < place.within(6.5)
        and 9 < idle < place.within(13),
    )


async def _stopped_in_the_middle(place: Place, service: Service, token: str) -> tuple[Answer, float]:
    async with wire(service.url) as line:
        asking = asyncio.create_task(line.ask(raw("POST", "/admin/tags", token, json={"name": "short"})))
        await asyncio.sleep(0.5)
        for pid in service.workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            of_tags = "state = 'idle in transaction' AND strpos(query, 'INTO tags') > 0"
            idle = f"SELECT count(*) FROM pg_stat_activity WHERE {of_tags}"
            await asyncio.to_thread(seconds_until, lambda: place.look(idle) == 1, 5)
            took = await asyncio.to_thread(seconds_until, lambda: place.look(idle) == 0, 20)
        finally:
            for pid in service.workers:
                os.kill(pid, signal.SIGCONT)
        return await asking, took
