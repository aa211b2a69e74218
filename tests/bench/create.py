"""Creating customers: through the service, and by bare INSERT … COMMIT through the same driver."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
import uuid
from pathlib import Path

import psycopg

from tests.bench.load import wrk
from tests.bench.server import Bench

# A request's body must differ each time, since emails are unique.
LUA = """
local headers = {{["Content-Type"] = "application/json", ["Authorization"] = "Bearer {token}"}}
local template = '{{"name":"Ada Lovelace","email":"{run}.%d@example.com","company":"Engines"}}'
local number = 0
request = function()
  number = number + 1
  return wrk.format("POST", "/admin/customers", headers, string.format(template, number))
end
"""
INSERT = "INSERT INTO customers (tenant_id, name, email, company) VALUES (%s, 'Ada Lovelace', %s, 'Engines')"


def through_service(bench: Bench, size: int, *, connections: int, seconds: float) -> float:
    """Customers a second, each validated, audited, counted and answered."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LUA.format(run=uuid.uuid4().hex[:8], token=bench.token(size)))
        script.flush()
        return wrk(
            bench, "/admin/customers", size, connections=connections, seconds=seconds, script=Path(script.name)
        ).rate


def bare(bench: Bench, size: int, *, connections: int, seconds: float) -> float:
    """The same rows a second, with no trigger, by two processes."""
    half = connections // 2
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        counts = pool.starmap(_insert, [(bench.superuser, str(size), half, seconds)] * 2)
    return sum(counts) / seconds


def _insert(dsn: str, tenant: str, connections: int, seconds: float) -> int:
    return asyncio.run(_insert_all(dsn, tenant, connections, seconds))


async def _insert_all(dsn: str, tenant: str, connections: int, seconds: float) -> int:
    until = time.perf_counter() + seconds

    async def one() -> int:
        done = 0
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute("SET session_replication_role = replica")
            await connection.commit()
            while time.perf_counter() < until:
                await connection.execute(INSERT, [tenant, f"{uuid.uuid4()}@example.com"])
                await connection.commit()
                done += 1
        return done

    return sum(await asyncio.gather(*(one() for _ in range(connections))))
