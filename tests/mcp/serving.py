"""The service behind a real port, for clients that need one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from litestar import Litestar

from tests.processes import wait_until


@contextmanager
def served(app: Litestar, *, token: str | None = None) -> Iterator[str]:
    """The app's address. A request without a token comes with this one, for programs that send none."""

    async def with_token(scope: Any, receive: Any, send: Any) -> None:
        if token is not None and scope["type"] == "http":
            given = {name for name, _ in scope["headers"]}
            if b"authorization" not in given:
                scope = {**scope, "headers": [*scope["headers"], (b"authorization", f"Bearer {token}".encode())]}
        await app(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(with_token, port=0, log_config=None, lifespan="on", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the service answers")
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
