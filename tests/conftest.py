"""One real PostgreSQL and one real object store for each test process, and the real app on top of them."""

from __future__ import annotations

import gc
import os
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import hypothesis
import psycopg
import pytest
import structlog
from litestar import Litestar
from litestar.testing import TestClient
from msgspec.structs import replace
from sqlalchemy.engine import make_url
from structlog.dev import ConsoleRenderer, plain_traceback

from app.db.migrations import Migrations
from app.dev.calendar_server import CalendarServer
from app.dev.object_store import EmbeddedStore
from app.dev.postgres import OWNER, TEMPLATE, EmbeddedPostgres
from app.dev.servers import EmbeddedError
from app.identity.migrations import IDENTITY
from app.main import create_app
from app.settings import Settings, load_settings
from tests.callers import Caller, Callers
from tests.client import InProcess
from tests.peers.models import Models
from tests.peers.phone import Phone
from tests.processes import ENVIRONMENT, wait_until
from tests.template import MIGRATED, template

# Property tests have no deadline: how long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("crm", deadline=None)
hypothesis.settings.load_profile("crm")

# Thousands of tests are collected, and none of them is garbage: the collector need not look at them again and again.
gc.disable()

# Rich draws every frame of an error with its variables, which takes half a second of processor time for each.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        ConsoleRenderer(colors=False, exception_formatter=plain_traceback),
    ]
)

# Each module is run by one process, so that what it makes is made once. These take longest: they come first, in this
# order, so that no process is left alone with one of them at the end.
LONGEST = (
    *("torture", "bench/test_bench.py", "deploy", "laws/test_schemathesis.py", "pages", "cli", "console", "jobs"),
    *("laws/test_lists.py", "laws/test_tables.py"),
)

IDENTITY_LOGIN = "crm_identity_test"
SECRET = "a secret for tests, of more than thirty-two bytes"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are processors, since some tests only wait."""
    return (os.cpu_count() or 1) + 1


def pytest_configure() -> None:
    """Make the template of servers, before other processes start, which are told of it by their environment."""
    if TEMPLATE not in os.environ:
        with suppress(EmbeddedError):  # where a database is configured, tests may do without embedded ones
            os.environ[TEMPLATE] = ENVIRONMENT[TEMPLATE] = str(template())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules that take longest first."""
    begins = [f"tests/{name}" for name in LONGEST]

    def place(item: pytest.Item) -> int:
        return next((place for place, begin in enumerate(begins) if item.nodeid.startswith(begin)), len(begins))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the embedded server lives, and the development secret."""
    return tmp_path_factory.mktemp("crm")


@pytest.fixture
def bare_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embedded servers begin as for a developer, in this test: empty, and nothing was migrated."""
    monkeypatch.delenv(TEMPLATE, raising=False)


@pytest.fixture(scope="session")
def settings(data_dir: Path) -> Iterator[Settings]:
    """Settings whose database is empty, migrated and ours alone: on the configured server, else on an embedded one.
    The object store is always an embedded one.
    """
    configured = load_settings(data_dir=str(data_dir))
    with EmbeddedStore(data_dir) as store, _database(store.configured(configured), data_dir) as own:
        Migrations(own.migration_dsn, own.database_dsn).upgrade()
        yield replace(
            own,
            jwt_secret=SECRET,
            environment="development",
            log_format="json",
            drain_seconds=0,
            # All tests call from one address; the limits are tested on their own.
            rate_limit_per_minute=0,
            auth_failures_per_minute=0,
            # Nothing happens by itself while a test looks.
            upkeep_seconds=0,
            jobs_in_service=False,
            # Receivers of webhooks are in the tests themselves.
            webhook_allowed_networks="127.0.0.0/8",
        )


@contextmanager
def _database(configured: Settings, data_dir: Path) -> Iterator[Settings]:
    if configured.database_dsn:
        with _new_database(configured) as own:
            yield own
        return
    embedded = EmbeddedPostgres(data_dir, options=("fsync=off", "full_page_writes=off"))
    try:
        embedded.start()
        yield replace(configured, database_url=embedded.dsn(), migration_database_url=embedded.dsn(user=OWNER))
    finally:
        embedded.destroy()


@contextmanager
def _new_database(server: Settings) -> Iterator[Settings]:
    name = f"crm_test_{secrets.token_hex(4)}"
    with psycopg.connect(server.migration_dsn, autocommit=True) as connection:
        migrated = connection.execute("SELECT FROM pg_database WHERE datname = %s", [MIGRATED]).fetchone()
        connection.execute(f'CREATE DATABASE "{name}"' + (f" TEMPLATE {MIGRATED}" if migrated else ""))
        yield replace(
            server,
            database_url=renamed(server.database_dsn, name),
            migration_database_url=renamed(server.migration_dsn, name),
        )
        wait_until(lambda: _dropped(connection, name), "the end of connections that were closed a moment ago")


