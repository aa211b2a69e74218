"""MCP servers, by the protocol's own library."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client, MCPError
from mcp.client.auth import OAuthFlowError
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import StreamableHTTPError, streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from mcp.types import HEADER_MISMATCH, CallToolRequest, CallToolRequestParams, CallToolResult, TextContent, Tool

from app.assistant.external import SECONDS, OAuthClient, Outcome, Server, ServerError
from app.assistant.provider import ToolSpec, cleaned
from app.web.http_client import http_client, refusal

MOST_TOOLS, MOST_PAGES = 100, 10
LONGEST_DESCRIPTION, LARGEST_SCHEMA = 1000, 8 * 1024
# As the protocol says.
NAME = re.compile(r"[A-Za-z0-9_.\-]{1,128}")
LONGEST_ANSWER, LONGEST_ERROR = 6 * 1024, 300
CUT = "\n[The answer is longer: ask for less.]"
# What is wrong, from what the library and the network raise.
WRONG = (MCPError, StreamableHTTPError, OAuthFlowError, httpx2.HTTPError, OSError, ValueError, TypeError, RuntimeError)


class _Forgetful:
    """Keeps tokens for as long as a connection."""

    def __init__(self) -> None:
        self._tokens: OAuthToken | None = None
        self._client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self._tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self._tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._client = client_info


async def list_tools(server: Server) -> list[ToolSpec]:
    """See app/assistant/external.py."""
    found: list[ToolSpec] = []
    async with _connected(server) as client:
        cursor = None
        for _ in range(MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            found += [_spec(tool) for tool in page.tools if _fits(tool)]
            cursor = page.next_cursor
            if cursor is None or len(found) >= MOST_TOOLS:
                break
    return found[:MOST_TOOLS]


async def call_tool(server: Server, name: str, arguments: dict[str, Any]) -> Outcome:
    """See app/assistant/external.py."""
    async with _connected(server) as client:
        result = await _called(client, name, arguments)
        texts = [block.text for block in result.content if isinstance(block, TextContent)]
        if not texts and result.structured_content is not None:
            texts = [json.dumps(result.structured_content, ensure_ascii=False)]
        text = "\n".join(texts)
        others = len(result.content) - len(texts)
        if not text and others > 0:
            text = f"[{others} parts that are no text]"
        return Outcome(_cut(text, LONGEST_ANSWER, CUT), bool(result.is_error))


async def _called(client: Client, name: str, arguments: dict[str, Any]) -> CallToolResult:
    """Like the client's own `call_tool`, which would check the answer by the server's patterns: some take for ever."""
    request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=arguments))
    try:
        return await client.session.send_request(request, CallToolResult)
    except MCPError as error:
        if error.code != HEADER_MISMATCH:
            raise
    # It was not called: the server wants arguments in headers, too, which are known from its tools.
    await client.list_tools()
    return await client.session.send_request(request, CallToolResult)


@asynccontextmanager
async def _connected(server: Server) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {server.token}"} if server.auth == "bearer" else {}
    try:
        async with asyncio.timeout(SECONDS), http_client(server.addresses, headers) as http:
            if server.client is not None:
                http.auth = _oauth(server.url, server.client)
            transport = streamable_http_client(server.url, http_client=http)
            async with Client(transport, read_timeout_seconds=SECONDS) as client:
                yield client
    except TimeoutError:
        raise ServerError(f"The server did not answer within {SECONDS:g} seconds") from None
    except BaseExceptionGroup as group:
        wrong, other = group.split(WRONG)
        if other is not None or wrong is None:
            raise
        raise ServerError(_in_words(next(_leaves(wrong)))) from None
    except WRONG as error:
        raise ServerError(_in_words(error)) from None


def _oauth(url: str, client: OAuthClient) -> httpx2.Auth:
    return ClientCredentialsOAuthProvider(
        server_url=url,
        storage=_Forgetful(),
        client_id=client.client_id,
        client_secret=client.client_secret,
        scope=client.scope,
        issuer=client.issuer,
    )


def _in_words(error: BaseException) -> str:
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return refusal(error) or "The server does not accept connections"
    if isinstance(error, httpx2.HTTPStatusError):
        return f"The server answered {error.response.status_code}"
    if isinstance(error, httpx2.HTTPError):
        return "The server ended the connection without a whole answer"
    if isinstance(error, OAuthFlowError):
        return f"The authorization server gave no token: {_line(error)}"
    if isinstance(error, MCPError):
        return f"The server refused: {_line(error)}"
    return "The server does not speak the Model Context Protocol at this address"


def _line(error: BaseException) -> str:
    return _cut(" ".join(str(error).split()), LONGEST_ERROR, "…")


def _cut(text: str, most: int, end: str) -> str:
    clean: bytes = cleaned(text).encode()
    return clean.decode() if len(clean) <= most else clean[:most].decode(errors="ignore") + end


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _fits(tool: Tool) -> bool:
    """A schema that is too large would crowd out everything else, and not each can be stored."""
    if NAME.fullmatch(tool.name) is None or len(json.dumps(tool.input_schema)) > LARGEST_SCHEMA:
        return False
    try:
        return bool(cleaned(tool.input_schema) == tool.input_schema)
    except (ValueError, TypeError):
        return False


def _spec(tool: Tool) -> ToolSpec:
    return ToolSpec(tool.name, _cut(tool.description or tool.title or "", LONGEST_DESCRIPTION, "…"), tool.input_schema)
