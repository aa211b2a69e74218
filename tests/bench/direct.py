"""The database without the service: the same driver, on as many connections, in two processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier

from psycopg import AsyncConnection

from tests.bench.server import ADMIN, CREATED, Bench

PROCESSES = 2
CONNECT_SECONDS = 30
INSERT = "INSERT INTO customers (tenant_id, name, email, company) VALUES (%s, 'Ada Lovelace', %s, 'Engines')"

_all_connected: Barrier


def inserts(bench: Bench, *, triggers: bool, connections: int, seconds: float) -> float:
    """INSERT … COMMIT of customers a second: bare, or audited, counted and checked as the service's are."""
    role = "origin" if triggers else "replica"
    begin = (
        f"SELECT set_config('session_replication_role', '{role}', false), set_config('crm.tenant', '{CREATED}', false),"
        f' set_config(\'crm.actor\', \'{{"user_id": "{ADMIN}", "user_name": "Bench", "user_role": "admin"}}\', false)'
    )
    return _rate(bench.superuser, [begin], [], connections, seconds)


def asks(bench: Bench, sent: list[str], *, connections: int, seconds: float) -> float:
    """Times a second that these statements are sent in one round trip, and their rows read, as in the service."""
    return _rate(bench.settings.database_url, [], sent, connections, seconds)


def _rate(dsn: str, first: list[str], sent: list[str], connections: int, seconds: float) -> float:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, context, initializer=_meet_at, initargs=(barrier,)) as pool:
        each = connections // PROCESSES
        return sum(pool.map(_in_process, *zip(*[(dsn, first, sent, each, seconds)] * PROCESSES, strict=True)))


def _meet_at(barrier: Barrier) -> None:
    global _all_connected  # noqa: PLW0603 -- only a new process can be handed a barrier
    _all_connected = barrier


def _in_process(dsn: str, first: list[str], sent: list[str], connections: int, seconds: float) -> float:
    return asyncio.run(_in_loop(dsn, first, sent, connections, seconds))


async def _in_loop(dsn: str, first: list[str], sent: list[str], count: int, seconds: float) -> float:
    connections = [await AsyncConnection.connect(dsn, prepare_threshold=0, autocommit=True) for _ in range(count)]
    for connection in connections:
        for statement in first:
            await connection.execute(statement.encode())
    statements = [statement.encode() for statement in sent]
    _all_connected.wait(CONNECT_SECONDS)
    began = time.perf_counter()

    async def one(connection: AsyncConnection) -> int:
        done = 0
        while time.perf_counter() < began + seconds:
            if statements:
                async with connection.pipeline():
                    cursors = [await connection.execute(statement) for statement in statements]
                await cursors[-1].fetchall()
            else:
                await connection.execute(INSERT, [str(CREATED), f"{uuid.uuid4()}@example.com"])
            done += 1
        return done

    done = await asyncio.gather(*map(one, connections))
    rate = sum(done) / (time.perf_counter() - began)
    for connection in connections:
        await connection.close()
    return rate
