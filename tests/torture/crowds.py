"""Clients that come in crowds and send slowly, or nothing: each is ended in its time, and nobody waits for them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from app.settings import Settings
from app.web.limits import STALLED_SECONDS
from tests.torture.place import Finding, Place
from tests.torture.wire import Wire, raw, wire

CUSTOMERS = "/admin/customers"
HEADER_SECONDS = Settings().idle_seconds
LATEST_SECONDS = 1.0
SLACK_SECONDS = 4.0
HALF = b"GET /live HTTP/1.1\r\nHost: torture\r\n"


class Kind(NamedTuple):
    """What each of a crowd sends at first, what it goes on sending every second, and when it must be over."""

    first: bytes
    more: bytes
    seconds: float


class End(NamedTuple):
    """After how long a connection was closed, and the status that it was told before."""

    seconds: float
    status: int


def slow_and_silent(place: Place) -> Finding:
    """Crowds of every kind at once, by one person and by no one; meanwhile probes and another person ask."""
    count = place.times(1_500, 150)
    tenant = place.tenant()
    slow, other = place.token(tenant, "agent", "slow"), place.token(tenant, "admin", "other")
    body = raw("POST", CUSTOMERS, slow, content=b" " * 1000, headers={"Content-Type": "application/json"})[:-900]
    upload = raw("POST", f"{CUSTOMERS}/1/attachments", slow, files={"file": ("a.txt", b"x" * 1000)})[:-900]
    kinds = {
        "nothing": Kind(b"", b"", HEADER_SECONDS),
        "half of a head": Kind(HALF, b"", HEADER_SECONDS),
        "a head line by line": Kind(HALF, b"X-More: 1\r\n", HEADER_SECONDS),
        "nothing more after an answer": Kind(HALF + b"\r\n", b"", HEADER_SECONDS),
        "a body by nobody": Kind(body.replace(slow.encode(), b"nobody"), b"", HEADER_SECONDS),
        "a body": Kind(body, b"", STALLED_SECONDS),
        "an upload": Kind(upload, b"", STALLED_SECONDS),
    }
    if place.quick:  # without those that take half a minute
        del kinds["an upload"], kinds["a body"]
    ends: dict[str, list[End]] = {name: [] for name in kinds}
    waits: list[float] = []

    async def all_at_once(url: str) -> None:
        async with asking(url, waits, raw("GET", "/live"), raw("GET", CUSTOMERS, other)):
            await asyncio.gather(*(crowd(url, kind, count, ends[name]) for name, kind in kinds.items()))

    service = place.single
    service.call("GET", CUSTOMERS, other)
    asyncio.run(all_at_once(service.url))
    slowest = max(waits)
    latest = {name: max(end.seconds for end in ends[name]) for name in kinds}
    late = [name for name, kind in kinds.items() if latest[name] > place.within(kind.seconds + SLACK_SECONDS)]
    statuses = {name: Counter(end.status for end in ends[name]) for name in kinds}
    # The person's are refused beyond so many at once, and told why they ended.
    told = place.quick or (statuses["a body"].keys() | statuses["an upload"].keys() <= {408, 429})
    closed = ", ".join(f"{name} {latest[name]:.0f} s {dict(sorted(statuses[name].items()))}" for name in kinds)
    return Finding(
        f"{count} connections of each kind at once, over after: {closed}; {len(waits)} other requests meanwhile, the"
        f" slowest {slowest:.2f} s",
        f"{len(late)} kinds late: {', '.join(late) or 'none'}",
        slowest < place.within(LATEST_SECONDS) and not late and told,
    )


async def crowd(url: str, kind: Kind, count: int, ends: list[End]) -> None:
    """So many connections of a kind, until each is closed."""
    door = asyncio.Semaphore(100)  # as the client's own backlog would

    async def one() -> None:
        async with door:
            address = Wire(url).address
            reader, writer = await asyncio.open_connection(address.host, address.port)
            began = time.monotonic()
            writer.write(kind.first)
        reading = asyncio.create_task(reader.read(-1))
        try:
            while not reading.done() and kind.more and time.monotonic() - began < 2 * kind.seconds:
                writer.write(kind.more)
                await asyncio.wait([reading], timeout=1)
            answer = await asyncio.wait_for(reading, 3 * kind.seconds)
        except OSError:
            answer = b""
        except TimeoutError:
            answer = b"HTTP/1.1 000"
        ends.append(End(time.monotonic() - began, int(answer[9:12] or 0)))
        writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(count)))


@asynccontextmanager
async def asking(url: str, waits: list[float], *requests: bytes) -> AsyncIterator[None]:
    """Meanwhile these requests, one after the other, over connections of their own: how long each took."""
    stop = asyncio.Event()

    async def ask() -> None:
        for request in itertools.cycle(requests):
            if stop.is_set():
                return
            async with wire(url) as line:
                answer = await line.ask(request)
            waits.append(answer.seconds if answer.status == 200 else float("inf"))
            await asyncio.sleep(0.1)

    asked = asyncio.create_task(ask())
    try:
        yield
    finally:
        stop.set()
        await asked
