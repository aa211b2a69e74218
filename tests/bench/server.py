"""What is measured: a PostgreSQL with contrib from a wheel, filled once and kept, and the service as in production."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
from msgspec.structs import replace

from app.db.migrations import Migrations
from app.dev.postgres import LOGIN, OWNER, EmbeddedPostgres
from app.dev.token import make_token
from app.settings import Settings
from tests.bench import world
from tests.processes import CRM, ENVIRONMENT

SECRET = "only-for-measuring-" * 2
# What an operator would set on a machine of this size.
OPTIONS = ("shared_buffers=1GB", "max_wal_size=8GB", "effective_cache_size=8GB", "random_page_cost=1.1")
ADMIN = "bench-admin"
# Who has the most customers and deals: the largest tenant's has some 140,000 and 160,000.
AGENT = "agent-1"
# The tenant, of no size, that customers are created in: the others stay as they are.
CREATED = 0


class Bench(NamedTuple):
    """A running service, on tenants of these sizes."""

    url: str
    settings: Settings
    superuser: str
    sizes: list[int]
    server: EmbeddedPostgres
    workers: list[int]
    start_seconds: float

    def token(self, size: int | str) -> str:
        """For an admin of the tenant of this size, or name; where agents see only their own records, for an agent."""
        role, person = ("agent", AGENT) if self.settings.agent_read_scope == "own" else ("admin", ADMIN)
        return make_token(self.settings, role=role, tenant=str(size), user_id=person, name="Bench", ttl=86400)

    @property
    def large(self) -> int:
        """The largest tenant."""
        return self.sizes[-1]


@contextmanager
def settings_for(folder: Path, options: tuple[str, ...]) -> Iterator[tuple[Settings, str, EmbeddedPostgres]]:
    """A migrated database, what the service is told of it, and its superuser's URL."""
    with EmbeddedPostgres(folder, options=options) as server:
        Migrations(server.dsn(user=OWNER), server.dsn()).upgrade()
        settings = Settings(
            environment="production",
            database_url=server.dsn(),
            jwt_secret=SECRET,
            public_url="https://crm.example.com",
            rate_limit_per_minute=0,
            upkeep_seconds=0,
        )
        yield settings, server.dsn(user="postgres"), server


@contextmanager
def running(folder: Path, sizes: list[int], workers: int, *, starts: int) -> Iterator[Bench]:
    """Fill what is missing, and serve it; started so many times, of which the middle one counts."""
    with settings_for(folder, OPTIONS) as (settings, superuser, server):
        with psycopg.connect(superuser, autocommit=True) as connection:
            world.fill(connection, sizes)
            world.forget(connection, str(CREATED))
        told = replace(settings, db_pool_max=20 // workers)
        seconds = []
        for _ in range(starts - 1):
            with _service(folder, told, workers) as (*_, took):
                seconds.append(took)
        with _service(folder, told, workers) as (pid, url, took):
            start = statistics.median([*seconds, took])
            yield Bench(url, told, superuser, sizes, server, _workers_of(pid), start)


def own_records_only(bench: Bench) -> Bench:
    """The same where agents see only their own records, not served yet."""
    return bench._replace(settings=replace(bench.settings, agent_read_scope="own"))


@contextmanager
def serving_own_records(bench: Bench) -> Iterator[Bench]:
    """A second service, of which agents see only their own records."""
    own = own_records_only(bench)
    with tempfile.TemporaryDirectory() as folder, _service(Path(folder), own.settings, 1) as (pid, url, _):
        yield own._replace(url=url, workers=_workers_of(pid))


def environment_of(settings: Settings) -> dict[str, str]:
    """Of a process that serves these settings."""
    return ENVIRONMENT | {
        "ENVIRONMENT": "production",
        "DATABASE_URL": settings.database_url,
        "JWT_SECRET": SECRET,
        "DB_POOL_MAX": str(settings.db_pool_max),
        "AGENT_READ_SCOPE": settings.agent_read_scope,
        "PUBLIC_URL": settings.public_url,
        "DRAIN_SECONDS": "0",
        # One person asks as often as possible here; and what was put in at once is not sealed meanwhile.
        "RATE_LIMIT_PER_MINUTE": "0",
        "UPKEEP_SECONDS": "0",
    }


@contextmanager
def _service(folder: Path, settings: Settings, workers: int) -> Iterator[tuple[int, str, float]]:
    """Its process, its address, and the seconds that it took to start."""
    with (folder / "service.log").open("w") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            [CRM, "serve", "--port", "0", "--workers", str(workers)],
            env=environment_of(settings),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        said = next((line for line in process.stdout if line.startswith("ready ")), "")
        assert said, (folder / "service.log").read_text()
        yield process.pid, said.split()[1], time.perf_counter() - started
    finally:
        process.terminate()
        process.wait(30)


def _workers_of(pid: int) -> list[int]:
    """The processes that answer: the largest children, since one of them only watches semaphores."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in children if resident_mb(child) > 50]


def resident_mb(pid: int) -> float:
    """Resident memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def machine() -> str:
    """What the figures were taken on."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "unknown processor",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GiB, Python {sys.version.split()[0]}"


__all__ = ["ADMIN", "LOGIN", "OWNER", "Bench", "machine", "resident_mb", "running"]
