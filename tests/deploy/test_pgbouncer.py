"""PgBouncer in transaction mode between the service and its database: laws and stories hold through it, too."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from litestar.testing import TestClient
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from app.db.migrations import Migrations
from app.dev.postgres import LOGIN, OWNER, SYSTEM_ACCOUNT, EmbeddedPostgres
from app.main import create_app
from app.settings import Settings
from tests.callers import Callers
from tests.processes import ENVIRONMENT, UNMEASURED, wait_until
from tests.programs import program

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# Fewer than the service's own pool has: its connections take turns, as they would in a busy deployment.
SERVER_CONNECTIONS = 4
# What a pooler can change: whose session a statement runs in, what it knows of the tenant, and what it locks.
STORIES = [
    "tests/laws/test_tables.py",
    *(
        f"tests/laws/test_access.py::test_another_organizations_record_answers_exactly_as_an_unknown_one[{kind}]"
        for kind in ("/admin/customers", "/admin/contacts", "/admin/deals", "/admin/notes")
    ),
    "tests/records/test_idempotency.py",
    "tests/admin/test_audit.py",
    "tests/jobs/test_worker.py",
    "tests/events/test_webhooks.py::test_changes_of_one_record_arrive_in_order_while_they_succeed",
]


class Pooled(NamedTuple):
    """Ways to one database."""

    through: str
    directly: str
    console: str


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pooled]:
    pgbouncer = program("pgbouncer", package="pgbouncer")
    server = EmbeddedPostgres(tmp_path_factory.mktemp("pooled"), options=("fsync=off", "full_page_writes=off"))
    # As root, the embedded server's sockets and PgBouncer are both for an account of less power.
    account = pwd.getpwnam(SYSTEM_ACCOUNT) if os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="crm-pgbouncer-"))
    with server, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        (home / "users.txt").write_text(f'"{LOGIN}" ""\n')
        (home / "pgbouncer.ini").write_text(f"""
            [databases]
            * = host={conninfo_to_dict(server.dsn())["host"]}
            [pgbouncer]
            pool_mode = transaction
            default_pool_size = {SERVER_CONNECTIONS}
            listen_addr = 127.0.0.1
            listen_port = {port}
            unix_socket_dir =
            auth_type = trust
            auth_file = {home}/users.txt
            admin_users = {LOGIN}
            ; so that the databases of tests can be dropped soon
            server_idle_timeout = 1
        """)
        as_account: dict[str, Any] = {}
        if account is not None:
            home.chmod(0o755)
            as_account = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        process = subprocess.Popen([pgbouncer, "-q", home / "pgbouncer.ini"], cwd="/", **as_account)
        try:
            base = f"postgresql://{LOGIN}@127.0.0.1:{port}"
            ways = Pooled(f"{base}/crm", server.dsn(user=OWNER), f"{base}/pgbouncer")
            wait_until(lambda: _accepts(ways.through), "PgBouncer")
            yield ways
        finally:
            process.terminate()
            process.wait(10)
            shutil.rmtree(home)
    server.destroy()


def _accepts(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


def test_laws_and_stories_hold_through_it(pooled: Pooled) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *STORIES],
        cwd=ROOT,
        env=ENVIRONMENT
        | UNMEASURED
        | {
            "DATABASE_URL": pooled.through,
            "MIGRATION_DATABASE_URL": pooled.directly,
            "DB_PREPARED_STATEMENTS": "false",
        },
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-5000:]
    with psycopg.connect(pooled.console, autocommit=True, row_factory=dict_row) as console:
        transactions = sum(row["total_xact_count"] for row in console.execute("SHOW STATS"))
    assert transactions > 500, "the tests went past it"


def statuses_of_a_crowd(pooled: Pooled, *, prepared: bool) -> set[int]:
    """What 16 people of two organizations are answered who write and read at once; each must see their own."""
    settings = Settings(
        database_url=pooled.through,
        migration_database_url=pooled.directly,
        jwt_secret="s" * 32,
        db_prepared_statements=prepared,
    )
    Migrations(settings.migration_dsn, settings.database_dsn).upgrade()
    failed = threading.Event()
    with (
        TestClient(create_app(settings), raise_server_exceptions=False) as client,
        ThreadPoolExecutor(16) as pool,
    ):

        def work(number: int) -> set[int]:
            tenant = f"crowd-{number % 2}-{prepared}"
            person = Callers(client, settings).person("admin", tenant)
            statuses: set[int] = set()
            for _ in range(20 if prepared else 8):
                if failed.is_set():
                    break
                made = person.post("/admin/customers", {"name": tenant})
                listed = person.get("/admin/customers", page_size=100)
                statuses |= {made.status_code, listed.status_code}
                if 500 in statuses:
                    failed.set()
                if listed.status_code == 200:
                    assert {customer["name"] for customer in listed.json()["data"]} <= {tenant}
            return statuses

        return set().union(*pool.map(work, range(16)))


def test_a_crowd_takes_turns_and_sees_its_own(pooled: Pooled) -> None:
    assert statuses_of_a_crowd(pooled, prepared=False) == {200, 201}


def test_with_prepared_statements_a_crowd_would_fail(pooled: Pooled) -> None:
    assert 500 in statuses_of_a_crowd(pooled, prepared=True)
