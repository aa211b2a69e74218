"""CORS: which web pages may call the service. Errors carry the headers too, so that pages can read them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send

from app.web.error_responses import send_refusal
from app.web.errors import AppError, Code

METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
REQUEST_HEADERS = (
    "Authorization, Content-Type, Accept, Cache-Control, If-Match, Idempotency-Key, Dry-Run, X-Request-ID, "
    "X-Organization-Id, Last-Event-ID, MCP-Protocol-Version, Mcp-Method, Mcp-Name"
)
EXPOSED_HEADERS = (
    "ETag, X-Request-ID, X-Operation-Id, Retry-After, Content-Disposition, Idempotency-Replayed, Dry-Run, Location, "
    "Age, WWW-Authenticate"
)
PREFLIGHT_SECONDS = "600"
LABEL = "[A-Za-z0-9-]"


class Origins:
    """The web pages that may call the service. `*` in an origin stands for characters of one label."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._allowed = re.compile("|".join(map(_pattern, origins)) or r"(?!)", re.IGNORECASE)

    def __contains__(self, origin: str) -> bool:
        return self._allowed.fullmatch(origin) is not None


class Cors:
    """Answers preflights and adds the headers to every answer."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self.origins = Origins(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        headers = Headers.from_scope(scope)
        origin = headers.get("origin")
        if origin is not None and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await self._preflight(origin, send)
            return
        marks = self._marks(origin)

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *marks]
            await send(message)

        await self._app(scope, receive, marked)

    def _marks(self, origin: str | None) -> list[tuple[bytes, bytes]]:
        vary = (b"vary", b"Origin")
        if origin is None or origin not in self.origins:
            return [vary]
        return [
            vary,
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", EXPOSED_HEADERS.encode()),
        ]

    async def _preflight(self, origin: str, send: Send) -> None:
        marks = self._marks(origin)
        if len(marks) == 1:
            await send_refusal(send, AppError(Code.ORIGIN_NOT_ALLOWED), marks)
            return
        marks += [
            (b"access-control-allow-methods", METHODS.encode()),
            (b"access-control-allow-headers", REQUEST_HEADERS.encode()),
            (b"access-control-max-age", PREFLIGHT_SECONDS.encode()),
        ]
        start: HTTPResponseStartEvent = {"type": "http.response.start", "status": 204, "headers": marks}
        await send(start)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _pattern(origin: str) -> str:
    """The origin as a regular expression. Atomic groups (`?>`) make matching take linear time."""
    first, *others = (re.escape(text) for text in origin.split("*"))
    between = "".join(f"(?>{LABEL}+?{text})" for text in others[:-1])
    return first + between + (f"{LABEL}+{others[-1]}" if others else "")
