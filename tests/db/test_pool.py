"""The pool's connections: which are lent, how long an answer is waited for, and what becomes of those that break."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Gauge
from sqlalchemy import func, select, text

from app.access.actor import Actor
from app.access.permissions import Role
from app.db import pool
from app.db.database import SETTINGS, Database, Origin
from app.db.pool import POOL_WAIT_SECONDS, RESPONSE_SECONDS, response_timeout
from app.db.session import Session
from app.settings import Settings
from app.web.errors import AppError, Code

ADA = Actor(user_id="ada", tenant_id="default", role=Role.ADMIN)
BACKEND = select(func.pg_backend_pid())
FOR_LONG = text("SELECT pg_sleep(3)")


def run(settings: Settings, story: Callable[[Database], Coroutine[Any, Any, None]]) -> None:
    async def in_loop() -> None:
        async with Database(settings) as database:
            await story(database)
            assert database.pool.in_use == 0

    asyncio.run(in_loop())


async def backend_of(session: Session) -> int:
    return int((await session.execute(BACKEND)).scalar_one())


def terminate(settings: Settings, *backends: int) -> None:
    """As a restart of the server does; back once they are gone."""
    with psycopg.connect(settings.database_dsn, autocommit=True) as connection:
        for backend in backends:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])


def test_the_servers_own_limit_comes_first() -> None:
    assert float(SETTINGS["statement_timeout"].strip("'s")) < RESPONSE_SECONDS


def test_a_full_pool_is_seen_while_it_is_full(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when a request ends, which is when it is no longer full."""
    # Its own: services that other tests left in this process go on asking for memberships.
    registry = CollectorRegistry()
    for name in ("USED", "MOST"):
        monkeypatch.setattr(pool, name, Gauge(name.lower(), "", registry=registry))

    def share() -> tuple[float | None, float | None]:
        return registry.get_sample_value("used"), registry.get_sample_value("most")

    async def story(database: Database) -> None:
        async def hold(for_long: asyncio.Event) -> None:
            async with database.reader(ADA) as session:
                await backend_of(session)
                held.release()
                await for_long.wait()

        held, end = asyncio.Semaphore(0), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(hold(end))
            for _ in range(2):
                await held.acquire()
            assert share() == (2, 2)
            end.set()
        assert share() == (0, 2)

    run(replace(settings, db_pool_min=1, db_pool_max=2), story)


@pytest.mark.parametrize("turns", range(8))
def test_a_cancellation_that_comes_together_with_the_connection_is_not_forgotten(
    settings: Settings, turns: int
) -> None:
    """Within so many turns of the event loop, a connection that was given back has reached who waits for it."""

    async def story(database: Database) -> None:
        held = await database.pool.acquire()
        waiting = asyncio.create_task(database.pool.acquire())
        await asyncio.sleep(0.05)
        await database.pool.release(held)
        for _ in range(turns):
            await asyncio.sleep(0)
        had_it = waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
        if had_it:
            await database.pool.release(waiting.result())
        else:
            assert waiting.cancelled()
        # Nobody has it: the next one gets it.
        await database.pool.release(await database.pool.acquire())

    run(replace(settings, db_pool_min=1, db_pool_max=1), story)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_request_without_an_answer_is_refused_and_the_next_one_gets_another_connection(
    settings: Settings, read_only: bool
) -> None:
    async def story(database: Database) -> None:
        async def ask(statement: Any) -> int:
            opened = database.reader(ADA) if read_only else database.writer(ADA, Origin())
            async with opened as session:
                backend = await backend_of(session)
                with response_timeout(0.2):
                    await session.execute(statement)
            return backend

        before = await ask(select(1))
        with pytest.raises(AppError) as refusal:
            await ask(FOR_LONG)
        assert refusal.value.code is Code.SERVICE_UNAVAILABLE
        assert await ask(select(1)) != before

    run(replace(settings, db_pool_min=1, db_pool_max=1), story)


