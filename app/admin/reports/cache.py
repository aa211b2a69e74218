"""The overview of each tenant, kept for a moment in one worker, and with Redis for all workers."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Struct

from app.admin.pipeline_stages.queries import StageOrigin
from app.admin.reports.schemas import Overview
from app.shared.redis import BACKGROUND_SECONDS, Shared
from app.web import strict_json

if TYPE_CHECKING:
    from redis.asyncio import Redis

MOST_KEPT = 200
MOST_SHARED_BYTES = 256 * 1024
TELL_SECONDS = 0.05
# Longer than any report is kept.
GENERATION_SECONDS = 2 * 3600


class KeptReport(Struct, frozen=True):
    """A report, and when it was begun (monotonic seconds)."""

    report: Overview
    # Of the same moment: what the stages that it names began as.
    stages: list[StageOrigin]
    made_at: float
    # Of the tenant, if it was known: each write begins another one.
    generation: int | None = None

    @property
    def age(self) -> int:
        """Whole seconds since it was made."""
        return int(time.monotonic() - self.made_at)


class SharedReport(Struct, array_like=True):
    """A report as it is kept for other workers: it is of no use once its tenant has a newer generation."""

    generation: int
    report: Overview
    stages: list[StageOrigin]


class Looked(NamedTuple):
    """The report that is kept, if there is one, and else the generation of the tenant that a new one belongs to."""

    kept: KeptReport | None
    generation: int | None


class ReportCache:
    """By tenant, and under AGENT_READ_SCOPE=own by person. A write of this worker drops its tenant's at once, and with
    Redis a moment later for the other workers.
    """

    def __init__(self, seconds: float, shared: Shared) -> None:
        self._seconds = seconds
        self._shared = shared
        self._kept: dict[tuple[str, str | None], KeptReport] = {}
        self._dropped_at: dict[str, float] = {}
        # Tenants whose drop the others have not heard of. What they keep is not used until they have.
        self.untold: dict[str, float] = {}

    async def look(self, tenant_id: str, person: str | None, *, fresh: bool = False) -> Looked:
        """The kept report, unless it is too old, or any worker has written since; with `fresh`, none."""
        kept = None if fresh else self._kept.get((tenant_id, person))
        if kept and (self._is_dropped(tenant_id, kept) or time.monotonic() - kept.made_at >= self._seconds):
            kept = None
        if not self._shared.is_up or not self._seconds or tenant_id in self.untold:
            return Looked(kept, None)
        found = await self._look_at_others(tenant_id, person)
        if found.generation is None or (kept and kept.generation == found.generation):
            return Looked(kept, found.generation)
        return Looked(None, found.generation) if fresh else found

    async def keep(self, tenant_id: str, person: str | None, kept: KeptReport) -> None:
        """Keep a report, unless a write came after it was begun."""
        if self._is_dropped(tenant_id, kept):
            return
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[tenant_id, person] = kept
        if kept.generation is None or tenant_id in self.untold:
            return
        name = self._name(tenant_id, person)
        left = round((self._seconds - (time.monotonic() - kept.made_at)) * 1000)
        text = strict_json.encode(SharedReport(kept.generation, kept.report, kept.stages))
        if left > 0 and len(text) <= MOST_SHARED_BYTES:
            await self._shared.call(lambda redis: redis.set(name, self._shared.encrypt(name, text), px=left))

    def drop(self, tenant_id: str) -> None:
        """Forget a tenant's reports."""
        if len(self._dropped_at) >= MOST_KEPT:
            self._dropped_at.clear()
            self._kept.clear()
        self._dropped_at[tenant_id] = time.monotonic()
        if self._shared.is_configured:
            self.untold[tenant_id] = time.monotonic()

    async def share_drops(self) -> None:
        """Tell the other workers which tenants' reports are dropped, until cancelled."""
        while not self._shared.is_closing:
            await asyncio.sleep(TELL_SECONDS)
            await self._share(dict(self.untold))

    async def _share(self, untold: dict[str, float]) -> None:
        async def next_generations(redis: Redis) -> bool:
            pipeline = redis.pipeline(transaction=False)
            for tenant in untold:
                pipeline.incr(self._generation_of(tenant))
                pipeline.expire(self._generation_of(tenant), GENERATION_SECONDS)
            await pipeline.execute()
            return True

        is_told = await self._shared.call(next_generations, BACKGROUND_SECONDS) if untold else None
        if is_told:
            self._told(untold)
        # By now what the others kept has expired.
        too_old = time.monotonic() - self._seconds
        self._told({tenant: dropped_at for tenant, dropped_at in untold.items() if dropped_at < too_old})

    def _told(self, told: dict[str, float]) -> None:
        for tenant, dropped_at in told.items():
            if self.untold.get(tenant) == dropped_at:
                del self.untold[tenant]

    async def _look_at_others(self, tenant_id: str, person: str | None) -> Looked:
        name = self._name(tenant_id, person)

        async def read(redis: Redis) -> list[Any]:
            pipeline = redis.pipeline(transaction=False)
            pipeline.get(self._generation_of(tenant_id))
            pipeline.get(name)
            pipeline.pttl(name)
            found: list[Any] = await pipeline.execute()
            return found

        found = await self._shared.call(read)
        if found is None:
            return Looked(None, None)
        generation, encrypted, left = int(found[0] or 0), found[1], found[2]
        text = self._shared.decrypt(name, encrypted) if encrypted and left > 0 else None
        if text is None or (shared := _read(text)) is None or shared.generation != generation:
            return Looked(None, generation)
        made_at = time.monotonic() - max(0.0, self._seconds - left / 1000)
        return Looked(KeptReport(shared.report, shared.stages, made_at, generation), generation)

    def _name(self, tenant_id: str, person: str | None) -> str:
        return self._shared.name("report", tenant_id, *([] if person is None else [person]))

    def _generation_of(self, tenant_id: str) -> str:
        return self._shared.name("reports", tenant_id)

    def _is_dropped(self, tenant_id: str, kept: KeptReport) -> bool:
        return kept.made_at < self._dropped_at.get(tenant_id, kept.made_at)


def _read(text: bytes) -> SharedReport | None:
    """A report of another worker; None where its release knows other fields."""
    try:
        return msgspec.json.decode(text, type=SharedReport)
    except msgspec.ValidationError:
        return None
