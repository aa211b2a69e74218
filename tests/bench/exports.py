"""An export of a whole list, beside COPY with the same columns."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg

from app.admin.exports.archive import stored_columns
from app.db.roles import enter_tenant
from app.records.resources import CUSTOMERS
from tests.bench.server import Bench, resident_mb

PATIENCE_SECONDS = 330
LOOK_EVERY_SECONDS = 0.05


def through_service(bench: Bench, size: int) -> float:
    """Seconds until the whole CSV has arrived."""
    headers = {"Authorization": f"Bearer {bench.token(size)}"}
    began = time.perf_counter()
    with httpx.stream(
        "GET", f"{bench.url}/admin/customers/export", headers=headers, timeout=PATIENCE_SECONDS
    ) as answer:
        answer.raise_for_status()
        lines = sum(chunk.count(b"\n") for chunk in answer.iter_raw(1024 * 1024))
    assert lines >= size + 1, f"{lines} lines"
    return time.perf_counter() - began


def direct(bench: Bench, size: int) -> float:
    """Seconds of COPY, as the service's role, of the columns as they are stored."""
    columns = ", ".join(f'"{name}"' for name in stored_columns(CUSTOMERS.table))
    with psycopg.connect(bench.settings.database_url) as connection:
        enter_tenant(connection, str(size), {})
        began = time.perf_counter()
        copy = f"COPY (SELECT {columns} FROM customers ORDER BY created_at DESC, id DESC) TO STDOUT (FORMAT csv)"
        with connection.cursor().copy(copy.encode()) as rows:
            assert sum(1 for _ in rows) == size
        return time.perf_counter() - began


@contextmanager
def growth(bench: Bench) -> Iterator[list[float]]:
    """By how many MB the largest worker grows inside, at most: in the list at the end."""
    before = {worker: resident_mb(worker) for worker in bench.workers}
    seen = dict.fromkeys(bench.workers, 0.0)
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY_SECONDS):
            for worker in bench.workers:
                seen[worker] = max(seen[worker], resident_mb(worker) - before[worker])

    looking = threading.Thread(target=look)
    looking.start()
    grown: list[float] = []
    try:
        yield grown
    finally:
        over.set()
        looking.join()
        grown.append(max(seen.values()))