def test_a_first_statement_without_an_answer_is_not_sent_again(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async with database.reader(ADA) as session:
            await session.execute(select(1))
        sent = text("SELECT pg_sleep(2) AS of_the_silent")
        with response_timeout(0.2), pytest.raises(AppError):
            async with database.reader(ADA) as session:
                await session.execute(sent)
        with psycopg.connect(settings.database_dsn) as connection:
            running = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%of_the_silent%' AND pid <> pg_backend_pid()"
            ).fetchone()
        assert running is not None
        assert running[0] <= 1

    run(settings, story)


def test_who_waits_for_ever_gets_the_answer(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async with database.reader(ADA) as session:
            with response_timeout(0.1), response_timeout(None):
                found = await session.execute(text("SELECT 7 FROM pg_sleep(0.3)"))
            assert found.scalar_one() == 7

    run(settings, story)


def test_a_paused_server_holds_nobody(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async with database.reader(ADA) as session:
            backend = await backend_of(session)
        try:
            os.kill(backend, signal.SIGSTOP)
        except PermissionError:
            pytest.skip("the server is another account's")
        try:
            with response_timeout(0.3), pytest.raises(AppError) as refusal:
                async with database.reader(ADA) as session:
                    await session.execute(select(1))
            assert refusal.value.code is Code.SERVICE_UNAVAILABLE
        finally:
            os.kill(backend, signal.SIGCONT)

    run(replace(settings, db_pool_min=1, db_pool_max=1), story)


def test_who_finds_all_connections_in_use_is_refused_in_time(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async with database.reader(ADA) as session:
            await session.execute(select(1))
            began = time.monotonic()
            with pytest.raises(AppError) as refusal:
                async with database.reader(ADA) as another:
                    await another.execute(select(1))
            assert refusal.value.code is Code.SERVICE_UNAVAILABLE
            assert time.monotonic() - began >= POOL_WAIT_SECONDS * 0.9

    run(replace(settings, db_pool_min=1, db_pool_max=1), story)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_first_statement_is_sent_again_where_its_connection_died_meanwhile(
    settings: Settings, read_only: bool
) -> None:
    async def story(database: Database) -> None:
        async with database.reader(ADA) as one, database.reader(ADA) as two, database.reader(ADA) as three:
            backends = [await backend_of(session) for session in (one, two, three)]
        terminate(settings, *backends)
        for _ in range(3):
            opened = database.reader(ADA) if read_only else database.writer(ADA, Origin())
            async with opened as session:
                assert await backend_of(session) not in backends

    run(settings, story)


def test_a_later_statement_does_not_go_on_over_another_connection(settings: Settings) -> None:
    add = text("INSERT INTO tags (tenant_id, name) VALUES ('default', :name)")
    count = text("SELECT count(*) FROM tags WHERE name IN ('lost', 'kept')")

    async def story(database: Database) -> None:
        async def write() -> None:
            async with database.writer(ADA, Origin()) as session:
                await session.execute(add, {"name": "lost"})
                terminate(settings, await backend_of(session))
                for _ in range(2):
                    with pytest.raises(psycopg.OperationalError):
                        await session.execute(add, {"name": "kept"})

        with pytest.raises(RuntimeError, match="can't be committed"):
            await write()
        async with database.reader(ADA) as session:
            assert (await session.execute(count)).scalar_one() == 0

    run(settings, story)


@pytest.mark.slow
def test_a_database_that_is_away_at_the_start_is_used_once_it_is_there(settings: Settings) -> None:
    away = replace(settings, database_url="postgresql://crm@127.0.0.1:1/crm")

    async def story(database: Database) -> None:
        for _ in range(2):
            with pytest.raises(AppError) as refusal:
                async with database.reader(ADA) as session:
                    await session.execute(select(1))
            assert refusal.value.code is Code.SERVICE_UNAVAILABLE

    run(away, story)