def _dropped(connection: psycopg.Connection, name: str) -> bool:
    try:
        connection.execute(f'DROP DATABASE "{name}"')
    except psycopg.errors.ObjectInUse:
        return False
    return True


def renamed(dsn: str, database: str) -> str:
    """The same login on the same server, in another database."""
    head, _, query = dsn.partition("?")
    return f"{head.rsplit('/', 1)[0]}/{database}" + (f"?{query}" if query else "")


@pytest.fixture(scope="session")
def identity_settings(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of `crm identity` on the same database, whose hashes are cheap."""
    owner = settings.migration_dsn
    with psycopg.connect(owner, autocommit=True) as connection:
        if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [IDENTITY_LOGIN]).fetchone():
            connection.execute(f"CREATE ROLE {IDENTITY_LOGIN} LOGIN PASSWORD 'test'")
    own = make_url(owner).set(username=IDENTITY_LOGIN, password="test").render_as_string(hide_password=False)
    Migrations(owner, own, line=IDENTITY).upgrade()
    return replace(
        settings,
        database_url=own,
        crm_data_dir=str(tmp_path_factory.mktemp("identity")),
        password_hash_memory_kib=64,
        password_hash_time=1,
        trusted_proxies="127.0.0.0/8",
        upkeep_seconds=0,
    )


@pytest.fixture(scope="session")
def app(settings: Settings) -> Litestar:
    return create_app(settings)


@pytest.fixture(scope="session")
def client(app: Litestar) -> Iterator[TestClient[Litestar]]:
    with InProcess(app) as client:
        yield client


@pytest.fixture(scope="session")
def own_scope(settings: Settings) -> Iterator[TestClient[Litestar]]:
    """The service where agents see only their own, on the same database."""
    own = replace(settings, agent_read_scope="own", report_cache_seconds=0)
    with InProcess(create_app(own)) as client:
        yield client


@pytest.fixture
def variant(settings: Settings) -> Iterator[Callable[..., TestClient[Litestar]]]:
    """The service with other settings, on the same database."""
    started: list[TestClient[Litestar]] = []

    def start(**changes: object) -> TestClient[Litestar]:
        other = InProcess(create_app(replace(settings, **changes)))
        other.__enter__()
        started.append(other)
        return other

    yield start
    for other in started:
        other.__exit__(None, None, None)


@pytest.fixture
def models() -> Iterator[Models]:
    """A server of language models on this machine, which says what the test tells it to."""
    with Models().listening() as peer:
        yield peer


@pytest.fixture(scope="session")
def calendar_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CalendarServer]:
    """A real CalDAV server on this machine, with one person."""
    with CalendarServer(tmp_path_factory.mktemp("calendars"), {"ada@example.com": "secret"}) as server:
        yield server


@pytest.fixture
def phone(calendar_server: CalendarServer) -> Iterator[Phone]:
    """The phone of that person, with a calendar that no other test knows."""
    ((person, password),) = calendar_server.people.items()
    phone = Phone(calendar_server.make_calendar(person, f"c-{uuid.uuid4().hex[:12]}", "Work"), person, password)
    yield phone
    phone.close()


@pytest.fixture
def tenant() -> str:
    """An organization that no other test knows: what keeps tenants apart keeps tests apart."""
    return f"tenant-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def callers(client: TestClient[Litestar], settings: Settings) -> Callers:
    return Callers(client, settings)


@pytest.fixture
def admin(callers: Callers, tenant: str) -> Caller:
    return callers.person("admin", tenant)


@pytest.fixture
def manager(callers: Callers, tenant: str) -> Caller:
    return callers.person("manager", tenant)


@pytest.fixture
def agent(callers: Callers, tenant: str) -> Caller:
    return callers.person("agent", tenant)


@pytest.fixture
def stranger(callers: Callers) -> Caller:
    """An admin of another organization."""
    return callers.person("admin", f"stranger-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def service_connection(settings: Settings) -> Iterator[psycopg.Connection]:
    """A session as the service's login, which acts as the service's role; no tenant is set."""
    login = make_url(settings.database_dsn)
    # On the owner's way to the server: a transaction-mode pooler, where there is one, keeps no sessions.
    with psycopg.connect(
        settings.migration_dsn, user=login.username, password=login.password, autocommit=True
    ) as connection:
        connection.execute("SET ROLE crm_service")
        yield connection
