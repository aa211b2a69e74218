"""Publishes every tenant's events to a message broker, each tenant's in order. Needs the extra `broker`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from app.access.actor import Actor
from app.access.permissions import Role
from app.db.database import Database
from app.events import feed
from app.events.broker import Broker, BrokerError, connected, published
from app.events.feed import Selection
from app.events.places import BROKER, PUBLISHED, Reader
from app.records.repository import Repository
from app.records.transaction import reading
from app.settings import Settings
from app.web.errors import AppError

# After so long without a word from the process that publishes, another one does.
LEASE_SECONDS = 10.0
TURN_SECONDS = 3.0
LOOK_SECONDS = 0.5
# All tenants are looked at: for those whose events could not be read before, and to tell monitors.
LOOK_AT_ALL_SECONDS = 10.0
# So many events of so many tenants are in memory.
BATCH, TENANTS_AT_ONCE = 100, 4
LONGEST_PAUSE_SECONDS = 15.0
# When the service stops, what is on its way is confirmed, so that it is not published again.
STOP_SECONDS = 5.0

log = structlog.get_logger("broker")


class Relay:
    """Runs in any number of processes, of which one publishes. Its place in each tenant's feed is stored after the
    broker's confirmation: no event is lost, and one that is published again has the same id.
    """

    def __init__(self, database: Database, settings: Settings, shown: Mapping[str, Repository[Any]]) -> None:
        self._database = database
        self._url = settings.amqp_url
        self._exchange = settings.amqp_exchange
        self._shown = shown
        self._reader = Reader(database, BROKER)
        self._leads_until = 0.0
        # Of the broker, one after the other.
        self._failures = 0
        # Tenants whose events could not be read.
        self._failing: set[str] = set()

    async def run(self) -> None:
        """Run until it is cancelled. A broker that is away is logged once, and tried again with growing pauses."""
        while True:
            try:
                await self._reader.news()  # tells monitors
                if await self._lead():
                    await self._publish_all()
            except AppError:
                pass  # without the database there is nothing to publish
            except Exception as error:
                if self._failures == 0:
                    unknown = None if isinstance(error, BrokerError) else error
                    log.warning("the message broker can't be reached: events wait", reason=str(error), exc_info=unknown)
                self._failures = min(self._failures + 1, 10)
            await asyncio.sleep(min(TURN_SECONDS * 2 ** max(self._failures - 1, 0), LONGEST_PAUSE_SECONDS))

    async def _lead(self) -> bool:
        """Whether this process is the one that publishes."""
        now = time.monotonic()
        leads = await self._reader.lead(LEASE_SECONDS)
        self._leads_until = now + LEASE_SECONDS if leads else 0.0
        return leads

    @property
    def _leads(self) -> bool:
        return time.monotonic() < self._leads_until

    async def _keep_leading(self) -> None:
        while True:
            await asyncio.sleep(TURN_SECONDS)
            with suppress(AppError):
                await self._lead()

    async def _publish_all(self) -> None:
        """Publish as long as this process leads. Raises AppError and BrokerError."""
        leading = asyncio.create_task(self._keep_leading())
        try:
            async with connected(self._url, self._exchange) as broker:
                await self._follow(broker)
        finally:
            leading.cancel()
            with suppress(AppError):
                await self._reader.lead(0)

    async def _follow(self, broker: Broker) -> None:
        tenants: list[str] = []
        mark: int | None = None
        looked_at = 0.0
        while self._leads:
            broker.check()
            if all_of_them := time.monotonic() - looked_at >= LOOK_AT_ALL_SECONDS:
                looked_at = time.monotonic()
            mark, found, _ = await self._reader.news(None if all_of_them else mark)
            batches = asyncio.create_task(self._publish_batches(broker, sorted({*tenants, *found})))
            try:
                tenants = await asyncio.shield(batches)
            except asyncio.CancelledError:
                await asyncio.wait([batches], timeout=STOP_SECONDS)
                batches.cancel()
                raise
            if not tenants:
                await asyncio.sleep(LOOK_SECONDS)

    async def _publish_batches(self, broker: Broker, tenants: list[str]) -> list[str]:
        """A batch of each of these; returns those that have more. Raises BrokerError."""
        waiting, more = deque(tenants), []

        async def take_turns() -> None:
            while waiting and self._leads:
                tenant = waiting.popleft()
                try:
                    if await self._publish(broker, tenant):
                        more.append(tenant)
                    self._failing.discard(tenant)
                except BrokerError:
                    waiting.clear()
                    raise
                except Exception as error:
                    # The others' events go on. This tenant's turn comes when all are looked at.
                    if tenant not in self._failing:
                        log.warning("events can't be read and are tried again", tenant=tenant, exc_info=error)
                    self._failing.add(tenant)

        for ended in await asyncio.gather(*(take_turns() for _ in range(TENANTS_AT_ONCE)), return_exceptions=True):
            if ended is not None:
                raise ended
        return more

    async def _publish(self, broker: Broker, tenant: str) -> bool:
        """Publish the tenant's next events; returns whether there are more. Raises AppError and BrokerError."""
        async with reading(self._database, Actor(user_id="", tenant_id=tenant, role=Role.ADMIN)) as tx:
            place, begins = await self._reader.place(tx), await feed.beginning(tx)
            part = await feed.read(
                tx, max(place, begins), BATCH, Selection(), self._shown, keep=partial(published, tenant)
            )
        if place < begins:
            log.warning("retention deleted events before they were published", tenant=tenant, lost=begins - place)
        if part.events:
            await broker.publish(part.events)
            PUBLISHED.inc(len(part.events))
            if self._failures:
                log.info("events are published to the message broker again")
            self._failures = 0
        await self._reader.advance(tenant, part.events[-1].sequence if part.events else part.none_until)
        return part.has_more
