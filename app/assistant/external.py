"""Tools of others, by the Model Context Protocol: what a server has, and what a call of it answers.

What a server says is data of strangers. It is cut to what there is room for, and nothing that it says of
its tools is believed.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any, Literal

from msgspec import Struct

from app.assistant.provider import ToolSpec
from app.web.addresses import Addresses

MISSING = "The assistant's libraries are not installed on this service: pip install 'crm-service[assistant]'"
SECONDS = 30.0


class OAuthClient(Struct):
    """Who the service is at an authorization server, for tokens of its own (client credentials). They are sent to this
    issuer only.
    """

    issuer: str
    client_id: str
    client_secret: str
    scope: str | None = None


class Server(Struct, frozen=True, kw_only=True):
    """A server, and how it is reached."""

    url: str
    auth: Literal["none", "bearer", "oauth"]
    token: str = ""
    client: OAuthClient | None = None
    addresses: Addresses


class Outcome(Struct, frozen=True):
    """What a call has answered."""

    text: str
    is_error: bool


class ServerError(Exception):
    """A server can't be used. The message is for people."""


async def list_tools(server: Server) -> list[ToolSpec]:
    """What the server has, by the names that it gives. Raises ServerError."""
    adapter = await _adapter()
    tools: list[ToolSpec] = await adapter.list_tools(server)
    return tools


async def call_tool(server: Server, name: str, arguments: dict[str, Any]) -> Outcome:
    """Call a tool once: it is never tried again, since it may have done something. Raises ServerError."""
    adapter = await _adapter()
    outcome: Outcome = await adapter.call_tool(server, name, arguments)
    return outcome


async def _adapter() -> Any:
    try:
        return await asyncio.to_thread(importlib.import_module, "app.assistant.providers.mcp")
    except ModuleNotFoundError as error:
        raise ServerError(MISSING) from error
