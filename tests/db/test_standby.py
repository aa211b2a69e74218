"""Reads from a standby: a real one, which streams from a real primary."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator

import httpx
import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from msgspec.structs import replace
from prometheus_client import REGISTRY
from sqlalchemy import text

from app.access.actor import Actor
from app.access.permissions import Role
from app.db import standby
from app.db.database import Database
from app.db.startup import UnsafeRoleError, check_role
from app.dev.postgres import OWNER, TEMPLATE, EmbeddedPostgres
from app.main import create_app
from app.settings import Settings
from tests.callers import Caller, Callers
from tests.cli.test_doctor import diagnosis
from tests.processes import wait_until
from tests.records.chains import seal

ADA = Actor(user_id="ada", tenant_id="default", role=Role.ADMIN)
OPTIONS = ("fsync=off", "full_page_writes=off")
# What a primary would say of which the standby is no copy.
OF_ANOTHER = "SELECT pg_current_wal_flush_lsn()::text, 7::bigint"


class Follower(EmbeddedPostgres):
    """A standby. It begins as a copy of what its primary began as, and streams what came since."""

    def _initialize(self) -> None:
        super()._initialize()
        (self._pgdata / "standby.signal").touch()


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    if TEMPLATE not in os.environ:
        pytest.skip("there is no template of servers")
    server = EmbeddedPostgres(tmp_path_factory.mktemp("primary"), options=OPTIONS)
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture(scope="module")
def follower(primary: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    follows = (f"primary_conninfo={primary.dsn(user='postgres')}", "wal_retrieve_retry_interval=100ms")
    server = Follower(tmp_path_factory.mktemp("standby"), options=(*OPTIONS, *follows, "hot_standby_feedback=on"))
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.fixture(scope="module")
def replicated(settings: Settings, primary: EmbeddedPostgres, follower: EmbeddedPostgres) -> Settings:
    return replace(
        settings,
        database_url=primary.dsn(),
        migration_database_url=primary.dsn(user=OWNER),
        database_read_url=follower.dsn(),
        report_cache_seconds=0,
        public_url="https://crm.example.com",
    )


@pytest.fixture(scope="module")
def served(replicated: Settings) -> Iterator[TestClient[Litestar]]:
    with TestClient(create_app(replicated)) as client:
        yield client


@pytest.fixture
def ada(served: TestClient[Litestar], replicated: Settings, tenant: str) -> Caller:
    return Callers(served, replicated).person("admin", tenant)


@pytest.fixture(autouse=True)
def _tried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read tries the standby anew, whatever became of the one before."""
    monkeypatch.setattr(standby, "PAUSE_SECONDS", 0.0)


def outcomes(do: Callable[[], object]) -> dict[str, int]:
    """Where the reads went that this does: how many by each outcome."""

    def counted() -> dict[str, float]:
        return {one: REGISTRY.get_sample_value("crm_standby_reads_total", {"outcome": one}) or 0 for one in all_}

    all_ = list(standby.Outcome)
    before = counted()
    do()
    return {one: int(now - before[one]) for one, now in counted().items() if now != before[one]}


def asked(caller: Caller, path: str) -> tuple[httpx.Response, dict[str, int]]:
    """The answer, and where it was read."""
    answers: list[httpx.Response] = []
    gone = outcomes(lambda: answers.append(caller.call("GET", path)))
    return answers[0], gone


def as_superuser(server: EmbeddedPostgres, statement: str) -> None:
    with psycopg.connect(server.dsn(user="postgres"), autocommit=True) as connection:
        connection.execute(statement)


def customers(caller: Caller) -> int:
    return int(caller.ok("GET", "/admin/reports/overview")["customers"]["total"])


def test_a_read_there_sees_what_was_written_a_moment_before(ada: Caller) -> None:
    def write_and_read() -> None:
        for count in range(1, 11):
            ada.customer(f"Customer {count}")
            assert customers(ada) == count

    assert outcomes(write_and_read) == {"standby": 10}


def test_what_is_read_there_is_read_there(replicated: Settings) -> None:
    async def ask(*, standby: bool) -> bool:
        async with Database(replicated) as database, database.reader(ADA, standby=standby) as session:
            return bool((await session.execute(text("SELECT pg_is_in_recovery()"))).scalar_one())

    assert asyncio.run(ask(standby=True))
    assert not asyncio.run(ask(standby=False))


