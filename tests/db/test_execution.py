"""How statements get to the database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import func, literal, select, text

from app.access.actor import Actor
from app.access.permissions import Role
from app.db import driver
from app.db.driver import Connection, NoAnswerError, Question, patience
from app.db.errors import translate
from app.db.transaction import Database, Origin
from app.settings import Settings
from app.web.errors import AppError

ADA = Actor(user_id="ada", tenant_id="default", role=Role.ADMIN)
STATEMENTS_KEPT = Question("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'crm%'")
TAG = text("INSERT INTO tags (tenant_id, name) VALUES ('default', :name)")
TAGS = text("SELECT count(*) FROM tags WHERE name = :name")


def over_one_connection(settings: Settings, story: Callable[[Connection], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with await Connection.connect(settings.database_dsn, prepare_threshold=0) as connection:
            await story(connection)

    asyncio.run(run())


def test_several_statements_are_one_transaction_and_answer_with_the_last(settings: Settings) -> None:
    async def story(connection: Connection) -> None:
        set_it = Question("SELECT set_config('crm.tenant', $1, true)", ["blue"])
        read_it = Question("SELECT current_setting('crm.tenant', true), $1::int + 1", [41])
        assert (await connection.ask(set_it, read_it)).rows == [("blue", 42)]
        assert (await connection.ask(read_it)).rows == [("", 42)]

    over_one_connection(settings, story)


def test_a_refused_statement_undoes_those_before_it_and_leaves_the_connection_whole(settings: Settings) -> None:
    async def story(connection: Connection) -> None:
        for _ in range(2):
            wrong = Question("SELECT 1 / $1::int", [0])
            with pytest.raises(psycopg.errors.DivisionByZero):
                await connection.ask(Question("SELECT set_config('crm.tenant', 'red', false)"), wrong)
            assert connection.failed is wrong
            assert (await connection.ask(Question("SELECT current_setting('crm.tenant', true)"))).rows in (
                [("",)],
                [(None,)],
            )

    over_one_connection(settings, story)


def test_only_so_many_statements_stay_prepared_and_the_longest_unused_goes(settings: Settings) -> None:
    async def story(connection: Connection) -> None:
        often = Question("SELECT 'often'")
        with patch.object(driver, "MOST_PREPARED", 5):
            for number in range(20):
                assert (await connection.ask(Question(f"SELECT {number}"))).rows == [(number,)]
                assert (await connection.ask(often)).rows == [("often",)]
        assert (await connection.ask(STATEMENTS_KEPT)).rows == [(6,)]
        assert (often.sql, (), ()) in connection._names

    over_one_connection(settings, story)


def test_behind_a_pooler_nothing_is_prepared(settings: Settings) -> None:
    async def run() -> None:
        async with await Connection.connect(settings.database_dsn, prepare_threshold=None) as connection:
            assert (await connection.ask(Question("SELECT $1::int", [7]))).rows == [(7,)]
            assert (await connection.ask(STATEMENTS_KEPT)).rows == [(0,)]

    asyncio.run(run())


def with_database(settings: Settings, story: Callable[[Database], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        database = Database(settings)
        try:
            await story(database)
            assert database.pool.checkedout() == 0
        finally:
            await database.engine.dispose()

    asyncio.run(run())


def test_a_small_and_a_large_number_share_a_prepared_statement(settings: Settings) -> None:
    statement = text("SELECT :number + 1")

    async def story(database: Database) -> None:
        async with database.transaction(ADA, Origin(), read_only=True) as tx:
            for number in (1, 2**20, 2**40):
                assert (await tx.connection.execute(statement, {"number": number})).scalar_one() == number + 1

    with_database(settings, story)


def test_what_failed_is_never_committed_even_where_the_failure_is_swallowed(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async def write() -> None:
            async with database.transaction(ADA, Origin()) as tx:
                await tx.connection.execute(TAG, {"name": "swallowed"})
                with suppress(psycopg.errors.UndefinedFunction):
                    await tx.connection.execute(select(func.no_such_function()))

        with pytest.raises(RuntimeError, match="can't be committed"):
            await write()
        async with database.transaction(ADA, Origin(), read_only=True) as tx:
            assert (await tx.connection.execute(TAGS, {"name": "swallowed"})).scalar_one() == 0

    with_database(settings, story)


@pytest.mark.parametrize("read_only", [True, False])
def test_what_binds_a_transaction_is_set_with_its_first_statement_and_gone_after_it(
    settings: Settings, read_only: bool
) -> None:
    limits = {
        "role": "crm_service",
        "crm.tenant": "default",
        "crm.user": "ada",
        "TimeZone": "UTC",
        "statement_timeout": "5s",
        "lock_timeout": "2s",
        "transaction_read_only": "on" if read_only else "off",
    } | ({} if read_only else {"idle_in_transaction_session_timeout": "10s"})
    shown = text("SELECT " + ", ".join(f"current_setting('{name}', true)" for name in limits))

    async def story(database: Database) -> None:
        async with database.transaction(ADA, Origin(), read_only=True) as tx:
            await tx.connection.execute(select(literal(1)))
            await tx.connection._driver.ask(Question("SET timezone TO 'Asia/Tokyo'"))
        async with database.transaction(ADA, Origin(), read_only=read_only) as tx:
            assert (await tx.connection.execute(shown)).one() == tuple(limits.values())
            connection = tx.connection._driver
        after = (await connection.ask(Question(str(shown)))).rows[0]
        assert not set(after) & {"crm_service", "default", "ada", "UTC", "5s", "2s", "10s"}

    with_database(settings, story)


def test_a_read_writes_nothing(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async with database.transaction(ADA, Origin(), read_only=True) as tx:
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                await tx.connection.execute(TAG, {"name": "read"})

    with_database(settings, story)


def test_what_the_database_refuses_only_with_the_commit_is_told(settings: Settings) -> None:
    deferred = """
        CREATE FUNCTION refuse_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE check_violation; END $$;
        CREATE CONSTRAINT TRIGGER refuse_late AFTER INSERT ON tags DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (NEW.name = 'late') EXECUTE FUNCTION refuse_late();
    """

    async def story(database: Database) -> None:
        async def write() -> None:
            async with database.transaction(ADA, Origin()) as tx:
                await tx.connection.execute(TAG, {"name": "late"})

        with pytest.raises(psycopg.errors.CheckViolation):
            await write()

    with psycopg.connect(settings.migration_dsn, autocommit=True) as owner:
        owner.execute(deferred)
        try:
            with_database(settings, story)
        finally:
            owner.execute("DROP FUNCTION refuse_late CASCADE")


def test_a_write_that_is_given_up_leaves_its_connection_to_the_next(settings: Settings) -> None:
    async def story(database: Database) -> None:
        backends = []
        for _ in range(2):
            with suppress(KeyError):
                async with database.transaction(ADA, Origin()) as tx:
                    await tx.connection.execute(TAG, {"name": "given up"})
                    backends.append((await tx.connection.execute(text("SELECT pg_backend_pid()"))).scalar_one())
                    raise KeyError
        assert backends[0] == backends[1]
        async with database.transaction(ADA, Origin(), read_only=True) as tx:
            assert (await tx.connection.execute(TAGS, {"name": "given up"})).scalar_one() == 0

    with_database(settings, story)


def test_a_transaction_whose_connection_is_lost_does_not_go_on_over_another(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async def write() -> None:
            async with database.transaction(ADA, Origin()) as tx:
                await tx.connection.execute(TAG, {"name": "lost"})
                tx.connection._driver.pgconn.finish()
                for _ in range(2):
                    with suppress(psycopg.OperationalError):
                        await tx.connection.execute(TAG, {"name": "kept"})

        with pytest.raises(RuntimeError, match="can't be committed"):
            await write()
        async with database.transaction(ADA, Origin(), read_only=True) as tx:
            for name in ("lost", "kept"):
                assert (await tx.connection.execute(TAGS, {"name": name})).scalar_one() == 0

    with_database(settings, story)


def test_a_first_statement_is_sent_again_where_its_connection_died_meanwhile(settings: Settings) -> None:
    async def story(database: Database) -> None:
        for read_only in (True, False):
            async with database.transaction(ADA, Origin(), read_only=True) as tx:
                await tx.connection.execute(select(literal(1)))
                tx.connection._driver.pgconn.finish()
            async with database.transaction(ADA, Origin(), read_only=read_only) as tx:
                assert (await tx.connection.execute(select(literal(2)))).scalar_one() == 2

    with_database(settings, story)


def test_a_parameter_that_is_missing_is_a_fault_not_a_null(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async with database.transaction(ADA, Origin(), read_only=True) as tx:
            with pytest.raises(KeyError):
                await tx.connection.execute(TAGS)

    with_database(settings, story)


def test_what_somebody_took_away_is_prepared_anew_over_another_connection(settings: Settings) -> None:
    statement = text("SELECT 'again'")

    async def story(database: Database) -> None:
        for _ in range(2):
            async with database.transaction(ADA, Origin(), read_only=True) as tx:
                assert (await tx.connection.execute(statement)).scalar_one() == "again"
                await tx.connection._driver.ask(Question("DEALLOCATE ALL", prepare=False))

    with_database(settings, story)


def test_in_a_failed_transaction_nothing_stays_prepared_that_was_forgotten(settings: Settings) -> None:
    async def story(connection: Connection) -> None:
        with patch.object(driver, "MOST_PREPARED", 3):
            for number in range(3):
                await connection.ask(Question(f"SELECT {number}"))
            await connection.ask(Question("BEGIN", prepare=False))
            for number in range(3, 6):
                with pytest.raises(psycopg.Error):
                    await connection.ask(Question(f"SELECT {number} / 0"))
            await connection.ask(Question("ROLLBACK", prepare=False))
        (known,) = (await connection.ask(STATEMENTS_KEPT)).rows[0]
        assert known == len(connection._names)

    over_one_connection(settings, story)


def test_who_gets_no_answer_is_not_kept_waiting_for_a_second_one(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async with database.transaction(ADA, Origin(), read_only=True) as tx:
            began = time.monotonic()
            with patience(0.5), pytest.raises(NoAnswerError):
                await tx.connection.execute(text("SELECT pg_sleep(3)"))
            assert time.monotonic() - began < 0.9

    with_database(settings, story)


@pytest.mark.parametrize(
    "trouble",
    [errors.DiskFull, errors.OutOfMemory, errors.AdminShutdown, errors.IoError, errors.TooManyConnections],
)
def test_a_database_in_passing_trouble_is_unavailable(trouble: type[psycopg.Error]) -> None:
    refusal = translate(trouble("it will pass"))
    assert isinstance(refusal, AppError)
    assert refusal.status == 503


def test_a_fault_of_ours_stays_one() -> None:
    fault = errors.UndefinedTable("no such table")
    assert translate(fault) is fault


def test_each_organization_has_plans_of_its_own(settings: Settings) -> None:
    statement = text("SELECT 'whose'")
    kept = Question("SELECT count(*) FROM pg_prepared_statements WHERE statement = $1", ["SELECT 'whose'"])

    async def story(database: Database) -> None:
        for tenant in ("one", "one", "two"):
            actor = Actor(user_id="ada", tenant_id=tenant, role=Role.ADMIN)
            async with database.transaction(actor, Origin(), read_only=True) as tx:
                await tx.connection.execute(statement)
                found = (await tx.connection._driver.ask(kept)).rows
        assert found == [(2,)]

    with_database(settings, story)
