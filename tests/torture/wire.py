"""A client that is fast enough to be a burden: requests as bytes, over connections that are kept."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
PATIENCE_SECONDS = 60


class Answer(NamedTuple):
    """What came back; `status` is 0 where nothing did."""

    status: int
    head: bytes
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection after another, each opened when it is needed."""

    def __init__(self, url: str) -> None:
        self.address = httpx.URL(url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> Answer:
        """Send, and wait for the whole answer."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(self.address.host, self.address.port, limit=2**20)
                reader, writer = self._streams
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length and not request.startswith(b"HEAD") else b""
        except (OSError, EOFError, TimeoutError):
            self.hang_up()
            return Answer(0, b"", b"", time.perf_counter() - began)
        if b"connection: close" in head.lower():
            self.hang_up()
        return Answer(int(head[9:12]), head, body, time.perf_counter() - began)

    def hang_up(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


@asynccontextmanager
async def wire(url: str) -> AsyncIterator[Wire]:
    made = Wire(url)
    try:
        yield made
    finally:
        made.hang_up()


def raw(method: str, path: str, token: str | None = None, **more: Any) -> bytes:
    """A request as it goes over the wire; `more` as httpx takes it."""
    request = httpx.Request(method, f"http://torture{path}", **more)
    if token is not None:
        request.headers["Authorization"] = f"Bearer {token}"
    lines = [f"{method} {path} HTTP/1.1".encode(), *(name + b": " + value for name, value in request.headers.raw)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.read()


async def send_all(
    url: str, requests: Iterable[bytes], connections: int, each: Callable[[bytes, Answer], None] | None = None
) -> list[int]:
    """Send all of them over so many connections at once; the statuses."""
    statuses: list[int] = []
    waiting: Iterator[bytes] = iter(requests)

    async def work() -> None:
        async with wire(url) as line:
            for request in waiting:
                answer = await line.ask(request)
                statuses.append(answer.status)
                if each is not None:
                    each(request, answer)

    await asyncio.gather(*(work() for _ in range(connections)))
    return statuses


async def at_once(url: str, requests: Iterable[bytes]) -> list[Answer]:
    """Send them at the same moment, each over a connection of its own."""
    prepared = list(requests)
    lines = [Wire(url) for _ in prepared]
    try:
        await asyncio.gather(*(line.ask(raw("GET", "/live")) for line in lines))
        return await asyncio.gather(*(line.ask(request) for line, request in zip(lines, prepared, strict=True)))
    finally:
        for line in lines:
            line.hang_up()
