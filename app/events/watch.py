"""Going on with each tenant's feed, step by step: what all who follow it in the background have in common."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

import structlog

from app.db.database import Database

# All tenants are looked at: for those whose events could not be read before.
LOOK_AT_ALL_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 60.0


class FeedWatch(ABC):
    """Runs in any number of processes. A tenant is one's at a time, for one step."""

    # What the log calls it, how often it looks for news, and what it says where it can't, and where a tenant's step
    # fails.
    name: str
    look_seconds: float
    waits: str
    fails: str

    def __init__(self, database: Database) -> None:
        self._database = database
        # Tenants whose step failed: said once.
        self._failing: set[str] = set()
        self.log = structlog.get_logger(self.name)

    @abstractmethod
    async def behind(self, since: int | None) -> tuple[int, list[str]]:
        """The tenants with something new since a mark, or of all times; and the next mark. Raises AppError."""

    @abstractmethod
    async def step(self, tenant: str) -> bool:
        """Do what comes next for this tenant; returns whether there is more. Raises AppError."""

    async def run(self) -> None:
        """Run until it is cancelled."""
        mark: int | None = None
        looked_at = -LOOK_AT_ALL_SECONDS
        failures = 0
        more: Sequence[str] = ()
        while True:
            try:
                if time.monotonic() - looked_at >= LOOK_AT_ALL_SECONDS:
                    mark, looked_at = None, time.monotonic()
                mark, found = await self.behind(mark)
                more = await self._each(sorted({*more, *found}))
                failures = 0
            except Exception as error:
                if not failures:
                    self.log.warning(self.waits, exc_info=error)
                failures = min(failures + 1, 10)
            if not more:
                await asyncio.sleep(min(self.look_seconds * 2**failures, LONGEST_PAUSE_SECONDS))

    async def catch_up(self, tenant: str) -> None:
        """Do all that there is for this tenant. Raises AppError."""
        while await self.step(tenant):
            pass

    async def _each(self, tenants: Sequence[str]) -> list[str]:
        """A step for each of these, so that none waits for all of another; returns those that have more to do."""
        more = []
        for tenant in tenants:
            try:
                if await self.step(tenant):
                    more.append(tenant)
                self._failing.discard(tenant)
            except Exception as error:
                # The others' go on. This tenant's turn comes when all are looked at.
                if tenant not in self._failing:
                    self.log.warning(self.fails, tenant=tenant, exc_info=error)
                self._failing.add(tenant)
        return more
