"""The protocol's own library, beside the service: it is loaded when the first AI client calls."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from litestar.types import Receive, Scope, Send

from app.settings import Settings
from app.web.errors import AppError, Code

MISSING = (
    "This service has no door for AI clients: it lacks the extra mcp. Install it with: pip install 'crm-service[mcp]'"
)
TASK = "mcp"


class Manager(Protocol):
    """The part of the library that answers requests, while it runs."""

    def run(self) -> AbstractAsyncContextManager[None]:
        """Run, until the block ends."""

    async def handle_request(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""


def load(settings: Settings) -> Manager:
    """Load the library, which takes a while, and put our tools behind it. Raises AppError where it is missing."""
    try:
        # Inside the function, because who serves no AI clients needs neither the library nor the memory that it takes.
        library, server = (importlib.import_module(f"app.mcp.{name}") for name in ("library", "server"))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("app"):
            raise
        raise AppError(Code.SERVICE_UNAVAILABLE, MISSING) from None
    manager: Manager = library.manager(server.crm_server(), most=settings.max_body_bytes)
    return manager


class Transport:
    """Answers the protocol's requests in one worker."""

    def __init__(self, load: Callable[[], Manager]) -> None:
        self._load = load
        self._manager: Manager | None = None
        self._starting = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises AppError where the library is missing."""
        manager = self._manager or await self._start()
        await manager.handle_request(scope, receive, send)

    async def close(self) -> None:
        """End what still runs."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _start(self) -> Manager:
        async with self._starting:
            if self._manager is None:
                manager = await asyncio.to_thread(self._load)
                started = asyncio.Event()
                self._running = asyncio.create_task(_run(manager, started), name=TASK)
                await started.wait()
                self._manager = manager
            return self._manager


async def _run(manager: Manager, started: asyncio.Event) -> None:
    async with manager.run():
        started.set()
        await asyncio.get_running_loop().create_future()
