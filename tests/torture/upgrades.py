"""Migrations beside others who hold the locks that they need."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from queue import SimpleQueue

import httpx
import psycopg
from psycopg import sql

from app.db.migrations import CRM, Migrations
from app.db.revisions import revisions
from app.dev.postgres import LOGIN, OWNER
from tests.next_release import with_next
from tests.processes import ENVIRONMENT
from tests.template import MIGRATED
from tests.torture.place import Finding, Place

CUSTOMERS, STAGES = "/admin/customers", "/admin/pipeline-stages"
REQUESTS = (("GET", CUSTOMERS, None), ("POST", CUSTOMERS, {"name": "Bob"}), ("GET", STAGES, None))
DATABASE = "upgraded"
WAITING_DUMPS = """
    SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock'
"""
# What the next release changes: tables that every request here uses. This one can work with it.
NEXT = """
run("ALTER TABLE pipeline_stages ADD COLUMN later text")
run("ALTER TABLE customers ADD CONSTRAINT later CHECK (name <> 'later')")
"""
UNDO = """
ALTER TABLE pipeline_stages DROP COLUMN later;
ALTER TABLE customers DROP CONSTRAINT later;
UPDATE crm_migrations SET version_num = '{}';
"""
LONGEST_ANSWER_SECONDS = 2.0


def beside_who_holds_its_locks(place: Place) -> Finding:
    """An upgrade while a reader's transaction stays open, and while pg_dump runs; the service is asked all the time."""
    owner_dsn, service_dsn = _dsn(place, OWNER), _dsn(place, LOGIN)
    held, told = 0, ""
    wrong: list[str] = []
    slowest: list[float] = []
    with place.superuser() as superuser:
        create = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}")
        superuser.execute(create.format(*map(sql.Identifier, (DATABASE, OWNER, MIGRATED))))
    with place.service(DATABASE_URL=service_dsn, JWT_SECRET=place.settings.jwt_secret) as service:
        token = place.token(place.tenant())
        assert service.call("POST", CUSTOMERS, token, json={"name": "Ada"}).status_code == 201
        for holder in (_reader, _dump):
            said: SimpleQueue[str] = SimpleQueue()
            folder = with_next(place.folder / f"next{holder.__name__}", NEXT)
            upgrade = Migrations(owner_dsn, service_dsn, said.put, line=CRM._replace(folder=folder))
            with (
                ThreadPoolExecutor(1) as thread,
                holder(place) as let_go,
                _asking(service.url, token, slowest, wrong),
            ):
                upgraded = thread.submit(upgrade.upgrade)
                lines = list(islice(_tries_given_up(said), place.times(4, 2)))
                let_go()
                upgraded.result(timeout=60)
            held += len(lines)
            told = lines[0]
            wrong += [line for line in lines if not line.startswith("Waiting for")]
            with psycopg.connect(owner_dsn) as owner:
                owner.execute(UNDO.format(revisions()[0]).encode())
    with place.superuser() as superuser:
        superuser.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(DATABASE)))
    slowest.sort()
    return Finding(
        f"2 upgrades kept waiting, {held} tries given up (“{told[:60]}…”), {len(slowest)} requests meanwhile",
        f"{len(wrong)} wrong {wrong[:2] or ''}; the slowest answer took {slowest[-1]:.2f} s".strip(),
        not wrong and slowest[-1] < place.within(LONGEST_ANSWER_SECONDS),
    )


def _tries_given_up(said: SimpleQueue[str]) -> Iterator[str]:
    """What is told of each, without the lines that tell which migration begins."""
    while True:
        line = said.get(timeout=60)
        if not line.startswith("Running upgrade"):
            yield line


def _dsn(place: Place, user: str) -> str:
    return place.postgres.dsn(user=user, database=DATABASE)


@contextmanager
def _reader(place: Place) -> Iterator[Callable[[], object]]:
    """Somebody who looked at every stage, and is still in that transaction."""
    with psycopg.connect(_dsn(place, OWNER)) as connection:
        connection.execute("SELECT count(*) FROM pipeline_stages")
        yield connection.rollback


@contextmanager
def _dump(place: Place) -> Iterator[Callable[[], object]]:
    """pg_dump, stopped in its tracks with a lock on every table."""
    with ExitStack() as held, psycopg.connect(_dsn(place, "postgres")) as connection:
        # It locks every table at its start, and then waits for the one that is locked here.
        connection.execute("CREATE TABLE IF NOT EXISTS zz_waits (id int)")
        connection.commit()
        connection.execute("LOCK TABLE zz_waits")
        dump = subprocess.Popen(
            [str(Path(place.postgres.programs, "pg_dump")), "--file=/dev/null", _dsn(place, "postgres")],
            env=ENVIRONMENT | {"PGAPPNAME": "pg_dump"},
        )
        held.callback(dump.wait)
        while not place.look(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock'"
        ):
            time.sleep(0.05)

        yield connection.rollback


@contextmanager
def _asking(url: str, token: str, seconds: list[float], wrong: list[str]) -> Iterator[None]:
    """Read and write, one after the other, until the block ends."""
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
            while not over.wait(0.1):
                for method, path, body in REQUESTS:
                    began = time.perf_counter()
                    answer = client.request(method, path, json=body)
                    seconds.append(time.perf_counter() - began)
                    if answer.status_code >= 300:
                        wrong.append(f"{method} {path}: {answer.status_code}")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()
