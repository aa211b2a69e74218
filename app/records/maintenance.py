"""What the service does in the background, across tenants: it seals the audit log, and deletes idempotency keys and
what an organization has kept long enough: audit entries, and records in the trash.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import structlog
from prometheus_client import Gauge
from sqlalchemy import text

from app.db.database import Database
from app.records.audit_chain import BATCH, CUT_AT_ONCE, Progress, cut, seal
from app.records.resources import WITH_TRASH

LONGEST_PAUSE_SECONDS = 30.0
LOOK_EVERY_SECONDS = 60.0
# A worker asks so often whether the upkeep of this minute is done.
UPKEEP_EVERY_SECONDS, ASK_EVERY_SECONDS = 60, 5.0
# After so long, a step that has more to do leaves it to the next minute, and the steps after it have their turn.
STEP_SECONDS = 30.0
PRUNED_AT_ONCE = 500

HELD = Gauge(
    "crm_feed_held_seconds",
    "How long committed changes have waited for their place in the feed",
    multiprocess_mode="livemax",
)

# Each worker asks the database for these: the newest answer is right.
UNSEALED = Gauge(
    "crm_audit_unsealed_entries",
    "Audit entries without a seal, of the first hundred thousand",
    multiprocess_mode="livemostrecent",
)
OLDEST_UNSEALED = Gauge(
    "crm_audit_oldest_unsealed_seconds", "How old the first of them is", multiprocess_mode="livemostrecent"
)
ROUTINE = Gauge(
    "crm_routine_timestamp_seconds",
    "When regular work was last done, such as a back-up; 0 is never",
    ["routine"],
    multiprocess_mode="livemostrecent",
)
ROUTINES = ("backup", "checkpoint", "purge", "sweep", "verify")
for _routine in ROUTINES:
    ROUTINE.labels(_routine)  # from the start: 0 is never
MOST_UNSEALED = 100_000

log = structlog.get_logger("maintenance")

TURN = text("SELECT crm_take_turn('upkeep', :seconds)")
MEASURE_SEALING = text("SELECT unsealed, oldest FROM crm_measure_sealing(:most)")
MEASURE_ROUTINES = text("SELECT name, done_at FROM crm_routines()")
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


async def measure_sealing(database: Database) -> None:
    """Tell monitors how much of the audit log is not sealed. Raises AppError."""
    async with database.maintenance() as connection:
        unsealed, oldest = (await connection.execute(MEASURE_SEALING, {"most": MOST_UNSEALED})).one()
    UNSEALED.set(unsealed)
    OLDEST_UNSEALED.set(oldest)


async def measure_routines(database: Database) -> None:
    """Tell monitors when operators' regular work was last done. Raises AppError."""
    async with database.maintenance() as connection:
        rows = (await connection.execute(MEASURE_ROUTINES)).all()
    done = {str(name): float(done_at) for name, done_at in rows}
    for name in ROUTINES:
        ROUTINE.labels(name).set(done.get(name, 0))


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


class Step(NamedTuple):
    """A piece of work: done once, or, if it has a size, again while it does so much."""

    do: Callable[[], Awaitable[Any]]
    batch: int | None = None


class Attempts:
    """Does one step after the other, and each again for so long at most while it has more to do. A failure is logged
    once, and keeps the other steps from nothing.
    """

    def __init__(self, longest: float = math.inf) -> None:
        self._longest = longest
        self._failing: set[str] = set()

    async def make(self, name: str, step: Step) -> bool:
        """Do a step; returns whether it succeeded."""
        ends = time.monotonic() + self._longest
        try:
            while (done := await step.do()) and step.batch is not None and done >= step.batch:
                if time.monotonic() >= ends:
                    break
        except Exception as error:
            if name not in self._failing:
                reason = type(error).__name__
                log.warning("maintenance failed and is tried again", step=name, reason=reason, exc_info=error)
            self._failing.add(name)
            return False
        self._failing.discard(name)
        return True


def _pause(seconds: float, failures: int) -> float:
    return min(seconds * 2.0**failures, max(seconds, LONGEST_PAUSE_SECONDS))


async def repeat(name: str, step: Step, seconds: float) -> None:
    """Do a step every so many seconds, less often while it fails, until cancelled."""
    attempts, failures = Attempts(), 0
    while True:
        await asyncio.sleep(_pause(seconds, failures))
        failures = 0 if await attempts.make(name, step) else min(failures + 1, 10)


class Sealing:
    """Seals the audit log in each worker that serves, every so many seconds. While one does so, the others skip it.
    Once a minute each of them looks, for monitors, at what waits.
    """

    def __init__(
        self,
        database: Database,
        seconds: float,
        looks: Mapping[str, Callable[[], Awaitable[object]]] = MappingProxyType({}),
    ) -> None:
        self._database = database
        self._seconds = seconds
        self._looks = looks
        self._looked_at = -LOOK_EVERY_SECONDS
        self._attempts = Attempts()
        self._held = Held()

    async def run(self) -> None:
        """Run until cancelled."""
        failures = 0
        sealing = Step(self._seal, BATCH)
        while True:
            await asyncio.sleep(_pause(self._seconds, failures))
            failures = 0 if await self._attempts.make("seal", sealing) else min(failures + 1, 10)
            HELD.set(self._held.seconds())
            if time.monotonic() - self._looked_at >= LOOK_EVERY_SECONDS:
                for name, look in self._looks.items():
                    await self._attempts.make(name, Step(look))
                self._looked_at = time.monotonic()

    async def _seal(self) -> int:
        progress = await seal(self._database)
        if progress is None:
            return 0
        self._held.note(progress)
        return progress.count


class Upkeep:
    """Runs where jobs run. Once a minute, one of all these workers does the steps, whichever asks first."""

    def __init__(self, database: Database, also: Mapping[str, Step] = MappingProxyType({})) -> None:
        self._database = database
        self._attempts = Attempts(STEP_SECONDS)
        self._steps = {
            "prune": Step(partial(prune, database), PRUNED_AT_ONCE),
            "cut": Step(partial(cut, database), CUT_AT_ONCE),
            "purge": Step(partial(purge_trash, database), PRUNED_AT_ONCE),
            **also,
        }

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await self._attempts.make("turn", Step(self._turn))
            await asyncio.sleep(ASK_EVERY_SECONDS)

    async def _turn(self) -> None:
        if await take_turn(self._database):
            for name, step in self._steps.items():
                await self._attempts.make(name, step)


async def take_turn(database: Database) -> bool:
    """Whether this worker does the upkeep of this minute. Raises AppError."""
    async with database.maintenance() as connection:
        return bool((await connection.execute(TURN, {"seconds": UPKEEP_EVERY_SECONDS})).scalar_one())
