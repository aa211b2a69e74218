"""What is sealed when, and who may not."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from psycopg import errors

from app.cli.routines import note_routine
from app.db.database import Database
from app.db.roles import enter_tenant
from app.records import audit_chain
from app.records.maintenance import Held, measure_routines, measure_sealing
from app.settings import Settings
from tests.callers import Caller
from tests.records.chains import breaks, seal, with_database
from tests.test_telemetry import metric


def add_tag(connection: psycopg.Connection, tenant: str, name: str) -> None:
    """In a transaction that stays open."""
    enter_tenant(connection, tenant, {})
    connection.execute("INSERT INTO tags (tenant_id, name) VALUES (%s, %s)", [tenant, name])


@pytest.mark.parametrize("older", ["early", "late"])
def test_an_entry_that_is_committed_late_is_waited_for(older: str, settings: Settings, admin: Caller) -> None:
    """Or a lower id would come after a higher one, or be passed over; whichever transaction began first."""

    async def work(database: Database) -> tuple[set[int], int]:
        while not (caught_up := await audit_chain.seal(database)) or caught_up.count:
            pass
        with psycopg.connect(settings.database_dsn) as late, psycopg.connect(settings.database_dsn) as early:
            {"early": early, "late": late}[older].execute("SELECT pg_current_xact_id()")
            add_tag(late, admin.tenant, "late")
            add_tag(early, admin.tenant, "early")
            early.commit()
            meanwhile = {progress.count for _ in range(3) if (progress := await audit_chain.seal(database))}
        finished = [progress.count for _ in range(3) if (progress := await audit_chain.seal(database))]
        return meanwhile, sum(finished)

    assert with_database(settings, work) == ({0}, 2)
    sequences = {entry["new_values"]["name"]: entry["sequence"] for entry in admin.audit(resource_type="tag")}
    assert sequences == {"late": 1, "early": 2}


def test_how_long_the_feed_is_held_is_measured(settings: Settings, admin: Caller) -> None:
    now = 100.0
    held = Held(lambda: now)

    async def sealed(database: Database) -> float:
        while (progress := await audit_chain.seal(database)) is None:
            pass
        held.note(progress)
        return held.seconds()

    seal(settings)
    assert with_database(settings, sealed) == 0
    with psycopg.connect(settings.database_dsn) as elsewhere:
        elsewhere.execute("SELECT pg_current_xact_id()")
        admin.tag("held")
        assert with_database(settings, sealed) == 0
        now += 60
        admin.tag("later")
        assert with_database(settings, sealed) == 60
    with_database(settings, sealed)
    assert with_database(settings, sealed) == 0


def test_a_transaction_that_is_rolled_back_leaves_no_gap(settings: Settings, admin: Caller) -> None:
    admin.tag("one")
    with psycopg.connect(settings.database_dsn) as connection:
        add_tag(connection, admin.tenant, "never")
        connection.rollback()
    admin.tag("two")
    seal(settings)
    assert [entry["sequence"] for entry in admin.audit()] == [2, 1]
    assert breaks(settings, admin.tenant) == []


def test_two_that_seal_while_fifty_write_make_one_chain(settings: Settings, admin: Caller) -> None:
    admin.ok("GET", "/admin/me")

    async def work(database: Database) -> None:
        async def go_on() -> None:
            while not written.done() or (
                (progress := await audit_chain.seal(database)) and progress.sealed < progress.newest
            ):
                await audit_chain.seal(database)

        # No more at once than have a connection: on a busy machine, whoever waits for one is refused.
        with ThreadPoolExecutor(settings.db_pool_max) as pool:
            written = asyncio.ensure_future(asyncio.to_thread(lambda: list(pool.map(admin.tag, map(str, range(50))))))
            await asyncio.gather(go_on(), go_on(), written)

    with_database(settings, work)
    seal(settings)
    assert sorted(entry["sequence"] for entry in admin.audit()) == list(range(1, 51))
    assert breaks(settings, admin.tenant) == []


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize("role", ["crm_service", "crm_service_own"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_seals SET hash = hash",
        "DELETE FROM audit_seals",
        "TRUNCATE audit_seals",
        "UPDATE audit_entries SET user_id = 'x'",
        "DELETE FROM audit_entries",
    ],
)
def test_the_service_changes_nothing_that_was_written(role: str, statement: str, settings: Settings) -> None:
    with psycopg.connect(settings.database_dsn, autocommit=True) as connection:
        connection.execute(f"SET ROLE {role}")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement)


def test_the_service_seals_nothing_under_its_own_role(service_connection: psycopg.Connection, admin: Caller) -> None:
    service_connection.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
    with pytest.raises(errors.InsufficientPrivilege):
        service_connection.execute("INSERT INTO audit_seals VALUES (%s, 1, 1, sha256('x'))", [admin.tenant])


def test_what_is_not_sealed_is_counted_with_its_age(
    settings: Settings, admin: Caller, client: TestClient[Litestar]
) -> None:
    seal(settings)
    admin.tag()
    with_database(settings, measure_sealing)
    waiting = metric(client, "crm_audit_unsealed_entries")
    assert waiting >= 1
    assert metric(client, "crm_audit_oldest_unsealed_seconds") > 0
    seal(settings)
    with_database(settings, measure_sealing)
    assert metric(client, "crm_audit_unsealed_entries") < waiting


def test_regular_work_that_was_done_is_told_with_its_time(settings: Settings, client: TestClient[Litestar]) -> None:
    before = time.time()
    note_routine(settings, "backup")
    with_database(settings, measure_routines)
    assert metric(client, 'crm_routine_timestamp_seconds{routine="backup"}') >= before - 1
    with pytest.raises(errors.CheckViolation):
        note_routine(settings, "something else")
