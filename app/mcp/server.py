"""What AI clients find: our tools, records as resources, and prompts. It is loaded when the first of them calls."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

import mcp_types as types
from litestar import Litestar
from mcp import MCPError
from mcp.server import CacheHint, Server, ServerRequestContext
from starlette.requests import Request

from app.access.actor import Actor
from app.access.permissions import Scope
from app.admin.tools.calling import call, offered
from app.admin.tools.catalogue import BY_NAME, GUIDE
from app.admin.tools.kinds import Readable
from app.admin.tools.tool import Caller, Mode, ToolResult
from app.mcp.prompts import PROMPTS
from app.settings import Settings

RECORD = re.compile(rf"crm://({'|'.join(Readable)})/([1-9][0-9]{{0,18}})")
JSON = "application/json"
# What an access token allows of what the service does.
ALLOWED: dict[Scope, Mode] = {Scope.READ: "off", Scope.PROPOSE: "propose", Scope.WRITE: "on"}
MODES: tuple[Mode, ...] = ("off", "propose", "on")
# How long clients may keep what a person is offered.
KEPT = CacheHint(ttl_ms=60_000)

Context = ServerRequestContext[Any, Request]


def crm_server() -> Server[Any]:
    """The CRM as AI clients see it."""
    return Server(
        "crm",
        title="CRM",
        version=version("crm-service"),
        instructions=GUIDE,
        cache_hints={"tools/list": KEPT, "prompts/list": KEPT, "resources/templates/list": KEPT},
        get_tool_input_schema=lambda name: BY_NAME[name].input if name in BY_NAME else None,
        on_list_tools=_list_tools,
        on_call_tool=_call_tool,
        on_list_resources=_list_resources,
        on_list_resource_templates=_list_templates,
        on_read_resource=_read_resource,
        on_list_prompts=_list_prompts,
        on_get_prompt=_get_prompt,
    )


def mode_of(settings: Settings, actor: Actor) -> Mode:
    """Whether tools write: what the service allows, or less if the access token is for less."""
    allowed: Mode = "on" if actor.access_token is None else ALLOWED[actor.access_token.scope]
    return min(allowed, settings.mcp_writes, key=MODES.index)


def _caller(context: Context) -> Caller:
    """The person whose client asks: of this very request, and of no other."""
    request = context.request
    assert request is not None, "each request comes by HTTP"  # noqa: S101
    scope = request.scope
    app: Litestar = scope["app"]
    return Caller(
        app=app,
        actor=scope["user"],
        mode=mode_of(app.state.settings, scope["user"]),
        via="mcp",
        request_id=scope["state"]["request_id"],
        ip_address=scope["client"][0] if scope["client"] else None,
        user_agent=request.headers.get("user-agent", "")[:500] or None,
    )


async def _list_tools(context: Context, _: Any) -> types.ListToolsResult:
    return types.ListToolsResult(
        tools=[
            types.Tool(
                name=tool.name,
                title=tool.title,
                description=tool.description,
                input_schema=tool.input,
                annotations=types.ToolAnnotations(
                    title=tool.title,
                    read_only_hint=tool.reads,
                    destructive_hint=tool.destructive,
                    open_world_hint=False,
                ),
            )
            for tool in offered(_caller(context).mode)
        ]
    )


async def _call_tool(context: Context, asked: types.CallToolRequestParams) -> types.CallToolResult:
    if asked.name not in BY_NAME:
        raise MCPError(types.INVALID_PARAMS, f"There is no tool {asked.name[:50]!r}")
    result = await call(_caller(context), asked.name, asked.arguments or {})
    return types.CallToolResult(content=[types.TextContent(text=result.text)], is_error=result.is_error)


async def _list_resources(_: Context, __: Any) -> types.ListResourcesResult:
    """None: records are found by the tools, and read by their addresses."""
    return types.ListResourcesResult(resources=[])


async def _list_templates(_: Context, __: Any) -> types.ListResourceTemplatesResult:
    return types.ListResourceTemplatesResult(
        resource_templates=[
            types.ResourceTemplate(
                name=kind.value,
                title=kind.value.replace("_", " ").capitalize(),
                uri_template=f"crm://{kind.value}/{{id}}",
                description=f"One {kind.value.replace('_', ' ')}, with what hangs on it",
                mime_type=JSON,
            )
            for kind in Readable
        ]
    )


async def _read_resource(context: Context, asked: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    address = str(asked.uri)
    named = RECORD.fullmatch(address)
    if named is None:
        raise _no_resource(address, "it must be of the form crm://customer/12")
    result: ToolResult = await call(_caller(context), "get_record", {"type": named[1], "id": int(named[2])})
    if result.is_error:
        raise _no_resource(address, result.content["error"])
    contents = types.TextResourceContents(uri=address, mime_type=JSON, text=result.text)
    return types.ReadResourceResult(contents=[contents])


def _no_resource(address: str, reason: str) -> MCPError:
    return MCPError(types.INVALID_PARAMS, f"Resource not found: {reason}", {"uri": address[:200]})


async def _list_prompts(_: Context, __: Any) -> types.ListPromptsResult:
    return types.ListPromptsResult(
        prompts=[
            types.Prompt(
                name=prompt.name,
                title=prompt.title,
                description=prompt.description,
                arguments=[
                    types.PromptArgument(name=name, description=description, required=True)
                    for name, description in prompt.arguments.items()
                ],
            )
            for prompt in PROMPTS.values()
        ]
    )


async def _get_prompt(_: Context, asked: types.GetPromptRequestParams) -> types.GetPromptResult:
    prompt = PROMPTS.get(asked.name)
    if prompt is None:
        raise MCPError(types.INVALID_PARAMS, f"There is no prompt {asked.name[:50]!r}; there are {', '.join(PROMPTS)}")
    given = asked.arguments or {}
    if missing := [name for name in prompt.arguments if not given.get(name, "").strip()]:
        raise MCPError(types.INVALID_PARAMS, f"The prompt needs {' and '.join(missing)}")
    content = types.TextContent(text=prompt.text(given))
    return types.GetPromptResult(
        description=prompt.description, messages=[types.PromptMessage(role="user", content=content)]
    )
