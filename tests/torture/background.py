"""What happens in the background: jobs whose workers are killed, and the feed while everybody writes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.callers import make_leads
from tests.processes import Worker
from tests.torture.place import Finding, Place, seconds_until
from tests.torture.wire import Answer, Wire, raw, wire

CUSTOMERS = "/admin/customers"
# What a change and its undoing leave as it was.
STATE = """
    SELECT md5(string_agg(concat_ws('|', id, name, status, deleted_at), ',' ORDER BY id))
    FROM customers WHERE tenant_id = %s
"""
# A bulk change, an undo: of each, one version and one entry of each customer.
NOT_ONCE = """
    SELECT count(*) FROM customers AS customer WHERE tenant_id = %s AND (version <> %s OR version <> (
        SELECT count(*) FROM audit_entries AS entry WHERE entry.tenant_id = customer.tenant_id
        AND resource_type = 'customer' AND resource_id = customer.id))
"""
UNFINISHED = "SELECT count(*) FROM jobs WHERE status <> 'done'"
QUEUED = "SELECT count(*) FROM procrastinate_jobs WHERE queue_name = 'jobs'"
ENTRIES = "SELECT count(*) FROM audit_entries WHERE tenant_id = %s"
SEALED = """
    SELECT sequence, resource_type, resource_id, version FROM audit_seals AS seal
    JOIN audit_entries AS entry ON entry.tenant_id = seal.tenant_id AND entry.id = seal.entry_id
    WHERE seal.tenant_id = %s ORDER BY sequence
