"""Limits of requests: the size of headers, the time for a body and an answer, and how many each person may send."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager

from litestar.enums import ScopeType
from litestar.types import (
    ASGIApp,
    HTTPReceiveMessage,
    HTTPScope,
    Message,
    Receive,
    Scope,
    Send,
    WebSocketReceiveMessage,
)

from app.web.error_responses import send_refusal
from app.web.errors import AppError, Code

WINDOW_SECONDS = 60.0
MAX_KEYS = 50_000


MAX_HEADERS_BYTES = 64 * 1024
MAX_HEADER_BYTES = 16 * 1024
# The key in the scope's state of an ExitStack that is closed when the request is over.
RELEASE = "release"
# The key in the scope's state that says that the answer goes on until somebody ends it.
STREAMING = "streaming"


# Without any progress, while a body arrives or an answer is sent.
STALLED_SECONDS = 30.0


class RequestLimits:
    """The layer that refuses too large headers and ends requests that make no progress."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        if refusal := _too_large(scope):
            scope["state"]["error_code"] = refusal.code.name
            await send_refusal(send, refusal)
            return
        with ExitStack() as scope["state"][RELEASE]:
            await self._app(scope, _receiving_in_time(receive), _sending_in_time(send))


def _receiving_in_time(receive: Receive) -> Receive:
    arrived = False

    async def next_message() -> HTTPReceiveMessage | WebSocketReceiveMessage:
        nonlocal arrived
        if arrived:  # now we only wait for the client to hang up
            return await receive()
        with _error_when_stalled():
            async with asyncio.timeout(STALLED_SECONDS):
                message = await receive()
        arrived = not message.get("more_body")
        return message

    return next_message


def _sending_in_time(send: Send) -> Send:
    async def send_message(message: Message) -> None:
        if not message.get("more_body"):
            await send(message)
            return
        with _error_when_stalled():
            async with asyncio.timeout(STALLED_SECONDS):
                await send(message)

    return send_message


@contextmanager
def _error_when_stalled() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise AppError(Code.REQUEST_TIMEOUT, headers={"Connection": "close"}) from None


def _too_large(scope: HTTPScope) -> AppError | None:
    total = 0
    for name, value in scope["headers"]:
        total += (size := len(name) + len(value))
        if size > MAX_HEADER_BYTES or total > MAX_HEADERS_BYTES:
            data = {"max": MAX_HEADERS_BYTES, "max_each": MAX_HEADER_BYTES}
            return AppError(Code.REQUEST_HEADER_FIELDS_TOO_LARGE, data=data)
    return None


class RateLimiter:
    """A token bucket for each key, which refills evenly over a minute. 0 means no limit.

    Only the moment at which the bucket is full again is kept for each key. If there are too many keys, the one that was
    not used for the longest time is dropped, as if its bucket were full.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._each = WINDOW_SECONDS / per_minute if per_minute else 0.0
        self._clock = clock
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()
        # By key, the seconds that were taken since somebody looked, for whoever tells other workers.
        self.spent: dict[Hashable, float] | None = None

    def acquire(self, key: Hashable) -> None:
        """Take one token from the bucket. Raises AppError RATE_LIMITED if it is empty."""
        if not self._each:
            return
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + self._each
        if (wait := full_at - now - WINDOW_SECONDS) > 1e-6:  # more than a rounding error
            raise AppError(Code.RATE_LIMITED, headers={"Retry-After": str(math.ceil(wait))})
        if self.spent is not None:
            self.spent[key] = self.spent.get(key, 0.0) + self._each
        self._keep(key, full_at)

    def learn(self, key: Hashable, seconds: float) -> None:
        """All workers together have emptied this bucket so far that it is full in so many seconds."""
        full_at = self._clock() + seconds
        if full_at > self._full_at.get(key, 0.0):
            self._keep(key, full_at)

    def _keep(self, key: Hashable, full_at: float) -> None:
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > MAX_KEYS:
            self._full_at.popitem(last=False)


class ConcurrencyLimiter:
    """Limits the requests of each key that run at the same time. 0 means no limit. A refusal calls them by `name`."""

    def __init__(self, most: int, name: str = "requests running") -> None:
        self._most = most
        self._name = name
        self._open: Counter[Hashable] = Counter()

    def acquire(self, key: Hashable, scope: Scope) -> None:
        """Count this request until it is over. Raises AppError RATE_LIMITED if there are too many."""
        if not self._most:
            return
        if self._open.get(key, 0) >= self._most:
            raise AppError(
                Code.RATE_LIMITED,
                f"You have {self._most} {self._name}: try again when one of them has ended",
                headers={"Retry-After": "1"},
            )
        self._open[key] += 1
        scope["state"][RELEASE].callback(self._release, key)

    def _release(self, key: Hashable) -> None:
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]
