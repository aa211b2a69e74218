"""The outermost layer: the client's real address, and security headers on every answer, errors included."""

from __future__ import annotations

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from app.web.proxies import Proxies

# Without this, the web server would add its own name.
SERVER = (b"server", b"crm")
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
NO_STORING = (b"cache-control", b"no-store")
ONLY_TLS = (b"strict-transport-security", b"max-age=31536000")
# Paths whose answers are the same for everybody. All others may contain somebody's data and must not be cached.
PUBLIC = ("/docs",)


class SecurityHeaders:
    """Applies forwarded headers, and adds the security headers that a handler did not set itself."""

    def __init__(self, app: ASGIApp, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        self._proxies.apply_forwarded_headers(scope)
        wanted = _wanted(scope)

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(each for each in wanted if each[0] not in given)]
            await send(message)

        await self._app(scope, receive, protected)


def _wanted(scope: HTTPScope) -> list[tuple[bytes, bytes]]:
    return [
        SERVER,
        NO_SNIFFING,
        *([] if scope["path"].startswith(PUBLIC) else [NO_STORING]),
        *([ONLY_TLS] if scope["scheme"] == "https" else []),
    ]