"""


def workers_killed(place: Place) -> Finding:
    """`kill -9` one of two workers again and again, while all customers of each organization are changed, and that is
    undone.
    """
    kills, customers = place.times(20, 3), place.times(4000, 1200)
    tenants = [place.tenant() for _ in range(place.times(3, 2))]
    for tenant in tenants:
        make_leads(place.postgres.dsn(), tenant, customers)
    before = [place.look(STATE, tenant) for tenant in tenants]
    rounds = [0] * len(tenants)
    attempts: list[int] = []

    async def change_and_undo(url: str, number: int, killing: asyncio.Task[None]) -> None:
        token = place.token(tenants[number])
        change = {"filter": {"status": "lead"}, "action": "update", "values": {"status": "prospect"}}
        async with wire(url) as line:
            while not (killing.done() and rounds[number]):
                changed = await _ended(
                    line, token, await line.ask(raw("POST", f"{CUSTOMERS}/bulk", token, json=change))
                )
                undo = raw("POST", f"/admin/operations/{changed['operation_id']}/undo", token, json={})
                undone = await _ended(line, token, await line.ask(undo))
                attempts.extend((changed["attempts"], undone["attempts"]))
                rounds[number] += 1

    async def kill(workers: list[Worker]) -> None:
        for turn in range(kills):
            await asyncio.sleep(random.uniform(0.2, 2.5))
            await asyncio.to_thread(workers[turn % 2].kill)
            workers[turn % 2] = await asyncio.to_thread(Worker, place.data_dir)

    async def all_of_it(url: str, workers: list[Worker]) -> None:
        killing = asyncio.create_task(kill(workers))
        await asyncio.gather(killing, *(change_and_undo(url, number, killing) for number in range(len(tenants))))

    with place.service(JOBS_IN_SERVICE="false") as service, two_workers(place) as workers:
        asyncio.run(all_of_it(service.url, workers))
    changed = sum(before[number] != place.look(STATE, tenant) for number, tenant in enumerate(tenants))
    not_once = sum(place.look(NOT_ONCE, tenant, 1 + 2 * rounds[at]) for at, tenant in enumerate(tenants))
    left = place.look(UNFINISHED) + place.look(QUEUED)
    again = sum(each - 1 for each in attempts)
    return Finding(
        f"{kills} workers killed during {len(attempts)} jobs of {customers:,} customers, {again} times in one",
        f"{not_once} customers not changed once by each job, {changed} organizations not as before, {left} jobs left",
        not_once == changed == left == 0 and again > 0,
    )


def read_while_everybody_writes(place: Place) -> Finding:
    """Readers of the feed, of which each goes away at any moment, in the middle of an answer, too, and comes back with
    the last number it has kept.
    """
    changes, writers, readers = place.times(100_000, 800), place.times(20, 8), place.times(10, 3)
    tenant = place.tenant()
    token = place.token(tenant)
    written = 0
    finished = asyncio.Event()
    ledgers: list[list[tuple[Any, ...]]] = [[] for _ in range(readers)]
    away = 0

    async def write(url: str) -> None:
        """One by one, and many in a transaction: what is committed first is not always numbered first."""
        nonlocal written
        mine: list[int] = []
        async with wire(url) as line:
            while written < changes:
                made = await line.ask(raw("POST", CUSTOMERS, token, json={"name": "Ada"}))
                mine.append(made.json()["id"])
                change = raw("PATCH", f"{CUSTOMERS}/{mine[-1]}", token, json={"status": "active"})
                changed = await line.ask(change)
                bulk = {"ids": mine[-50:], "action": "update", "values": {"company": f"No {written}"}}
                many = await line.ask(raw("POST", f"{CUSTOMERS}/bulk", token, json=bulk))
                written += (made.status == 201) + (changed.status == 200)
                written += many.json()["changed"] if many.status == 200 else 0

    async def read(url: str, ledger: list[tuple[Any, ...]]) -> None:
        async with wire(url) as line:
            while True:
                after = ledger[-1][0] if ledger else 0
                # An answer that was on its way when the last change was sealed may not have it.
                all_are_sealed = finished.is_set()
                answer = await line.ask(raw("GET", f"/admin/events?after={after}&limit=1000&wait=1", token))
                if answer.status != 200:
                    continue
                part = answer.json()
                ledger.extend((e["sequence"], e["resource_type"], e["resource_id"], e["version"]) for e in part["data"])
                if all_are_sealed and ledger and ledger[-1][0] == part["last_sequence"]:
                    return

    async def read_with_breaks(url: str, ledger: list[tuple[Any, ...]]) -> None:
        nonlocal away
        while True:
            reading = asyncio.create_task(read(url, ledger))
            await asyncio.wait([reading], timeout=random.uniform(0.05, 2))
            if reading.done():
                return reading.result()
            reading.cancel()
            away += 1

    async def all_of_it(url: str) -> None:
        reading = [asyncio.create_task(read_with_breaks(url, ledger)) for ledger in ledgers]
        await asyncio.gather(*(write(url) for _ in range(writers)))
        await asyncio.to_thread(seconds_until, lambda: len(sealed()) == place.look(ENTRIES, tenant))
        finished.set()
        await asyncio.gather(*reading)

    def sealed() -> list[tuple[Any, ...]]:
        with place.superuser() as connection:
            return connection.execute(SEALED, [tenant]).fetchall()

    asyncio.run(all_of_it(place.kept.url))
    expected = sealed()
    wrong = sum(ledger != expected for ledger in ledgers)
    without_gaps = [row[0] for row in expected] == list(range(1, len(expected) + 1))
    return Finding(
        f"{len(expected):,} changes by {writers} writers, read by {readers}, which went away {away} times",
        f"{wrong} readers did not see each once and in order, {written - len(expected)} changes without a number",
        not wrong and without_gaps and len(expected) == written and away > 0,
    )


@contextmanager
def two_workers(place: Place) -> Iterator[list[Worker]]:
    """That take turns, and are stopped at the end."""
    workers = [Worker(place.data_dir)]
    try:
        workers.append(Worker(place.data_dir))
        yield workers
    finally:
        for worker in workers:
            worker.stop()


async def _ended(line: Wire, token: str, started: Answer) -> Any:
    """The job once it is done."""
    assert started.status == 202, started.body
    job = started.json()["job"]
    while job["finished_at"] is None:
        await asyncio.sleep(0.2)
        job = (await line.ask(raw("GET", f"/admin/jobs/{job['id']}", token))).json()
    assert job["status"] == "done", job
    return job
