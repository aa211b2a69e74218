"""Live streams as a client reads them. The app is called directly, since its test client answers only whole bodies."""

from __future__ import annotations

import asyncio
import json
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from litestar import Litestar
from litestar.testing import TestClient

from tests.callers import Caller

PATH = "/admin/events/stream"
PATIENCE = 10.0


class Sent(NamedTuple):
    """One event as it came; the id is null where it had none."""

    id: int | None
    type: str
    data: dict[str, Any]

    @property
    def told(self) -> tuple[str, int]:
        """What it says, and of which record."""
        return self.type, self.data["resource_id"]


class Listener:
    """An open stream, or its refusal."""

    def __init__(self, client: TestClient[Litestar], caller: Caller, headers: dict[str, str]) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.last_id: int | None = None
        self.retries: list[int] = []
        self.comments = 0
        self._asked = False
        self._unread = b""
        self._arrived: queue.Queue[bytes | None] = queue.Queue()
        self._portal = client.blocking_portal
        # Set: the client takes what comes. Else its connection is full.
        self._takes = self._portal.call(_event)
        self._gone = self._portal.call(_event)
        self._portal.call(self._takes.set)
        given = [(name.lower().encode(), value.encode()) for name, value in {**caller.headers, **headers}.items()]
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": given,
            "client": ("127.0.0.1", 1),
            "server": ("testserver", 80),
            "state": {},
            "extensions": {},
        }
        self._call = self._portal.start_task_soon(self._run, client.app, scope)
        begin = self._arrived.get(timeout=PATIENCE)
        assert begin == b"", "the head of the answer comes first"

    def events(self, count: int) -> list[Sent]:
        """The next events, so many."""
        found: list[Sent] = []
        while len(found) < count:
            event = self.next()
            assert event is not None, f"the stream ended after {found}"
            found.append(event)
        return found

    def told(self, count: int) -> list[tuple[str, int]]:
        """What the next events say."""
        return [event.told for event in self.events(count)]

    def next(self) -> Sent | None:
        """The next event; None at the end of the stream."""
        until = time.monotonic() + PATIENCE
        while True:
            while b"\n\n" in self._unread:
                block, _, self._unread = self._unread.partition(b"\n\n")
                if event := self._read(block.decode()):
                    return event
            # Comments alone end the patience, too.
            part = self._arrived.get(timeout=max(0.0, until - time.monotonic()))
            if part is None:
                return None
            self._unread += part

    def rest(self) -> list[Sent]:
        """All events until the stream ends."""
        return list(iter(self.next, None))

    def peek(self) -> bool:
        """Read what has come, without waiting."""
        with suppress(queue.Empty):
            while (part := self._arrived.get_nowait()) is not None:
                self._unread += part
        while b"\n\n" in self._unread:
            block, _, self._unread = self._unread.partition(b"\n\n")
            assert self._read(block.decode()) is None, "there are events to be read"
        return True

    def has_event(self) -> bool:
        """Whether an event has come that was not read."""
        with suppress(queue.Empty):
            while (part := self._arrived.get_nowait()) is not None:
                self._unread += part
        return b"data:" in self._unread

    def pause(self) -> None:
        """Take nothing more: the connection is full."""
        self._portal.call(self._takes.clear)

    def close(self) -> None:
        """Hang up."""
        self._portal.call(self._gone.set)
        self._portal.call(self._takes.set)
        self._call.result(PATIENCE)

    def _read(self, block: str) -> Sent | None:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if name == "":
                self.comments += 1
            fields[name] = value.removeprefix(" ")
        if "retry" in fields:
            self.retries.append(int(fields["retry"]))
        if "id" in fields:
            self.last_id = int(fields["id"])
        if "data" not in fields:
            return None
        return Sent(int(fields["id"]) if "id" in fields else None, fields["event"], json.loads(fields["data"]))

    async def _run(self, app: Any, scope: dict[str, Any]) -> None:
        with suppress(asyncio.CancelledError):
            await app(scope, self._receive, self._send)
        self._arrived.put(None)

    async def _receive(self) -> dict[str, Any]:
        if self._asked:
            await self._gone.wait()
            return {"type": "http.disconnect"}
        self._asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: dict[str, Any]) -> None:
        await self._takes.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            self._arrived.put(b"")
        else:
            self.body += message["body"]
            self._arrived.put(message["body"])
            if not message.get("more_body"):
                # As a server does when all is sent.
                self._gone.set()


async def _event() -> asyncio.Event:
    return asyncio.Event()


@contextmanager
def listening(
    caller: Caller, last_event_id: int | str | None = None, *, headers: dict[str, str] | None = None
) -> Iterator[Listener]:
    """A stream of this person, which is closed at the end."""
    more = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    listener = Listener(caller.client, caller, {**more, **(headers or {})})
    try:
        yield listener
    finally:
        listener.close()
