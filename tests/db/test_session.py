"""One transaction: who it is of, what it sees, what is prepared for it, and how it ends."""

from __future__ import annotations

import asyncio
import resource
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from msgspec.structs import replace
from psycopg import errors
from sqlalchemy import bindparam, func, select, text

from app.access.actor import Actor
from app.access.permissions import Role
from app.db import pool
from app.db.database import Database, Origin
from app.db.errors import translate
from app.db.session import Session, Writer
from app.db.statements import unprepared
from app.models import Tag
from app.settings import Settings
from app.web.errors import AppError
from tests.db.test_pool import ADA, backend_of, run, terminate
from tests.processes import wait_until

TAG = text("INSERT INTO tags (tenant_id, name) VALUES ('default', :name)")
TAGS = text("SELECT count(*) FROM tags WHERE name = :name")


@pytest.fixture
def alone(settings: Settings) -> Settings:
    """A pool of one connection, so that everybody gets the same one."""
    return replace(settings, db_pool_min=1, db_pool_max=1)


async def count_of(session: Session, name: str) -> int:
    return int((await session.execute(TAGS, {"name": name})).scalar_one())


async def prepared(session: Session, part: str) -> int:
    """How many statements with this in them the server keeps for the connection."""
    kept = unprepared(text("SELECT count(*) FROM pg_prepared_statements WHERE strpos(statement, :part) > 0"))
    return int((await session.execute(kept, {"part": part})).scalar_one())


