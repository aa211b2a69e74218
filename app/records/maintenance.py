"""What the service does in the background, across tenants: it seals the audit log, and deletes idempotency keys and
what an organization has kept long enough: audit entries, and records in the trash.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import MappingProxyType

import structlog
from prometheus_client import Gauge
from sqlalchemy import text

from app.db.database import Database
from app.records.audit_chain import BATCH, CUT_AT_ONCE, Progress, cut, seal
from app.records.resources import WITH_TRASH

LONGEST_PAUSE_SECONDS = 30.0
PRUNE_EVERY_SECONDS = 60.0
PRUNED_AT_ONCE = 500

HELD = Gauge(
    "crm_feed_held_seconds",
    "How long committed changes have waited for their place in the feed",
    multiprocess_mode="livemax",
)

log = structlog.get_logger("maintenance")

PRUNE = text("SELECT crm_prune_idempotency_keys(:most)")

PURGE = text("SELECT crm_purge_trash(CAST(:resources AS text[]), :most)")
TABLES_WITH_TRASH = [str(resource.table.name) for resource in WITH_TRASH]


async def purge_trash(database: Database) -> int:
    """Delete for good about a batch of what is in the trash too long; returns how many records. Raises AppError."""
    async with database.maintenance() as connection:
        given = {"resources": TABLES_WITH_TRASH, "most": PRUNED_AT_ONCE}
        return int((await connection.execute(PURGE, given)).scalar_one())


async def prune(database: Database) -> int:
    """Delete a batch of idempotency keys that are older than a day; returns how many. Raises AppError."""
    async with database.maintenance() as connection:
        return int((await connection.execute(PRUNE, {"most": PRUNED_AT_ONCE})).scalar_one())


class Held:
    """How long the sealing has been behind: a transaction that stays open anywhere on the server holds it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # An entry that was not sealed when it was first seen, and when that was.
        self._waiting: tuple[int, float] | None = None

    def note(self, progress: Progress) -> None:
        """How far the sealing is now."""
        if self._waiting and progress.sealed >= self._waiting[0]:
            self._waiting = None
        if self._waiting is None and progress.sealed < progress.newest:
            self._waiting = progress.newest, self._clock()

    def seconds(self) -> float:
        """For so long, an entry has been seen to wait."""
        return self._clock() - self._waiting[1] if self._waiting else 0.0


class Maintenance:
    """Runs in each worker, every so many seconds. While one worker does the work, the others skip it. Once a minute
    each of `also` is done too, again while it returns that it did something. A step that fails does not keep the others
    from their work.
    """

    def __init__(
        self,
        database: Database,
        seconds: float,
        also: Mapping[str, Callable[[], Awaitable[int]]] = MappingProxyType({}),
    ) -> None:
        self._database = database
        self._seconds = seconds
        self._also = also
        self._pruned_at = -PRUNE_EVERY_SECONDS
        self._failing: set[str] = set()
        self._held = Held()

    async def run(self) -> None:
        """Run until cancelled. A step's failure is logged once, and the step is tried again later."""
        failures = 0
        while True:
            await asyncio.sleep(min(self._seconds * 2**failures, max(self._seconds, LONGEST_PAUSE_SECONDS)))
            failures = 0 if await self._try("seal", self._seal, BATCH) else min(failures + 1, 10)
            HELD.set(self._held.seconds())
            if time.monotonic() - self._pruned_at >= PRUNE_EVERY_SECONDS:
                await self._try("prune", partial(prune, self._database), PRUNED_AT_ONCE)
                await self._try("cut", partial(cut, self._database), CUT_AT_ONCE)
                await self._try("purge", partial(purge_trash, self._database), PRUNED_AT_ONCE)
                for name, step in self._also.items():
                    await self._try(name, step, 1)
                self._pruned_at = time.monotonic()

    async def _try(self, name: str, step: Callable[[], Awaitable[int]], batch: int) -> bool:
        """Do a step while it does a whole batch; returns whether it succeeded."""
        try:
            while await step() >= batch:
                pass
        except Exception as error:
            if name not in self._failing:
                reason = type(error).__name__
                log.warning("maintenance failed and is tried again", step=name, reason=reason, exc_info=error)
            self._failing.add(name)
            return False
        self._failing.discard(name)
        return True

    async def _seal(self) -> int:
        progress = await seal(self._database)
        if progress is None:
            return 0
        self._held.note(progress)
        return progress.count
