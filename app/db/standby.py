"""Reads from a standby: a copy of the database that follows it by streaming replication.

A read that goes there sees everything that was committed when it began, also by other workers and by other people: the
primary is asked how far its log is, and the standby waited for until it has come so far. So nobody need remember who
wrote what. Where the standby takes too long, or is away, the primary is read.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any

import psycopg
import structlog
from prometheus_client import Counter, Gauge, Histogram

from app.db.errors import translate_errors
from app.db.pool import Connection, NoResponseError, Pool, response_timeout

# A standby that keeps up is a few milliseconds behind.
CATCH_UP_SECONDS = 0.25
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.002, 0.02
# After it was of no use, it is not tried for so long, so that not every read waits for it.
PAUSE_SECONDS = 5.0

# What was acknowledged is before this place. The identifier is the same for a database and its copies only.
PLACE = "SELECT pg_current_wal_flush_lsn()::text, system_identifier FROM pg_control_system()"
# One that was promoted no longer follows.
IS_THERE = """
    SELECT pg_is_in_recovery() AND system_identifier = $2,
        coalesce(greatest(pg_wal_lsn_diff($1::pg_lsn, pg_last_wal_replay_lsn()), 0), 0)::float8
    FROM pg_control_system()
"""


class Outcome(StrEnum):
    """Where a read went that may go to the standby: there, or to the primary, and why."""

    STANDBY = "standby"
    AWAY = "away"
    BEHIND = "behind"


READS = Counter(
    "crm_standby_reads", "Reads that may go to the standby; what is not standby went to the primary", ["outcome"]
)
for _outcome in Outcome:
    READS.labels(_outcome)  # from the start
WAIT = Histogram(
    "crm_standby_wait_seconds",
    "Time until the standby had everything that was committed when a read began",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, CATCH_UP_SECONDS),
)
LAG = Gauge(
    "crm_standby_lag_bytes", "How much of the log the standby has not replayed", multiprocess_mode="livemostrecent"
)

log = structlog.get_logger("database")


class Standby:
    """The standby's pool of one worker, and whether it is worth a try."""

    def __init__(self, dsn: str, primary: Pool, *, most: int, prepare: bool) -> None:
        self.pool = Pool(dsn, least=0, most=most, prepare=prepare)
        self._primary = primary
        self._outcome = Outcome.STANDBY
        self._not_before = 0.0

    def first(self) -> StandbyFirst:
        """For one session."""
        return StandbyFirst(self, self._primary)

    async def measure(self) -> None:
        """Tell monitors how far it is behind. Raises AppError."""
        with translate_errors():
            place = await self._place()
            connection = await self.pool.acquire()
            try:
                _, lag = await _look(connection, place)
            finally:
                await self.pool.release(connection)
        LAG.set(lag)

    async def acquire(self) -> Connection | None:
        """A connection to the standby, which has everything that is committed by now; None where it has not."""
        if time.monotonic() < self._not_before:
            READS.labels(self._outcome).inc()
            return None
        # Until it has come up to now, only one read of this worker tries it.
        if self._outcome is not Outcome.STANDBY:
            self._not_before = time.monotonic() + PAUSE_SECONDS
        place = await self._place()
        began = time.monotonic()
        connection, outcome = await self._caught_up(place, began + CATCH_UP_SECONDS)
        if connection is not None:
            WAIT.observe(time.monotonic() - began)
        self.note(outcome)
        READS.labels(outcome).inc()
        return connection

    def note(self, outcome: Outcome) -> None:
        """How a read went."""
        if outcome is not self._outcome:
            if outcome is Outcome.STANDBY:
                log.info("the standby is read again")
            else:
                log.warning("the standby is not read: the primary is", reason=outcome)
        self._outcome = outcome
        self._not_before = 0.0 if outcome is Outcome.STANDBY else time.monotonic() + PAUSE_SECONDS

    async def _place(self) -> tuple[Any, ...]:
        found = None
        # A connection of before the primary's last start is found to be broken only now: once more, as a session does.
        for is_last in (False, True):
            connection = await self._primary.acquire()
            try:
                with connection.limited():
                    found = await (await connection.execute(PLACE)).fetchone()
                break
            except psycopg.OperationalError as error:
                if is_last or not connection.closed or isinstance(error, NoResponseError):
                    raise
            finally:
                await self._primary.release(connection)
        assert found is not None  # noqa: S101 -- it gives one row
        return found

    async def _caught_up(self, place: tuple[Any, ...], until: float) -> tuple[Connection | None, Outcome]:
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS):
                connection = await self.pool.acquire()
        except (TimeoutError, psycopg.OperationalError):
            return None, Outcome.AWAY
        outcome = Outcome.AWAY
        try:
            outcome = await _wait_for(connection, place, until)
        except psycopg.Error:
            pass
        finally:
            if outcome is not Outcome.STANDBY:
                await self.pool.release(connection)
        return (connection if outcome is Outcome.STANDBY else None), outcome


class StandbyFirst:
    """Where a session that only reads gets its connection: from the standby, or else from the primary."""

    def __init__(self, standby: Standby, primary: Pool) -> None:
        self._standby = standby
        self._primary = primary
        self._lender = primary

    async def acquire(self) -> Connection:
        """As `Pool.acquire`."""
        connection = await self._standby.acquire()
        self._lender = self._primary if connection is None else self._standby.pool
        return connection or await self._primary.acquire()

    async def release(self, connection: Connection) -> None:
        """As `Pool.release`."""
        if connection.closed and self._lender is self._standby.pool:
            self._standby.note(Outcome.AWAY)
        await self._lender.release(connection)

    def stream_turn(self) -> AbstractAsyncContextManager[None]:
        """As `Pool.stream_turn`."""
        return self._lender.stream_turn()


async def _look(connection: Connection, place: tuple[Any, ...]) -> tuple[bool, float]:
    """Whether the server follows the primary, and how many bytes it is behind this place."""
    with response_timeout(CATCH_UP_SECONDS), connection.limited():
        found = await (await connection.execute(IS_THERE, place)).fetchone()
    assert found is not None  # noqa: S101 -- it gives one row
    follows, lag = found
    return bool(follows), float(lag)


async def _wait_for(connection: Connection, place: tuple[Any, ...], until: float) -> Outcome:
    """Whether the standby comes up to this place in time."""
    pause = FIRST_LOOK_SECONDS
    while True:
        follows, lag = await _look(connection, place)
        if not follows:
            return Outcome.AWAY
        if not lag:
            return Outcome.STANDBY
        if time.monotonic() + pause > until:
            return Outcome.BEHIND
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_LOOK_SECONDS)
