"""How the protocol's library is run. It is loaded when the first AI client calls."""

from __future__ import annotations

from typing import Any

from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager


def manager(server: Server[Any], *, most: int) -> StreamableHTTPSessionManager:
    """Answers each request by itself, as a stream of events: on that, a tool can tell how far it is. Bodies have
    at most so many bytes; who may come in, and from which page, was looked at before.
    """
    return StreamableHTTPSessionManager(server, stateless=True, max_request_body_size=most)