@pytest.mark.parametrize("role", ["admin", "agent"])
def test_every_report_export_and_event_is_the_same_from_there(
    served: TestClient[Litestar], replicated: Settings, ada: Caller, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = served.app.state.database
    monkeypatch.setattr(database, "own_scope", True)
    reader = ada if role == "admin" else Callers(served, replicated).person(role, ada.tenant)
    customer = reader.customer("Ada", email="ada@example.com")["id"]
    reader.ok("POST", "/admin/deals", {"title": "Engine", "amount": 10, "customer_id": customer, "stage": "proposal"})
    seal(replicated)

    found = {path: asked(reader, path) for path in read_there(served.app, customer, everything=role == "admin")}

    monkeypatch.setattr(database, "standby", None)
    for path, (answer, went) in found.items():
        assert went == {"standby": 1}, path
        assert answer.status_code == 200, f"{path}: {answer.text}"
        # A dossier has those before in its history, and a workbook the time when it was made.
        if "dossier" not in path and "xlsx" not in path:
            assert answer.content == reader.call("GET", path).content, path


def read_there(app: Litestar, customer: int, *, everything: bool) -> list[str]:
    """The routes that are answered from a standby: all reports and exports, also those that come later."""
    paths = sorted(route.path_format for route in app.routes if route.path_format.startswith("/admin/"))
    reports = [path for path in paths if path.startswith("/admin/reports/")]
    exports = [path for path in paths if path.endswith("/export")]
    assert len(reports) >= 5
    assert len(exports) >= 6
    whole = ["/admin/events?after=0", f"/admin/customers/{customer}/dossier", "/admin/customers/export?format=xlsx"]
    lines = [f"{path}?format=jsonl" for path in exports]
    return [*reports, *exports, *([*whole, *lines] if everything else [])]


def test_a_standby_that_is_behind_is_not_read_until_it_has_caught_up(ada: Caller, follower: EmbeddedPostgres) -> None:
    ada.customer()
    as_superuser(follower, "SELECT pg_wal_replay_pause()")
    try:
        ada.customer()
        assert outcomes(lambda: customers(ada)) == {"behind": 1}
        assert customers(ada) == 2
    finally:
        as_superuser(follower, "SELECT pg_wal_replay_resume()")
    wait_until(lambda: outcomes(lambda: customers(ada)) == {"standby": 1}, "the standby to be read again")


def test_while_the_standby_is_away_reads_go_on_and_it_is_used_when_it_is_back(
    ada: Caller, follower: EmbeddedPostgres
) -> None:
    ada.customer()
    assert outcomes(lambda: customers(ada)) == {"standby": 1}
    follower.stop()
    try:
        for _ in range(2):
            assert outcomes(lambda: customers(ada)) == {"away": 1}
        assert customers(ada) == 1
    finally:
        follower.start()
    wait_until(lambda: outcomes(lambda: customers(ada)) == {"standby": 1}, "the standby to be read again")


def test_a_standby_that_says_nothing_holds_no_read_up(ada: Caller, follower: EmbeddedPostgres) -> None:
    ada.customer()
    with psycopg.connect(follower.dsn(user="postgres")) as connection:
        busy = connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'crm-service'").fetchall()
    for (pid,) in busy:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert outcomes(lambda: customers(ada)) == {"away": 1}
    finally:
        for (pid,) in busy:
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: outcomes(lambda: customers(ada)) == {"standby": 1}, "the standby to be read again")


def test_after_a_failure_the_standby_is_left_alone_for_a_while(
    replicated: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "PAUSE_SECONDS", 3600.0)

    async def story() -> None:
        async with Database(replace(replicated, database_read_url="postgresql://crm@localhost:1/crm")) as database:

            async def read() -> None:
                async with database.reader(ADA, standby=True) as session:
                    await session.execute(text("SELECT 1"))

            assert database.standby is not None
            for _ in range(3):
                await read()
            # To try it again means to wait for it.
            monkeypatch.setattr(database.standby.pool, "acquire", None)
            await read()

    assert outcomes(lambda: asyncio.run(story())) == {"away": 4}


def test_what_does_not_follow_the_primary_is_never_read(replicated: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(address: str) -> None:
        async with (
            Database(replace(replicated, database_read_url=address)) as database,
            database.reader(ADA, standby=True) as session,
        ):
            await session.execute(text("SELECT 1"))

    itself = outcomes(lambda: asyncio.run(read(replicated.database_dsn)))
    monkeypatch.setattr(standby, "PLACE", OF_ANOTHER)
    of_another = outcomes(lambda: asyncio.run(read(replicated.database_read_url)))
    assert (itself, of_another) == ({"away": 1}, {"away": 1})


def test_a_login_that_passes_row_level_security_is_no_login_for_the_standby(follower: EmbeddedPostgres) -> None:
    with pytest.raises(UnsafeRoleError, match="DATABASE_READ_URL: the login postgres"):
        check_role(follower.dsn(user="postgres"), production=True, name="DATABASE_READ_URL")


def test_the_doctor_looks_at_the_standby(
    replicated: Settings, follower: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(address: str) -> str:
        return diagnosis(replicated, DATABASE_READ_URL=address)[1]["standby"]

    assert found(follower.dsn()) == "ok"
    assert found("postgresql://crm@localhost:1/crm") == "warning"
    assert found(replicated.database_dsn) == "warning"
    monkeypatch.setattr("app.cli.doctor.PLACE", OF_ANOTHER)
    assert found(follower.dsn()) == "failed"
