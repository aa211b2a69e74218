"""With Redis, one worker reads a tenant's feed for the live streams of all workers, and tells the others what it read.

What is lost in Redis is lost to nobody: changes are numbered without gaps, and whoever sees one reads the feed itself.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from app.events.live import Changes
from app.shared.redis import Shared
from app.web import strict_json

# Who reads holds a lease for so long, and renews it with each look. Without one for so long, somebody else reads.
LEASE_MS = 2000
ASK_SECONDS = 0.2
HEAR_SECONDS = 0.1
MOST_TOLD_BYTES = 1024 * 1024
# Takes or renews the lease, which has who holds it, and how far the feed was read.
LEAD = """
local owner, place = string.match(redis.call('GET', KEYS[1]) or '', '^(%w+):(%d+)$')
if owner and owner ~= ARGV[1] then
    return {0, place}
end
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. ARGV[2], 'PX', ARGV[3])
return {1, ARGV[2]}
"""


class Lease(NamedTuple):
    """Whether this worker reads the feed, and how far whoever does has read it."""

    is_ours: bool
    place: int


class FanOut:
    """One worker's part in it. Agents who see their own only need more to be read: these are told of apart."""

    def __init__(self, shared: Shared, *, own_only: bool) -> None:
        self._shared = shared
        self._own_only = own_only
        self._me = secrets.token_hex(8)

    async def lead(self, tenant_id: str, place: int) -> Lease:
        """Read this tenant's feed for all, if nobody else does; while Redis is away, for this worker."""
        name = self._shared.name("reader", tenant_id, self._own_only)
        given = (self._me, place, LEASE_MS)
        answer: Any = await self._shared.call(lambda redis: redis.eval(LEAD, 1, name, *given), ASK_SECONDS)
        return Lease(True, place) if answer is None else Lease(bool(answer[0]), int(answer[1]))

    async def tell(self, tenant_id: str, changes: Changes) -> None:
        """Tell the other workers what was read."""
        if self._shared.is_up:
            channel = self._channel(tenant_id)
            text = strict_json.encode(changes)
            if len(text) <= MOST_TOLD_BYTES:
                message = self._shared.encrypt(channel, text)
                await self._shared.call(lambda redis: redis.publish(channel, message), ASK_SECONDS)

    async def hear(self, tenants: Callable[[], Iterable[str]], heard: Callable[[str, Changes], None]) -> None:
        """Give what other workers read of these tenants to `heard`, until cancelled."""
        while not self._shared.is_closing:
            # Whatever goes wrong with Redis, `Shared` finds out and says.
            with suppress(Exception):
                async with self._shared.channel() as subscription:
                    await self._hear(subscription, tenants, heard)
            await asyncio.sleep(HEAR_SECONDS)

    async def _hear(
        self, subscription: Any, tenants: Callable[[], Iterable[str]], heard: Callable[[str, Changes], None]
    ) -> None:
        known: dict[str, str] = {}
        while self._shared.is_up:
            wanted = {self._channel(tenant): tenant for tenant in tenants()}
            if gone := known.keys() - wanted.keys():
                await subscription.unsubscribe(*gone)
            if new := wanted.keys() - known.keys():
                await subscription.subscribe(*new)
            known = wanted
            if not known:
                await asyncio.sleep(HEAR_SECONDS)
                continue
            message = await subscription.get_message(timeout=HEAR_SECONDS)
            channel = message["channel"].decode() if message else ""
            if channel in known and (changes := self._read(channel, message["data"])):
                heard(known[channel], changes)

    def _read(self, channel: str, message: bytes) -> Changes | None:
        text = self._shared.decrypt(channel, message)
        with suppress(msgspec.DecodeError):
            return None if text is None else msgspec.json.decode(text, type=Changes)
        return None

    def _channel(self, tenant_id: str) -> str:
        return self._shared.name("live", tenant_id, self._own_only)
