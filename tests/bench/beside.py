"""`make bench BASE=<commit>`: an older release beside this one, in turns, on the same requests.

Each has its own packages, its own database, and data that it was given over its own API.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
import httpx
import psycopg

from app.dev.postgres import EmbeddedPostgres
from tests.bench.create import BODY, LUA
from tests.bench.create import PATH as CUSTOMERS
from tests.bench.goals import CONNECTIONS, Goal, Part, at_most
from tests.bench.load import ask_over_and_over
from tests.processes import CRM, ENVIRONMENT, family

# What the goals of a request's processor time are measured against: the last commit before 2026-11-23.
FIRST_RELEASE = "e2d49d9"
# Short ones, since the machine is not always equally busy.
ROUNDS = 15
WORKERS = 2
TICK = os.sysconf("SC_CLK_TCK")
# Of /proc/<pid>/stat, after the program's name.
OWN_TIMES, ENDED_CHILDRENS_TIMES = slice(11, 13), slice(13, 15)
CREATE = "create a customer"
LIMIT = 0.65
# What every request needs: HTTP alone; with the token, the limits and the log's line.
WAYS = ("/live", "/admin/me")
# The server counts what was written once a connection has been idle for a while.
FLUSH_SECONDS = 2.0
WRITTEN = """
SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::float8, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8,
       sum(n_tup_ins) FILTER (WHERE relname = 'customers')::float8
FROM pg_stat_user_tables
"""
ROOT = Path(__file__).parents[2]


class Written(NamedTuple):
    """Rows of all tables, bytes of the write-ahead log, and customers among the rows."""

    rows: float
    log: float
    customers: float


class Release(NamedTuple):
    """One that runs."""

    url: str
    headers: dict[str, str]
    paths: dict[str, str]
    service: int
    database: int
    superuser: str

    def used(self) -> tuple[float, float]:
        """Seconds of the processors so far: of the service, and of its database, which is one of its children."""
        database = _seconds(self.database)
        return _seconds(self.service) - database, database

    def written(self) -> Written:
        """So far."""
        time.sleep(FLUSH_SECONDS)
        with psycopg.connect(self.superuser) as connection:
            found = connection.execute(WRITTEN).fetchone()
        assert found is not None
        return Written(*found)


class Use(NamedTuple):
    """Of one request."""

    service: float
    database: float
    rate: float

    @property
    def all(self) -> float:
        """Seconds of the processors."""
        return self.service + self.database


def measure(commit: str, folder: Path, seconds: float) -> Iterator[Goal]:
    """How much of the processors' time of that commit each request takes now."""
    base = _tree(commit, folder)
    with ExitStack() as running:
        then = running.enter_context(_running(base / ".venv" / "bin" / "crm", folder / "old"))
        now = running.enter_context(_running(Path(CRM), folder / "new"))
        ways = {path: _in_turns(path, then, now, seconds) for path in WAYS}
        for name in now.paths:
            yield _goal(name, _in_turns(name, then, now, seconds), ways)
        before = [release.written() for release in (then, now)]
        created = _in_turns(CREATE, then, now, seconds)
        after = [release.written() for release in (then, now)]
        yield _goal(CREATE, created, ways, _more_written(before, after))


def _in_turns(name: str, then: Release, now: Release, seconds: float) -> list[tuple[Use, Use]]:
    for release in (then, now):
        _use(release, name, seconds)
    return [(_use(then, name, seconds), _use(now, name, seconds)) for _ in range(ROUNDS)]


def _goal(
    name: str, turns: list[tuple[Use, Use]], ways: dict[str, list[tuple[Use, Use]]], more: Iterable[Part] = ()
) -> Goal:
    def ratio(part: Callable[[Use], float]) -> float:
        return statistics.median(part(now) / part(then) for then, now in turns)

    service, database = ratio(lambda use: use.service), ratio(lambda use: use.database)
    of_all = statistics.median(then.all for then, _ in turns)
    parts = [
        Part(f"{what}, {when}", statistics.median(cost(pair[place]) for pair in pairs) / of_all)
        for what, cost, pairs in (
            *((f"the service for `{path}`", _service, ways[path]) for path in WAYS),
            ("the service for this", _service, turns),
            ("the database for this", _database, turns),
        )
        for place, when in enumerate(("then", "now"))
    ]
    return at_most(
        f"{name}: processor time, of the older one's",
        LIMIT,
        ratio(lambda use: use.all),
        note=f"(service {service:.2f}, database {database:.2f}; requests per second {ratio(lambda use: use.rate):.2f})",
        parts=(*parts, *more),
    )


def _service(use: Use) -> float:
    return use.service


def _database(use: Use) -> float:
    return use.database


def _more_written(before: list[Written], after: list[Written]) -> list[Part]:
    """How much a create writes, of what it wrote then."""
    then, now = (
        Written(*(end - begin for begin, end in zip(*each, strict=True))) for each in zip(before, after, strict=True)
    )
    return [
        Part("rows written, of those then", now.rows / now.customers / (then.rows / then.customers)),
        Part("bytes of the write-ahead log, of those then", now.log / now.customers / (then.log / then.customers)),
    ]


