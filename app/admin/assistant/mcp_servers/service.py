"""Servers of others: adding them, what they have, and calling their tools."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import msgspec
from litestar.datastructures import State
from msgspec import UNSET, to_builtins

from app.admin.assistant.mcp_servers import queries
from app.admin.assistant.mcp_servers.queries import Stored
from app.admin.assistant.mcp_servers.schemas import Auth, McpAnswer, McpServer, McpServerCreate, McpTool
from app.admin.proposals import queries as proposals
from app.admin.proposals.schemas import ProposedRequest
from app.assistant import external
from app.assistant.external import OAuthClient, Server, ServerError
from app.assistant.provider import ToolSpec
from app.crypto.cipher import UnreadableError
from app.crypto.keys import Keys
from app.records.transaction import Transaction
from app.web.addresses import RefusedAddressError
from app.web.errors import AppError, Code, Fault, bad_field, invalid

# The name of the column that holds secrets, for their encryption.
SECRET = "mcp_servers.secret"  # noqa: S105 -- a name
UNREADABLE = "The secret of this server can't be read any more: delete the server and add it again"
# What all providers take as the name of a tool.
LONGEST_NAME = 64
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
MOST_OFFERED = 64
# What is known of a call until its answer has come.
NO_ANSWER = McpAnswer("The tool was called, and no answer has come: nobody knows whether it was done", is_error=True)

# Its tools, or why they are not known.
Found: TypeAlias = list[ToolSpec] | ServerError


class OutsideTool(NamedTuple):
    """A tool of a server, as the model is told of it."""

    spec: ToolSpec
    server: Stored
    tool: str

    @property
    def shown_name(self) -> str:
        """What people call it."""
        return _shown_name(self.server, self.tool)


def _shown_name(server: Stored, tool: str) -> str:
    return f"{server.name}.{tool}"


# ── servers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def shown(stored: Stored) -> McpServer:
    """A server as admins see it."""
    return McpServer(
        id=stored.id,
        name=stored.name,
        url=stored.url,
        auth=Auth(stored.auth),
        secret=None if stored.secret_end is None else f"…{stored.secret_end}",
        allowed_tools=stored.allowed_tools,
        tools=[McpTool(each["name"], each["description"], stored.allows(each["name"])) for each in stored.tools],
        listed_at=stored.listed_at,
        problem=stored.problem,
        created_at=stored.created_at,
    )


async def check(data: McpServerCreate, state: State) -> None:
    """Raise AppError 400 for what is missing, and WEBHOOK_URL_REFUSED unless the service may call these addresses. Not
    within a transaction.
    """
    auth = _auth(data)
    wanted = {Auth.NONE: (), Auth.BEARER: ("secret",), Auth.OAUTH: ("secret", "client_id", "issuer")}[auth]
    taken = (*wanted, "scope") if auth is Auth.OAUTH else wanted
    faults = [Fault(name, f"is required with auth: {auth}") for name in wanted if getattr(data, name) is UNSET]
    faults += [
        Fault(name, f"makes no sense with auth: {auth}")
        for name in ("secret", "client_id", "issuer", "scope")
        if name not in taken and getattr(data, name) is not UNSET
    ]
    if faults:
        raise invalid(*faults)
    for name in ("url", "issuer"):
        url = getattr(data, name)
        if url is not UNSET:
            try:
                await state.addresses.check_url(url, https_only=state.settings.production)
            except RefusedAddressError as error:
                raise bad_field(Code.WEBHOOK_URL_REFUSED, name, str(error)) from None


def _kept(data: McpServerCreate) -> str:
    """What is encrypted: nothing, a token, or who the service is."""
    if data.secret is UNSET:
        return ""
    if data.client_id is UNSET or data.issuer is UNSET:
        return data.secret
    scope = None if data.scope is UNSET else data.scope
    return msgspec.json.encode(OAuthClient(data.issuer, data.client_id, data.secret, scope)).decode()


async def create(tx: Transaction, data: McpServerCreate, found: Found, keys: Keys) -> Stored:
    """A new server. Raises AppError MCP_SERVER_EXISTS, LIMIT_REACHED, or SERVICE_UNAVAILABLE without a key to encrypt
    with.
    """
    await tx.connection.execute(queries.ONE_AT_A_TIME)
    if (await tx.connection.execute(queries.NAMED, {"server_name": data.name})).scalar_one():
        raise AppError(Code.MCP_SERVER_EXISTS)
    if (await tx.connection.execute(queries.COUNT)).scalar_one() >= queries.MOST:
        raise AppError(Code.LIMIT_REACHED, data={"max": queries.MOST})
    tenant = tx.actor.tenant_id
    kept, secret = _kept(data), "" if data.secret is UNSET else data.secret
    values = {
        "tenant_id": tenant,
        "name": data.name,
        "url": data.url,
        "auth": _auth(data).value,
        "secret": b"" if kept else None,
        "secret_end": None if not kept else secret[-4:] if len(secret) > 12 else "",
        "allowed_tools": None if data.allowed_tools is UNSET else data.allowed_tools,
        "tools": [],
        "listed_at": None,
        "problem": None,
    }
    row_id = int((await tx.connection.execute(queries.MAKE, values)).scalar_one())
    if kept:
        # It is bound to the row, whose id is known only now.
        encrypted = keys.encrypt(kept, SECRET, tenant, row_id)
        await tx.connection.execute(queries.KEEP_SECRET, {"server_id": row_id, "encrypted": encrypted})
    return await keep_tools(tx, row_id, found)


def _auth(data: McpServerCreate) -> Auth:
    return Auth.NONE if data.auth is UNSET else data.auth


async def remove(tx: Transaction, server_id: int) -> None:
    """Delete a server. Raises AppError MCP_SERVER_NOT_FOUND."""
    if (await tx.connection.execute(queries.REMOVE, {"server_id": server_id})).first() is None:
        raise AppError(Code.MCP_SERVER_NOT_FOUND)


def new(data: McpServerCreate, state: State) -> Server:
    """How a new server is reached."""
    return _server(data.url, _auth(data), _kept(data), state)


def reached(stored: Stored, tenant: str, state: State) -> Server:
    """How a server is reached. Raises AppError ASSISTANT_NOT_CONFIGURED where its secret can't be read."""
    secret = ""
    if stored.secret is not None:
        try:
            secret = state.encryption.decrypt(stored.secret, SECRET, tenant, stored.id)
        except UnreadableError:
            raise AppError(Code.ASSISTANT_NOT_CONFIGURED, UNREADABLE) from None
    return _server(stored.url, Auth(stored.auth), secret, state)


