"""A server that says nothing is not waited for longer than its own limits allow it to think."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from sqlalchemy import text

from app.access.actor import Actor
from app.access.permissions import Role
from app.db.driver import ANSWER_SECONDS, Connection, patience
from app.db.transaction import SETTINGS, Database, Origin
from app.settings import Settings
from app.web.errors import AppError, Code

NOTHING_FOR_LONG = "SELECT pg_sleep(3)"


def test_the_servers_own_limit_comes_first() -> None:
    assert float(SETTINGS["statement_timeout"].strip("'s")) < ANSWER_SECONDS


def test_a_connection_without_an_answer_is_closed(settings: Settings) -> None:
    async def ask() -> bool:
        async with await Connection.connect(settings.database_dsn) as connection:
            with patience(0.2), pytest.raises(psycopg.OperationalError):
                await connection.execute(NOTHING_FOR_LONG)
            return connection.closed

    assert asyncio.run(ask())


def test_who_is_patient_gets_the_answer(settings: Settings) -> None:
    async def ask() -> object:
        async with await Connection.connect(settings.database_dsn) as connection:
            with patience(0.1), patience(None):
                return await (await connection.execute("SELECT pg_sleep(0.3), 7")).fetchone()

    assert asyncio.run(ask()) == ("", 7)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_request_is_refused_and_the_next_one_gets_another_connection(
    settings: Settings, tenant: str, read_only: bool
) -> None:
    somebody = Actor(user_id="1", tenant_id=tenant, role=Role.ADMIN)

    async def ask(database: Database, question: str) -> int:
        async with database.transaction(somebody, Origin(), read_only=read_only) as tx:
            pid = (await tx.connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            with patience(0.2):
                await tx.connection.execute(text(question))
        return int(pid)

    async def ask_both() -> tuple[int, int]:
        database = Database(settings)
        try:
            first = await ask(database, "SELECT 1")
            with pytest.raises(AppError) as refusal:
                await ask(database, NOTHING_FOR_LONG)
            assert refusal.value.code is Code.SERVICE_UNAVAILABLE
            assert database.pool.checkedout() == 0
            return first, await ask(database, "SELECT 1")
        finally:
            await database.engine.dispose()

    before, after = asyncio.run(ask_both())
    assert before != after
