"""Syncs connected calendars when they are due: at intervals, and at once after a change here.

Any number of workers share the work. One has a connection at a time, and each person has one turn at a time, so that a
calendar that is slow, away or over its quota delays only itself.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import Executable

from app.admin.calendar_sync import queries
from app.admin.calendar_sync.metrics import DONE, RETRY, STOPPED
from app.admin.calendar_sync.queries import Claimed
from app.admin.calendar_sync.sync import Asked, Open, Superseded, Sync
from app.admin.notifications.queries import TELL
from app.admin.notifications.schemas import NotificationKind
from app.calendars.errors import CalendarError, ReconnectNeeded, Throttled
from app.crypto.cipher import UnreadableError
from app.db.database import Database, Origin
from app.events.watch import LONGEST_PAUSE_SECONDS
from app.web.errors import AppError

LOOK_SECONDS = 1.0
# Of one worker process: syncs, most of which wait for a server, and transactions of theirs.
MOST_AT_ONCE, MOST_TRANSACTIONS = 64, 4
# A worker that is not heard of for so long is dead.
LEASE_SECONDS = 30.0
# A sync that takes longer goes on with the next one.
LONGEST_SYNC_SECONDS = 600.0
# After a conflict, and at most after a failure.
SOON_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 3600.0
LONGEST_ASKED_SECONDS, MOST_DOUBLINGS = 86_400.0, 30
SPREAD = 0.2
TOO_SLOW = "The calendar's server is too slow at the moment"
UNREADABLE = "What lets the service in can't be read any more: connect the calendar again"
INTERNAL = "Something went wrong in the service"

log = structlog.get_logger("calendars")


class CalendarSyncing:
    """Syncs the calendars of all tenants."""

    def __init__(
        self, database: Database, open_calendar: Open, interval_seconds: float, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self._database = database
        self._open = open_calendar
        self._interval = interval_seconds
        self._lease = lease_seconds
        self._turns = asyncio.Semaphore(MOST_TRANSACTIONS)
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Run until it is cancelled: then what is being done goes on elsewhere."""
        mark: int | None = None
        failures = 0
        try:
            while True:
                try:
                    mark = await queries.wake(self._database, mark)
                    await self._look()
                    failures = 0
                except Exception as error:
                    if not failures:
                        log.warning("calendars wait: looking for what is due failed", exc_info=error)
                    failures = min(failures + 1, 10)
                await asyncio.sleep(min(LOOK_SECONDS * 2**failures, LONGEST_PAUSE_SECONDS))
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _look(self) -> None:
        """Begin as many syncs of those that are due as there is room for."""
        room = MOST_AT_ONCE - len(self._running)
        for claimed in await queries.claim(self._database, room, self._lease) if room > 0 else ():
            task = asyncio.create_task(self.sync(claimed))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def sync(self, claimed: Claimed) -> None:
        """Sync a connection that this worker has, and say when it is due next."""
        keeping = asyncio.create_task(self._keep(claimed, asyncio.current_task()))
        try:
            await self._sync(claimed)
        except asyncio.CancelledError:
            await asyncio.shield(self._end(claimed, queries.RELEASE))
            raise
        except Exception as error:
            log.error("a calendar can't be synced, which is tried again", connection=claimed.id, exc_info=error)
        finally:
            keeping.cancel()

    async def _sync(self, claimed: Claimed) -> None:
        sync = Sync(self._database, self._open, claimed, self._turns)
        try:
            async with asyncio.timeout(LONGEST_SYNC_SECONDS):
                await sync.run()
        except Superseded:
            return
        except Asked as asked:
            await self._tell(claimed, "needs_confirmation")
            log.info("many entries vanished at once: the person is asked", connection=claimed.id, count=asked.vanished)
            STOPPED.inc()
        except (ReconnectNeeded, UnreadableError) as error:
            text = UNREADABLE if isinstance(error, UnreadableError) else str(error)
            if await self._end(claimed, queries.RECONNECT, problem=text):
                await self._tell(claimed, "needs_reconnect")
            STOPPED.inc()
        except Throttled as error:
            await self._failed(claimed, sync, str(error), at_least=error.seconds or 0.0)
        except CalendarError as error:
            await self._failed(claimed, sync, str(error))
        except TimeoutError:
            await self._failed(claimed, sync, TOO_SLOW)
        except AppError as error:
            await self._failed(claimed, sync, error.message)
        except Exception as error:
            log.error("a calendar can't be synced, which is tried again", connection=claimed.id, exc_info=error)
            await self._failed(claimed, sync, INTERNAL)
        else:
            if sync.again:
                pause = min(_later(SOON_SECONDS, sync.failures), self._interval)
                await self._end(claimed, queries.FAILED, problem=sync.problem, seconds=pause)
            else:
                await self._end(claimed, queries.DONE, problem=sync.problem, seconds=_spread(self._interval))
            DONE.inc()

    async def _failed(self, claimed: Claimed, sync: Sync, problem: str, at_least: float = 0.0) -> None:
        """Say when to try again: later each time, and not before the server wants it."""
        wait = max(_spread(min(_later(self._interval, sync.failures), LONGEST_WAIT_SECONDS)), at_least)
        await self._end(claimed, queries.FAILED, problem=problem, seconds=min(wait, LONGEST_ASKED_SECONDS))
        RETRY.inc()

    async def _end(self, claimed: Claimed, statement: Executable, **values: Any) -> bool:
        """Note what came of it; returns whether this worker still had the connection."""
        given = {"connection": claimed.id, "claims": claimed.claims, **values}
        async with self._database.writer(claimed.actor, Origin(via="calendar")) as session:
            return bool((await session.execute(statement, given)).all())

    async def _keep(self, claimed: Claimed, sync: asyncio.Task[Any] | None) -> None:
        """Say that this worker is alive, until the connection is another one's."""
        while True:
            await asyncio.sleep(self._lease / 3)
            with suppress(AppError):
                if not await self._end(claimed, queries.HOLD, seconds=self._lease) and sync is not None:
                    sync.cancel()

    async def _tell(self, claimed: Claimed, about: str) -> None:
        """Tell the person that a calendar needs something."""
        told = {
            "user_id": claimed.user_id,
            "kind": NotificationKind.CONNECTION,
            "key": f"connection/{claimed.id}/{claimed.claims}",
            "actor_id": None,
            "actor_name": None,
            "resource_type": "connection",
            "resource_id": claimed.id,
            "data": {"about": about},
        }
        async with self._database.in_tenant(claimed.tenant_id) as session:
            await session.execute(TELL, {"told": [told]})


def _later(seconds: float, failures: int) -> float:
    """Twice as long after each failure. No number is large enough for what a calendar fails in months."""
    return float(seconds * 2 ** min(failures, MOST_DOUBLINGS))


def _spread(seconds: float) -> float:
    return seconds * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 -- not a secret