def _server(url: str, auth: Auth, secret: str, state: State) -> Server:
    is_client = auth is Auth.OAUTH
    return Server(
        url=url,
        auth=auth.value,
        token="" if is_client else secret,
        client=msgspec.json.decode(secret, type=OAuthClient) if is_client else None,
        addresses=state.addresses,
    )


# ── tools ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def list_tools(server: Server) -> Found:
    """What a server has, or why that is not known. Not within a transaction."""
    try:
        return await external.list_tools(server)
    except ServerError as error:
        return error


async def keep_tools(tx: Transaction, server_id: int, found: Found) -> Stored:
    """Note what a server has. Raises AppError MCP_SERVER_NOT_FOUND."""
    if isinstance(found, ServerError):
        await tx.connection.execute(queries.FAILED, {"server_id": server_id, "why": str(found)})
    else:
        await tx.connection.execute(queries.LISTED, {"server_id": server_id, "found": to_builtins(found)})
    return await queries.get(tx, server_id)


async def offered_tools(tx: Transaction) -> dict[str, OutsideTool]:
    """The tools of all servers that are allowed, by the names that the model calls them by."""
    found: dict[str, OutsideTool] = {}
    for server in await queries.all_of(tx):
        for tool in server.tools:
            name = f"{server.name}__{NOT_IN_NAMES.sub('_', tool['name'])}"
            if len(name) > LONGEST_NAME or name in found or not server.allows(tool["name"]):
                continue
            description = f"A tool of {server.name}, outside of this CRM: {tool['description']}"
            spec = ToolSpec(name, description, tool["input_schema"], _shown_name(server, tool["name"]))
            found[name] = OutsideTool(spec, server, tool["name"])
    return dict(list(found.items())[:MOST_OFFERED])


async def propose(
    tx: Transaction, offered: OutsideTool, arguments: Mapping[str, Any], *, conversation_id: int | None
) -> proposals.Kept:
    """Keep a call for the person to approve: what it sends leaves the CRM. Raises AppError LIMIT_REACHED."""
    host = urlsplit(offered.server.url).hostname
    path = f"/admin/assistant/mcp-servers/{offered.server.id}/calls"
    return await proposals.keep(
        tx,
        via="assistant",
        tool=offered.shown_name,
        summary=f"Call {offered.shown_name} at {host}, and send it what is in the request",
        title=None,
        request=ProposedRequest("POST", path, {"tool": offered.tool, "arguments": dict(arguments)}),
        changes=[],
        more=0,
        versions=[],
        outcome=None,
        conversation_id=conversation_id,
    )


def require_allowed(stored: Stored, tool: str) -> None:
    """Raise AppError 400 for a tool that the server has not, or that is not allowed."""
    if not stored.allows(tool) or tool not in {each["name"] for each in stored.tools}:
        raise invalid(Fault("tool", "is no tool of this server that may be called"))


async def call(server: Server, tool: str, arguments: dict[str, Any]) -> McpAnswer:
    """Call a tool. What goes wrong is an answer, too: it may have been done. Not within a transaction."""
    try:
        outcome = await external.call_tool(server, tool, arguments)
    except ServerError as error:
        return McpAnswer(str(error), is_error=True)
    return McpAnswer(outcome.text, outcome.is_error)
