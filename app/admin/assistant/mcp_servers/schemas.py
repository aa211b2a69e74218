"""MCP servers as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct

from app.admin.assistant.settings.schemas import check_key
from app.web.structs import Body, Maybe, View
from app.web.text import LINE

MOST_ALLOWED = 100
LONGEST_TOOL = 128

ToolName = Annotated[str, Meta(max_length=LONGEST_TOOL, pattern=r"^[A-Za-z0-9_.\-]{1,128}$", extra={"choice": True})]
AllowedTools = Annotated[list[ToolName], Meta(max_length=MOST_ALLOWED, extra={"choice": True})]
Url = Annotated[str, Meta(min_length=1, max_length=2000, **LINE, examples=["https://mcp.example/mcp"])]
Secret = Annotated[str, Meta(max_length=500, extra={"check": check_key, "choice": True})]


class Auth(StrEnum):
    """How the service says who it is: with a token, or as an OAuth client that gets one (client credentials)."""

    NONE = "none"
    BEARER = "bearer"
    OAUTH = "oauth"


class McpTool(Struct):
    """What a server says of a tool. Only those that are allowed are offered to the model."""

    name: str
    description: str
    allowed: bool


class McpServer(View):
    """A server of the Model Context Protocol. `tools` are those that it had at `listed_at`; `problem` says why they
    could not be listed since. Of the secret there are the last characters. `allowed_tools` is null where all are
    allowed.
    """

    id: int
    name: str
    url: str
    auth: Auth
    secret: str | None
    allowed_tools: list[str] | None
    tools: list[McpTool]
    listed_at: datetime | None
    problem: str | None
    created_at: datetime


class McpServerCreate(Body, kw_only=True):
    """A new server. With `bearer`, `secret` is the token; with `oauth`, it is that of `client_id` at `issuer`, to which
    alone it is sent.
    """

    name: Annotated[
        str,
        Meta(
            max_length=32,
            pattern=r"^[a-z][a-z0-9_-]{0,31}$",
            extra={"choice": True},
            description="What its tools begin with",
            examples=["outlook"],
        ),
    ]
    url: Url
    auth: Maybe[Auth] = UNSET
    secret: Maybe[Secret] = UNSET
    client_id: Maybe[Secret] = UNSET
    issuer: Maybe[Annotated[str, Meta(min_length=1, max_length=2000, **LINE, examples=["https://login.example"])]] = (
        UNSET
    )
    scope: Maybe[Annotated[str, Meta(min_length=1, max_length=500, **LINE, examples=["mail.read"])]] = UNSET
    allowed_tools: Maybe[Annotated[list[ToolName], Meta(max_length=MOST_ALLOWED, extra={"choice": True})] | None] = (
        UNSET
    )


class McpCall(Body, kw_only=True):
    """A call of a tool."""

    tool: ToolName
    arguments: dict[str, Any]


class McpAnswer(Struct):
    """What the server answered, or why it did not. It is a stranger's text."""

    untrusted: str
    is_error: bool