def _use(release: Release, name: str, seconds: float) -> Use:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if name == CREATE:
            body = BODY.format(email=f"{uuid.uuid4().hex[:12]}.%s@example.com")
            token = release.headers["Authorization"].removeprefix("Bearer ")
            script.write(LUA.format(path=CUSTOMERS, body=body, token=token, dry_run="false"))
            script.flush()
        before = release.used()
        done = ask_over_and_over(
            release.url + (name if name in WAYS else release.paths.get(name, CUSTOMERS)),
            release.headers,
            connections=CONNECTIONS,
            seconds=seconds,
            script=Path(script.name) if name == CREATE else None,
        )
        service, database = (now - then for now, then in zip(release.used(), before, strict=True))
    return Use(service / done.done, database / done.done, done.rate)


def _tree(commit: str, folder: Path) -> Path:
    """That commit's files, with the packages that it locks."""
    known = subprocess.run(
        ["git", "rev-parse", "--verify", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if known.returncode:
        raise click.ClickException(known.stderr.strip())
    tree = folder / known.stdout.strip()[:12]
    if not tree.exists():
        files = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
        tree.mkdir(parents=True)
        subprocess.run(["tar", "-x"], cwd=tree, input=files.stdout, check=True)
    subprocess.run(["make", "--silent", "setup", f"PYTHON={sys.executable}"], cwd=tree, check=True)
    return tree


@contextmanager
def _running(crm: Path, folder: Path) -> Iterator[Release]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data, log = folder / "data", folder / "log"
    # As in `tests.bench.server`: one person asks all the time, and nothing else is done meanwhile.
    told = {
        "RATE_LIMIT_PER_MINUTE": "0",
        "UPKEEP_SECONDS": "0",
        "DRAIN_SECONDS": "0",
        "LOG_FORMAT": "json",
        "JOBS_IN_SERVICE": "false",
        # No connection is opened later: each one plans its first statements anew.
        "DB_POOL_MIN": str(CONNECTIONS),
        "DB_POOL_MAX": str(CONNECTIONS),
    }
    serve = [str(crm), "serve", "--port", "0", "--workers", str(WORKERS), "--data-dir", str(data)]
    with log.open("w") as written:
        process = subprocess.Popen(
            serve, env=ENVIRONMENT | told, stdout=subprocess.PIPE, stderr=written, text=True, start_new_session=True
        )
    try:
        assert process.stdout is not None
        said = next((line for line in process.stdout if line.startswith("ready ")), "")
        assert said, log.read_text()
        token = subprocess.run(
            [crm, "token", "--role", "admin", "--data-dir", data],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=True,
        )
        url, headers = said.split()[1], {"Authorization": f"Bearer {token.stdout.strip()}"}
        database = EmbeddedPostgres(data)
        assert database.pid is not None
        superuser = database.dsn(user="postgres")
        paths = _fill(url, headers)
        _settle(superuser)
        yield Release(url, headers, paths, process.pid, database.pid, superuser)
    finally:
        process.terminate()
        process.wait(60)


def _fill(url: str, headers: dict[str, str]) -> dict[str, str]:
    """Some records; the addresses that are asked for."""
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:

        def make(path: str, body: dict[str, Any]) -> int:
            made = client.post(path, json=body)
            assert made.is_success, made.text
            return int(made.json().get("id", 0))

        tags = [make("/admin/tags", {"name": f"Tag {number}"}) for number in range(8)]
        for number in range(40):
            person = {"name": f"Ada {number}", "email": f"ada.{number}@example.com", "company": "Engines"}
            customer = make(CUSTOMERS, person)
            make(f"{CUSTOMERS}/{customer}/tags", {"tag_ids": tags[:3]})
            contact = make(f"{CUSTOMERS}/{customer}/contacts", {"first_name": "Grace", "email": "grace@example.com"})
            for each in range(3):
                make("/admin/deals", {"title": f"Deal {each}", "customer_id": customer, "amount": 100})
                make("/admin/activities", {"title": f"Call {each}", "type": "call", "customer_id": customer})
    return {
        "one contact": f"/admin/contacts/{contact}",
        "tags": "/admin/tags",
        "customer detail": f"{CUSTOMERS}/{customer}",
        "customers": CUSTOMERS,
    }


def _settle(superuser: str) -> None:
    """Statements are planned by what is there from now on: by default that would come at some moment of the next
    minute, in the middle of what is measured, and another one in each database.
    """
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("VACUUM ANALYZE")


def _seconds(pid: int) -> float:
    """Of a process and all that descend from it, those included that have ended."""
    ticks = 0
    for each in family(pid):
        try:
            stat = Path(f"/proc/{each}/stat").read_text()
        except FileNotFoundError:
            continue
        times = stat.rsplit(")", 1)[1].split()
        ticks += sum(map(int, [*times[OWN_TIMES], *times[ENDED_CHILDRENS_TIMES]]))
    return ticks / TICK
