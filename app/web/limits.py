"""How much a request's headers may hold, and how often somebody may do something."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from app.web.errors import AppError, Code, send_refusal

WINDOW_SECONDS = 60.0
MOST_REMEMBERED = 50_000


LARGEST_HEADERS = 64 * 1024
LARGEST_HEADER = 16 * 1024


class HeaderLimit:
    """The layer that refuses headers that are too large, before anybody reads them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == ScopeType.HTTP and (refusal := _too_large(scope)):
            scope["state"]["error_code"] = refusal.code.name
            await send_refusal(send, refusal)
            return
        await self._app(scope, receive, send)


def _too_large(scope: HTTPScope) -> AppError | None:
    total = 0
    for name, value in scope["headers"]:
        total += (size := len(name) + len(value))
        if size > LARGEST_HEADER or total > LARGEST_HEADERS:
            data = {"max": LARGEST_HEADERS, "max_each": LARGEST_HEADER}
            return AppError(Code.REQUEST_HEADER_FIELDS_TOO_LARGE, data=data)
    return None


class Limit:
    """A bucket for each key, which refills evenly over a minute; 0 a minute is no limit.

    All that is kept of a key is the moment at which its bucket is full again. Of too many keys the one that was quiet
    for longest is forgotten, which is to its bearer's advantage.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._each = WINDOW_SECONDS / per_minute if per_minute else 0.0
        self._clock = clock
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def count(self, key: Hashable) -> None:
        """Take one from the bucket. Raises AppError RATE_LIMITED where it is empty."""
        if not self._each:
            return
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + self._each
        if (wait := full_at - now - WINDOW_SECONDS) > 1e-6:  # what rounding leaves is no reason
            raise AppError(Code.RATE_LIMITED, headers={"Retry-After": str(math.ceil(wait))})
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > MOST_REMEMBERED:
            self._full_at.popitem(last=False)
