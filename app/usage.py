"""What monitors see of single organizations: of the largest ones, and of no more than the settings say."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import text

from app.db.database import Database

# A worker counts so many organizations, and tells the page of all workers of these with the most requests.
MOST_KNOWN, MOST_SHARED = 10_000, 200
# And so many of the largest are measured.
MOST_MEASURED = 100
SHARE_EVERY_SECONDS = 5.0
# What was measured longer ago is another worker's to say.
FRESH_SECONDS = 300
FILE = "tenants_{}.json"
MEASURE = text("SELECT tenant_id, records, bytes FROM crm_measure_tenants(:most)")


class Size(Struct, frozen=True, array_like=True):
    """How much an organization has."""

    records: int
    stored_bytes: int


class Usage(Struct):
    """What one worker knows of organizations. The largest come first."""

    requests: dict[str, int] = {}
    sizes: dict[str, Size] = {}
    measured_at: float = 0.0


class TenantUsage:
    """Counts requests by organization, and remembers how much the largest have.

    The metrics library keeps each series of several workers for ever. So this is no metric of the library's: each
    worker writes a file, from which whichever worker is asked makes the series.
    """

    def __init__(self) -> None:
        self._requests: Counter[str] = Counter()
        self._sizes: dict[str, Size] = {}
        self._measured_at = 0.0

    def count(self, tenant_id: str) -> None:
        """A request of this organization was answered."""
        self._requests[tenant_id] += 1
        if len(self._requests) > MOST_KNOWN:
            self._requests = Counter(dict(self._requests.most_common(MOST_KNOWN // 2)))

    def measured(self, sizes: dict[str, Size]) -> None:
        """The largest organizations have so much now."""
        self._sizes, self._measured_at = sizes, time.time()

    def known(self) -> Usage:
        """What there is to tell."""
        return Usage(dict(self._requests.most_common(MOST_SHARED)), self._sizes, self._measured_at)

    def share(self, directory: Path) -> None:
        """Write it where the page of all workers finds it."""
        path = directory / FILE.format(os.getpid())
        unfinished = path.with_suffix(".new")
        with suppress(OSError):  # a disk that is full makes these figures old, and nothing else
            unfinished.write_bytes(msgspec.json.encode(self.known()))
            unfinished.replace(path)


USAGE = TenantUsage()


class UsageCollector(Collector):
    """The series of the organizations with the most requests and the most records."""

    def __init__(self, most: int) -> None:
        self._most = most

    def collect(self) -> Iterator[Metric]:
        """What all workers know."""
        known = _of_all_workers()
        requests: Counter[str] = Counter()
        for usage in known:
            requests.update(usage.requests)
        answered = CounterMetricFamily(
            "crm_tenant_requests", "Requests of the organizations with the most", labels=["tenant"]
        )
        for tenant, count in requests.most_common(self._most):
            answered.add_metric([tenant], count)
        records = GaugeMetricFamily(
            "crm_tenant_records", "Live records of the organizations with the most", labels=["tenant"]
        )
        stored = GaugeMetricFamily("crm_tenant_stored_bytes", "What their attachments take", labels=["tenant"])
        newest = max(known, key=lambda usage: usage.measured_at)
        if time.time() - newest.measured_at < FRESH_SECONDS:
            for tenant, size in list(newest.sizes.items())[: self._most]:
                records.add_metric([tenant], size.records)
                stored.add_metric([tenant], size.stored_bytes)
        yield from (answered, records, stored)


def _of_all_workers() -> list[Usage]:
    directory = _directory()
    if directory is None:
        return [USAGE.known()]
    USAGE.share(directory)
    found = [Usage()]
    for path in directory.glob(FILE.format("*")):
        with suppress(OSError, msgspec.DecodeError):
            found.append(msgspec.json.decode(path.read_bytes(), type=Usage))
    return found


def _directory() -> Path | None:
    """Where workers tell each other their metrics, if there are several."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return None if directory is None else Path(directory)


async def share_usage() -> None:
    """Share every few seconds what this worker counts, until cancelled."""
    while (directory := _directory()) is not None:
        USAGE.share(directory)
        await asyncio.sleep(SHARE_EVERY_SECONDS)


async def measure_tenants(database: Database) -> None:
    """Measure the largest organizations. Raises AppError."""
    async with database.maintenance() as session:
        rows = (await session.execute(MEASURE, {"most": MOST_MEASURED})).all()
    USAGE.measured({tenant: Size(records, stored) for tenant, records, stored in rows})
    if (directory := _directory()) is not None:
        USAGE.share(directory)
