"""Receivers of webhooks on this machine, and senders that run for as long as a test needs them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import psycopg
import pytest
from standardwebhooks import Webhook

from app.admin.events.queries import SHOWN
from app.crypto.keys import Keys
from app.db.database import Database
from app.events.webhooks import sender
from app.events.webhooks.attempts import Policy
from app.events.webhooks.sender import WebhookSender
from app.settings import Settings
from app.web.addresses import Addresses
from tests.callers import Caller
from tests.records.chains import seal as seal_all

Deliver = Callable[..., None]
# Tries again at once, and for ever.
EAGER = Policy(pauses=(0.0,) * 100)


class Received(NamedTuple):
    """A request that came."""

    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.content)
        return body

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def sequence(self) -> int:
        return int(self.body["data"]["sequence"])

    def verify(self, secret: str) -> None:
        """Raises standardwebhooks.WebhookVerificationError."""
        Webhook(secret).verify(self.content, self.headers)


class Receiver:
    """An HTTP server. `answer` says what it does with a request: it gets the request's handler."""

    def __init__(self) -> None:
        self.got: list[Received] = []
        self.answer: Callable[[BaseHTTPRequestHandler], object] = lambda handler: respond(handler, 204)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(Received({name.lower(): value for name, value in self.headers.items()}, content))
                receiver.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    @property
    def sequences(self) -> list[int]:
        return [each.sequence for each in self.got]


def respond(handler: BaseHTTPRequestHandler, status: int, content: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def receivers() -> Iterator[Callable[[], Receiver]]:
    """Start a receiver."""
    started: list[Receiver] = []

    def start() -> Receiver:
        receiver = Receiver()
        started.append(receiver)
        threading.Thread(target=receiver.server.serve_forever, args=(0.05,), daemon=True).start()
        return receiver

    yield start
    for each in started:
        each.server.shutdown()
        each.server.server_close()


@pytest.fixture
def receiver(receivers: Callable[[], Receiver]) -> Receiver:
    return receivers()


@pytest.fixture
def seal(settings: Settings) -> Callable[[], None]:
    """Seals what was committed, as the service does it in the background."""
    return lambda: seal_all(settings)


@pytest.fixture
def deliver(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Deliver:
    """Seal what was committed, and send webhooks until something is so."""
    monkeypatch.setattr(sender, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(sender, "BUSY_LOOK_SECONDS", 0.02)

    def run(until: Callable[[], Any], *, policy: Policy = EAGER, senders: int = 1, seconds: float = 20) -> None:
        seal_all(settings)

        async def work() -> None:
            async with Database(settings) as database:
                addresses = Addresses(settings.webhook_networks)
                running = [
                    asyncio.create_task(WebhookSender(database, Keys(settings), addresses, SHOWN, policy).run())
                    for _ in range(senders)
                ]
                try:
                    async with asyncio.timeout(seconds):
                        while not await asyncio.to_thread(until):  # noqa: ASYNC110 -- what it waits for is elsewhere
                            await asyncio.sleep(0.02)
                finally:
                    for each in running:
                        each.cancel()
                    await asyncio.gather(*running, return_exceptions=True)

        asyncio.run(work())

    return run


@pytest.fixture
def owner(settings: Settings) -> Iterator[psycopg.Connection]:
    """A session of the owner, without row-level security on webhooks' tables."""
    with psycopg.connect(settings.migration_dsn, autocommit=True) as connection:
        yield connection


def hook(caller: Caller, url: str, *types: str, **fields: Any) -> dict[str, Any]:
    """A new webhook, with its secret."""
    made: dict[str, Any] = caller.ok("POST", "/admin/webhooks", {"url": url, "types": types or ["*"], **fields})
    return made


def sent(caller: Caller, webhook: dict[str, Any], **filters: Any) -> list[dict[str, Any]]:
    """The deliveries of a webhook, oldest first."""
    path = f"/admin/webhooks/{webhook['id']}/deliveries"
    found: list[dict[str, Any]] = caller.ok("GET", path, page_size=100, **filters)["data"]
    return found[::-1]