def test_what_failed_is_never_committed_even_where_the_failure_is_swallowed(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async def write() -> None:
            async with database.writer(ADA, Origin()) as session:
                await session.execute(TAG, {"name": "swallowed"})
                with suppress(psycopg.errors.UndefinedFunction):
                    await session.execute(select(func.no_such_function()))

        with pytest.raises(RuntimeError, match="can't be committed"):
            await write()
        async with database.reader(ADA) as session:
            assert await count_of(session, "swallowed") == 0

    run(settings, story)


@pytest.mark.parametrize("kind", ["reader", "single", "writer"])
def test_what_binds_a_transaction_is_set_with_its_first_statement_and_gone_after_it(alone: Settings, kind: str) -> None:
    limits = {
        "role": "crm_service",
        "crm.tenant": "default",
        "crm.user": "ada",
        "TimeZone": "UTC",
        "statement_timeout": "5s",
        "lock_timeout": "2s",
        "idle_in_transaction_session_timeout": "10s",
        "jit": "off",
        "transaction_read_only": "off" if kind == "writer" else "on",
        "transaction_isolation": "repeatable read" if kind == "reader" else "read committed",
    }
    shown = text("SELECT " + ", ".join(f"current_setting('{name}', true)" for name in limits))

    async def story(database: Database) -> None:
        opened = {
            "reader": database.reader(ADA),
            "single": database.reader(ADA, one_statement=True),
            "writer": database.writer(ADA, Origin()),
        }[kind]
        async with opened as session:
            assert (await session.execute(shown)).one() == tuple(limits.values())
        connection = await database.pool.acquire()
        after = await (await connection.execute(str(shown).encode())).fetchone()
        await database.pool.release(connection)
        assert not set(after or ()) & {"crm_service", "default", "ada", "5s", "2s", "10s", "repeatable read"}

    run(alone, story)


def test_a_read_writes_nothing(settings: Settings) -> None:
    async def story(database: Database) -> None:
        for one_statement in (False, True):
            async with database.reader(ADA, one_statement=one_statement) as session:
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    await session.execute(TAG, {"name": "read"})

    run(settings, story)


def test_all_statements_of_a_read_see_one_moment(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async with database.reader(ADA) as session:
            assert await count_of(session, "meanwhile") == 0
            async with database.writer(ADA, Origin()) as writer:
                await writer.execute(TAG, {"name": "meanwhile"})
            assert await count_of(session, "meanwhile") == 0
        async with database.reader(ADA) as session:
            assert await count_of(session, "meanwhile") == 1

    run(settings, story)


def test_a_read_of_one_statement_refuses_a_second_one(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async with database.reader(ADA, one_statement=True) as session:
            await session.execute(select(1))
            with pytest.raises(RuntimeError, match="another moment"):
                await session.execute(select(1))

    run(settings, story)


def test_what_the_database_refuses_only_with_the_commit_is_told(settings: Settings) -> None:
    deferred = """
        CREATE FUNCTION refuse_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE check_violation; END $$;
        CREATE CONSTRAINT TRIGGER refuse_late AFTER INSERT ON tags DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (NEW.name = 'late') EXECUTE FUNCTION refuse_late();
    """

    async def story(database: Database) -> None:
        async def write() -> None:
            async with database.writer(ADA, Origin()) as session:
                await session.execute(TAG, {"name": "late"})

        with pytest.raises(psycopg.errors.CheckViolation):
            await write()

    with psycopg.connect(settings.migration_dsn, autocommit=True) as owner:
        owner.execute(deferred)
        try:
            run(settings, story)
        finally:
            owner.execute("DROP FUNCTION refuse_late CASCADE")


def test_a_write_that_is_given_up_leaves_its_connection_to_the_next(alone: Settings) -> None:
    async def story(database: Database) -> None:
        backends = []
        for _ in range(2):
            with suppress(KeyError):
                async with database.writer(ADA, Origin()) as session:
                    await session.execute(TAG, {"name": "given up"})
                    backends.append(await backend_of(session))
                    raise KeyError
        assert backends[0] == backends[1]
        async with database.reader(ADA) as session:
            assert await count_of(session, "given up") == 0

    run(alone, story)


def test_a_write_that_begins_again_has_written_nothing_before(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async with database.writer(ADA, Origin()) as session:
            await session.execute(TAG, {"name": "before"})
            await session.begin_again()
            assert await count_of(session, "before") == 0
            await session.execute(TAG, {"name": "after"})
        async with database.reader(ADA) as reader:
            assert await count_of(reader, "after") == 1

    run(settings, story)


# ── what is prepared ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_small_and_a_large_number_share_a_prepared_statement(alone: Settings) -> None:
    statement = text("SELECT :number + 1 AS larger")

    async def story(database: Database) -> None:
        async with database.reader(ADA) as session:
            for number in (1, 2**20, 2**40):
                assert (await session.execute(statement, {"number": number})).scalar_one() == number + 1
            assert await prepared(session, "AS larger") == 1

    run(alone, story)


def test_each_organization_has_plans_of_its_own(alone: Settings) -> None:
    statement = text("SELECT 'whose'")

    async def story(database: Database) -> None:
        for tenant in ("one", "one", "two"):
            actor = Actor(user_id="ada", tenant_id=tenant, role=Role.ADMIN)
            async with database.reader(actor) as session:
                await session.execute(statement)
                found = await prepared(session, "SELECT 'whose'")
        assert found == 2

    run(alone, story)


def test_only_so_many_statements_stay_prepared_and_the_longest_unused_goes(alone: Settings) -> None:
    often = text("SELECT 'often'")

    async def story(database: Database) -> None:
        async with database.reader(ADA) as session:
            for number in range(20):
                assert (await session.execute(text(f"SELECT {number} AS seldom"))).scalar_one() == number
                assert (await session.execute(often)).scalar_one() == "often"
            assert await prepared(session, "'often'") == 1
            assert await prepared(session, "AS seldom") <= 5

    with patch.object(pool, "MOST_PREPARED", 5):
        run(alone, story)


def test_what_is_undone_stays_prepared(alone: Settings) -> None:
    async def story(database: Database) -> None:
        async def undone() -> None:
            async with database.writer(ADA, Origin()) as session:
                await session.execute(TAG, {"name": "undone"})
                raise KeyError

        for _ in range(2):
            with pytest.raises(KeyError):
                await undone()
        async with database.writer(ADA, Origin()) as session:
            assert await count_of(session, "undone") == 0
            assert await prepared(session, "INSERT INTO tags") == 1

    run(alone, story)


def test_behind_a_pooler_nothing_is_prepared(alone: Settings) -> None:
    async def story(database: Database) -> None:
        async with database.reader(ADA) as session:
            await session.execute(text("SELECT 'through a pooler'"))
            assert await prepared(session, "") == 0

    run(replace(alone, db_prepared_statements=False), story)


def test_a_statement_whose_columns_changed_type_since_is_prepared_anew_over_another_connection(
    alone: Settings,
) -> None:
    statement = text("SELECT * FROM changing")

    async def story(database: Database) -> None:
        with psycopg.connect(alone.migration_dsn, autocommit=True) as owner:
            owner.execute("CREATE TABLE changing (x int); INSERT INTO changing VALUES (7)")
            owner.execute("GRANT SELECT ON changing TO crm_service")
            try:
                for kind in ("int", "text"):
                    owner.execute(f"ALTER TABLE changing ALTER x TYPE {kind}".encode())
                    async with database.reader(ADA) as session:
                        assert str((await session.execute(statement)).scalar_one()) == "7"
            finally:
                owner.execute("DROP TABLE changing")

    run(alone, story)


def test_what_somebody_took_away_is_prepared_anew_over_another_connection(alone: Settings) -> None:
    statement = text("SELECT 'again'")

    async def story(database: Database) -> None:
        for _ in range(2):
            async with database.reader(ADA) as session:
                assert (await session.execute(statement)).scalar_one() == "again"
            connection = await database.pool.acquire()
            # So that psycopg does not notice.
            await connection.execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$", prepare=False)
            await database.pool.release(connection)

    run(alone, story)


# ── what goes in and comes out ───────────────────────────────────────────────────────────────────────────────────────


def test_a_parameter_that_is_missing_is_a_fault_not_a_null(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async with database.reader(ADA) as session:
            with pytest.raises(KeyError, match="name"):
                await session.execute(TAGS)

    run(settings, story)


@pytest.mark.parametrize("most", [7, 105])
def test_few_or_many_rows_are_fetched_in_order_and_each_made_into_something(settings: Settings, most: int) -> None:
    rows = text("SELECT n, n * 2, '{}'::json FROM generate_series(1, :most) AS n")

    async def story(database: Database) -> None:
        async with database.reader(ADA) as session:
            for _ in range(2):
                found = await session.fetch(rows, {"most": most}, lambda row: row[1:], most=most)
                assert found == [(2 * n, {}) for n in range(1, most + 1)]

    run(settings, story)


def test_of_many_rows_never_all_are_held(settings: Settings) -> None:
    rows = text("SELECT n, repeat('x', 1000000) FROM generate_series(1, 100) AS n")
    held: list[int] = []

    async def story(database: Database) -> None:
        def note(row: tuple[Any, ...]) -> None:
            if row[0] == 60:
                held.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())

        async with database.reader(ADA) as session:
            await session.fetch(rows, {}, note, most=1)  # warm
            before = held.pop()
            await session.fetch(rows, {}, note, most=100)
            assert held.pop() < before - 30_000_000

    run(settings, story)


def test_many_rows_that_fail_on_the_way_leave_the_connection_whole(alone: Settings) -> None:
    rows = text("SELECT 1 / (60 - n) FROM generate_series(1, 100) AS n")

    async def story(database: Database) -> None:
        async with database.reader(ADA) as session:
            backend = await backend_of(session)
            with pytest.raises(psycopg.errors.DivisionByZero):
                await session.fetch(rows, {}, lambda row: row, most=100)
        async with database.reader(ADA) as session:
            assert await backend_of(session) == backend

    run(alone, story)


def test_a_read_of_one_statement_streams_nothing(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async with database.reader(ADA, one_statement=True) as session:
            with pytest.raises(RuntimeError, match="within a transaction"):
                await session.fetch(text("SELECT 1"), {}, lambda row: row, most=100)

    run(settings, story)


def test_rows_have_the_names_and_types_of_their_columns(settings: Settings) -> None:
    c = Tag.__table__.c
    named = select(c.name, c.created_at).where(c.name == bindparam("wanted"))

    async def story(database: Database) -> None:
        async with database.writer(ADA, Origin()) as session:
            assert (await session.execute(TAG, {"name": "named"})).all() == []
            row: Any = (await session.execute(named, {"wanted": "named"})).mappings().one()
        assert row["name"] == "named"
        assert row["created_at"].tzinfo is not None

    run(settings, story)


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


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


def test_a_change_that_is_idle_after_its_first_statement_is_ended(settings: Settings) -> None:
    alive = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"

    async def story(database: Database) -> None:
        async with database.writer(ADA, Origin()) as session:
            first = text("SELECT pg_backend_pid(), set_config('idle_in_transaction_session_timeout', '50ms', true)")
            backend = (await session.execute(first)).one()[0]
            with psycopg.connect(settings.migration_dsn, autocommit=True) as watcher:
                wait_until(lambda: watcher.execute(alive, [backend]).fetchone() == (0,), "the server ends the session")
            await session.execute(TAG, {"name": "too late"})

    with pytest.raises(AppError) as refused:
        run(settings, story)
    assert refused.value.status == 503


def test_large_reads_do_not_wait_for_each_other_in_a_circle(settings: Settings) -> None:
    numbers = text("SELECT generate_series(1, 500)")

    async def story(database: Database) -> None:
        async def read(*, small_one_first: bool) -> int:
            async with database.reader(ADA) as session:
                if small_one_first:
                    await session.execute(select(1))
                return len(await session.fetch(numbers, {}, lambda row: row, most=500))

        reads = (read(small_one_first=bool(number % 2)) for number in range(12))
        assert await asyncio.gather(*reads) == [500] * 12

    run(replace(settings, db_pool_min=2, db_pool_max=2), story)


def test_a_connection_that_is_still_in_a_pipeline_is_not_lent_again(alone: Settings) -> None:
    async def story(database: Database) -> None:
        connection = await database.pool.acquire()
        # As a task does that is cancelled on its way into it.
        await connection.pipeline().__aenter__()
        await database.pool.release(connection)
        async with database.reader(ADA) as session:
            assert [await count_of(session, name) for name in ("one", "two")] == [0, 0]

    run(alone, story)


def test_a_read_that_fails_leaves_no_prepared_statement(alone: Settings) -> None:
    async def story(database: Database) -> None:
        for one_statement in (False, True) * 3:
            with pytest.raises(errors.DivisionByZero):
                async with database.reader(ADA, one_statement=one_statement) as session:
                    await session.execute(text("SELECT 1 / (SELECT 0) AS never_there"))
        async with database.reader(ADA) as session:
            assert await prepared(session, "never_there") == 0

    run(alone, story)


def test_what_fails_in_a_savepoint_is_undone_alone_at_any_depth(alone: Settings) -> None:
    async def fail(session: Writer, name: str) -> None:
        with suppress(errors.DivisionByZero):
            async with session.savepoint():
                await session.execute(TAG, {"name": name})
                await session.execute(text("SELECT 1 / (SELECT 0)"))
            pytest.fail("it divided by zero")

    async def story(database: Database) -> None:
        async with database.writer(ADA, Origin()) as session:
            await fail(session, "first of all")
            for number in range(8):
                await session.execute(TAG, {"name": f"outside {number}"})
                async with session.savepoint():
                    await session.execute(TAG, {"name": f"inside {number}"})
                    await fail(session, f"deep inside {number}")
                    await session.execute(TAG, {"name": f"after {number}"})
                await fail(session, f"undone {number}")
        kept = text("SELECT count(*) FROM tags WHERE name ~ '^(outside|inside|after) [0-7]$'")
        left = text("SELECT count(*) FROM tags WHERE name ~ '^(first of all|deep inside|undone)'")
        async with database.reader(ADA) as session:
            assert (await session.execute(kept)).scalar_one() == 24
            assert (await session.execute(left)).scalar_one() == 0

    run(alone, story)


def test_to_begin_again_in_a_savepoint_keeps_what_was_before_it(settings: Settings) -> None:
    async def story(database: Database) -> None:
        async with database.writer(ADA, Origin()) as session:
            await session.execute(TAG, {"name": "kept before"})
            async with session.savepoint():
                await session.execute(TAG, {"name": "begun again"})
                with suppress(errors.DivisionByZero):
                    await session.execute(text("SELECT 1 / (SELECT 0)"))
                await session.begin_again()
                assert [await count_of(session, name) for name in ("kept before", "begun again")] == [1, 0]
                await session.execute(TAG, {"name": "kept after"})
        async with database.reader(ADA) as session:
            names = ("kept before", "begun again", "kept after")
            assert [await count_of(session, name) for name in names] == [1, 0, 1]

    run(settings, story)


def test_a_connection_that_breaks_in_a_savepoint_is_not_lent_again(alone: Settings) -> None:
    async def story(database: Database) -> None:
        async def write() -> None:
            async with database.writer(ADA, Origin()) as session, session.savepoint():
                await asyncio.to_thread(terminate, alone, await backend_of(session))
                await session.execute(TAG, {"name": "broken"})

        with pytest.raises(AppError) as refused:
            await write()
        assert refused.value.status == 503
        async with database.reader(ADA) as session:
            assert await count_of(session, "broken") == 0

    run(alone, story)
