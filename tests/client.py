"""A client of the app in this process, which answers in a thread of its own."""

from __future__ import annotations

import asyncio
from typing import Any, Self, cast

import httpx
from litestar import Litestar
from litestar.testing import TestClient


class InProcess(TestClient[Litestar]):
    """Litestar's, whose requests take one step to the app's thread and back, and httpx's own way to ASGI: this spares a
    third of what a small request costs, and tests send tens of thousands. An error of the app is an answer.
    """

    def __init__(self, app: Litestar) -> None:
        super().__init__(app, raise_server_exceptions=False)

    def __enter__(self) -> Self:
        super().__enter__()
        # httpx takes a transport when a client is made, and there is no loop yet.
        self._transport = _Transport(self.app, self.blocking_portal.call(asyncio.get_running_loop), self._transport)
        return self


class _Transport(httpx.BaseTransport):
    def __init__(self, app: Litestar, loop: asyncio.AbstractEventLoop, websockets: httpx.BaseTransport) -> None:
        # Litestar and httpx have each their own types for ASGI.
        self._asgi = httpx.ASGITransport(cast("Any", app), raise_app_exceptions=False, client=("testclient", 50000))
        self._loop = loop
        self._websockets = websockets

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.scheme == "ws":
            return self._websockets.handle_request(request)
        request.read()
        return asyncio.run_coroutine_threadsafe(self._answer(request), self._loop).result()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        response = await self._asgi.handle_async_request(request)
        content = b"".join([part async for part in response.aiter_raw()])
        return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(content))
