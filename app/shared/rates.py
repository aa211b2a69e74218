"""Rate limits of all workers together. Each worker counts by itself, and ten times a second tells the others.

So a request waits for nothing, and all workers together let through a little more than one would: what comes within a
tenth of a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from app.shared.redis import BACKGROUND_SECONDS, Shared
from app.web.limits import WINDOW_SECONDS, RateLimiter

if TYPE_CHECKING:
    from redis.asyncio import Redis

TELL_SECONDS = 0.1
# For each bucket: adds what was taken from it, and answers in how many seconds it is full again, by Redis' own clock.
SPEND = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local answers = {}
for i, key in ipairs(KEYS) do
    local full_at = math.max(tonumber(redis.call('GET', key) or 0), now) + ARGV[i + 1]
    full_at = math.min(full_at, now + 2 * ARGV[1])
    redis.call('SET', key, string.format('%.6f', full_at), 'PX', math.ceil((full_at - now) * 1000))
    answers[i] = string.format('%.6f', full_at - now)
end
return answers
"""


async def share_rates(shared: Shared, limiters: Mapping[str, RateLimiter]) -> None:
    """Share what these limiters count, by their names, until cancelled."""
    for limiter in limiters.values():
        limiter.spent = {}
    while not shared.is_closing:
        await asyncio.sleep(TELL_SECONDS)
        for name, limiter in limiters.items():
            spent, limiter.spent = limiter.spent or {}, {}
            if spent and shared.is_up:
                keys = list(spent)
                names = [shared.name("rate", name, key) for key in keys]
                seconds = [spent[key] for key in keys]

                async def spend(redis: Redis, names: list[str] = names, seconds: list[float] = seconds) -> Any:
                    return await redis.eval(SPEND, len(names), *names, WINDOW_SECONDS, *seconds)

                full_in = await shared.call(spend, BACKGROUND_SECONDS)
                for key, left in zip(keys, full_in or (), strict=bool(full_in)):
                    limiter.learn(key, float(left))
