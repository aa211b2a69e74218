"""100,000 customers by import, checked and run, beside COPY of the same ones into the same table with its triggers."""

from __future__ import annotations

import asyncio
import csv
import io
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg
from msgspec.structs import replace

from app.access.actor import Actor
from app.access.permissions import Role
from app.admin.imports.schemas import ImportKind
from app.cli.import_file import Command
from app.db.database import Database
from app.dev.object_store import EmbeddedStore
from app.records.bootstrap import TenantBootstrap
from app.settings import Settings
from app.storage.objects import ObjectStore
from tests.bench.goals import Goal, at_least, at_most
from tests.bench.pairs import Ask, ratio
from tests.bench.server import ADMIN, Bench, resident_mb
from tests.bench.world import forget

ROWS = 100_000
LISTS = 200
COLUMNS = ("name", "email", "phone", "company", "status", "external_id")
TENANT = "imported"


def measure(bench: Bench) -> list[Goal]:
    """What an import costs, and what it leaves behind. The first one finds no statistics of the organization's records:
    the server makes them by itself a minute later.
    """
    with _emptied(bench):
        early = copy(bench.superuser, ROWS) / asyncio.run(run(bench.settings, ROWS))[0]
    with _emptied(bench):
        copied = copy(bench.superuser, ROWS)
        with psycopg.connect(bench.superuser) as connection:
            connection.execute("ANALYZE customers")
        before = _list(bench)
        seconds, grown = asyncio.run(run(bench.settings, ROWS))
        after = _list(bench)
    name = f"{ROWS:,} customers by import, of COPY with triggers"
    return [
        at_least(name, 0.30, copied / seconds, note=f"{seconds:.0f} s"),
        at_least(f"{name}, without statistics", 0.30, early),
        at_most("a list after an import to before", 1.2, after / before),
        at_most("memory of a worker, grown by an import", 100, grown, "MB"),
    ]


@contextmanager
def _emptied(bench: Bench) -> Iterator[None]:
    """The organization has no records, before and afterwards."""
    with psycopg.connect(bench.superuser, autocommit=True) as connection:
        forget(connection, TENANT)
        try:
            yield
        finally:
            forget(connection, TENANT)


def _rows(count: int) -> Iterator[list[str]]:
    mark = uuid.uuid4().hex[:6]
    for number in range(count):
        yield [
            f"Ada Lovelace the {number}",
            f"ada.{number}.{mark}@example.com",
            f"+49 30 {number:07}",
            f"Analytical Engines {number % 1000} Ltd",
            ("lead", "prospect", "active")[number % 3],
            f"{mark}-{number}",
        ]


def copy(superuser: str, rows: int) -> float:
    """Seconds. COPY knows no row-level security, so it is done past it."""
    with psycopg.connect(superuser) as connection:
        connection.execute("SELECT set_config('crm.tenant', %s, true)", [TENANT])
        connection.execute("""SELECT set_config('crm.actor', '{"user_name": "Bench"}', true)""")
        began = time.perf_counter()
        with connection.cursor().copy(f"COPY customers (tenant_id, {', '.join(COLUMNS)}) FROM STDIN") as into:
            for row in _rows(rows):
                into.write_row([TENANT, *row])
        connection.commit()
        return time.perf_counter() - began


async def run(settings: Settings, rows: int) -> tuple[float, float]:
    """Seconds, and by how much the memory of the process that did it grew, in MB."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(_rows(rows))
    actor = Actor(user_id=ADMIN, tenant_id=TENANT, role=Role.ADMIN, name="Bench", email=None)
    with tempfile.TemporaryDirectory() as folder, EmbeddedStore(Path(folder)) as embedded:
        settings = replace(embedded.configured(settings), db_pool_min=1, db_pool_max=4)
        store = ObjectStore(settings)
        async with Database(settings) as database:
            await TenantBootstrap(database, settings).ensure(actor)
            command = Command(settings, database, store, actor)
            with tempfile.TemporaryFile() as file:
                file.write(text.getvalue().encode())
                file.seek(0)
                sent = await command.send(ImportKind.CUSTOMERS, "leads.csv", file)
            del text, writer
            before = resident_mb(_me())
            async with _watched() as seen:
                began = time.perf_counter()
                assert await command.do(sent, {}, {"match_on": "external_id"}, dry_run=False)
                seconds = time.perf_counter() - began
        store.close()
        return seconds, max(seen) - before


@asynccontextmanager
async def _watched() -> AsyncIterator[list[float]]:
    seen = [0.0]

    async def look() -> None:
        while True:
            seen.append(resident_mb(_me()))
            await asyncio.sleep(0.1)

    looking = asyncio.create_task(look())
    yield seen
    looking.cancel()


def _me() -> int:
    return int(Path("/proc/self").resolve().name)


def _list(bench: Bench) -> float:
    """How long a page by number takes, with its total, to that of an organization that nobody imports anything into, in
    turns: the server may still be vacuuming, and it is not the same machine as two minutes ago.
    """
    path = "/admin/customers?page=2"
    return ratio(bench, Ask(path, TENANT), Ask(path, bench.sizes[0]), pairs=LISTS)
