"""Which login the service is served with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import psycopg
import pytest
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.engine import make_url
from structlog.testing import capture_logs

from app.access.actor import Actor
from app.access.permissions import Role
from app.db.database import Database, Origin
from app.db.revisions import revisions
from app.db.session import Session
from app.db.startup import UnsafeRoleError, check_role, tell_missing_migrations
from app.settings import Settings
from tests.programs import missing
from tests.records.chains import with_database


@pytest.fixture
def superuser_dsn(settings: Settings) -> str:
    """The embedded server's superuser, on the tests' database."""
    dsn = settings.migration_dsn.replace(f"//{make_url(settings.migration_dsn).username}@", "//postgres@")
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        missing("there is no superuser to log in as")
    return dsn


def test_a_superuser_is_refused_in_production(superuser_dsn: str) -> None:
    with pytest.raises(UnsafeRoleError, match="DATABASE_URL: the login postgres"):
        check_role(superuser_dsn, production=True)
    check_role(superuser_dsn, production=False)


def test_a_login_that_passes_row_level_security_is_refused_in_production(superuser_dsn: str) -> None:
    with psycopg.connect(superuser_dsn, autocommit=True) as superuser:
        superuser.execute("CREATE ROLE crm_passing LOGIN BYPASSRLS IN ROLE crm_service")
        superuser.execute("CREATE ROLE crm_member LOGIN IN ROLE crm_passing")
        try:
            for login in ("crm_passing", "crm_member"):
                with pytest.raises(UnsafeRoleError, match=login):
                    check_role(superuser_dsn.replace("//postgres@", f"//{login}@"), production=True)
        finally:
            superuser.execute("DROP ROLE crm_member, crm_passing")


def test_the_tables_owner_is_warned_of_in_production(settings: Settings) -> None:
    with capture_logs() as said:
        check_role(settings.migration_dsn, production=True)
    assert [line["event"] for line in said if "owns the tables" in line["event"]]


def test_a_login_of_its_own_is_served_without_a_word(settings: Settings) -> None:
    with capture_logs() as said:
        check_role(settings.database_dsn, production=True)
        tell_missing_migrations(settings.database_dsn)
    assert said == []


def test_migrations_that_are_missing_are_named_at_the_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.startup.revisions", lambda: ["9999", *revisions()])
    with capture_logs() as said:
        tell_missing_migrations(settings.database_dsn)
    (line,) = said
    assert "crm db upgrade" in line["event"]
    assert (line["database_at"], line["release_needs"]) == (revisions()[0], "9999")


@pytest.mark.parametrize("kind", ["read", "write", "maintenance", "oversight"])
def test_no_transaction_compiles_its_statements(kind: str, settings: Settings) -> None:
    """Debian's PostgreSQL takes longer for that than for any statement of ours."""
    owner = replace(settings, database_url=settings.migration_dsn)
    actor = Actor(tenant_id="t", user_id="1", role=Role.ADMIN, email=None, name=None)

    async def work(database: Database) -> str:
        begun: dict[str, Callable[[], AbstractAsyncContextManager[Session]]] = {
            "read": lambda: database.reader(actor),
            "write": lambda: database.writer(actor, Origin()),
            "maintenance": database.maintenance,
            "oversight": database.oversight,
        }
        async with begun[kind]() as session:
            return str((await session.execute(text("SELECT current_setting('jit')"))).scalar_one())

    assert with_database(owner if kind == "oversight" else settings, work) == "off"
