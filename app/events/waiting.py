"""Waiting for new events, without a connection to the database for each who waits."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from app.access.actor import Actor
from app.db.database import Database
from app.events import feed
from app.records.transaction import reading
from app.web.draining import is_draining

# Entries are sealed every UPKEEP_SECONDS: to look more often than this would help little.
LOOK_SECONDS = 0.5
TASK = "new events"


class NewEvents:
    """Looks for new events of the tenants that somebody waits for, once for all who wait in this worker."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looks: dict[str, asyncio.Task[int]] = {}

    async def wait(self, actor: Actor, after: int, seconds: float, gone: asyncio.Future[None]) -> bool:
        """Wait until this person's tenant has an event after this sequence; returns whether it has one.

        It ends without one after so many seconds, when `gone` is done, and when the service stops. Raises AppError as
        `Database.reader`.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not is_draining():
            look = self.look(actor)
            either: set[asyncio.Future[Any]] = {look, gone}
            await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                return False
            if look.done() and look.result() > after:
                return True
        return False

    def look(self, actor: Actor) -> asyncio.Task[int]:
        """The next look for the newest sequence of this person's tenant. All who wait for this tenant share it."""
        look = self._looks.get(actor.tenant_id)
        # One that has just ended is no next one: to wait for it again and again would stop everything else.
        if look is None or look.done():
            look = self._looks[actor.tenant_id] = asyncio.create_task(self._look(actor), name=TASK)
            look.add_done_callback(lambda done: self._looked(actor.tenant_id, done))
        return look

    async def _look(self, actor: Actor) -> int:
        await asyncio.sleep(LOOK_SECONDS)
        async with reading(self._database, actor, one_statement=True) as tx:
            return await feed.newest(tx)

    def _looked(self, tenant: str, look: asyncio.Task[int]) -> None:
        if self._looks.get(tenant) is look:
            del self._looks[tenant]
        if not look.cancelled():
            look.exception()  # nobody may be left to hear of it

    async def close(self) -> None:
        """End all looks: nobody waits any more."""
        looks = list(self._looks.values())
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
