"""What the protocol's conformance suite expects of a server: tools, resources and prompts of given names and contents.
They stand behind our own door, in place of the CRM's.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import mcp_types as types
from mcp import MCPDeprecationWarning, MCPError
from mcp.server import CacheHint, Server, ServerRequestContext
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity

# A picture of one pixel, and a sound of no length.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="

Context = ServerRequestContext[Any, Any]
Blocks = Sequence[types.ContentBlock]
Answer = Callable[[Context, dict[str, Any]], Awaitable[Blocks]]

NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}
BY_HEADER = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}, "query": {"type": "string"}},
    "required": ["region"],
}
SCHEMA_2020_12 = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def text(said: str) -> types.TextContent:
    return types.TextContent(text=said)


def image() -> types.ImageContent:
    return types.ImageContent(data=PNG, mime_type="image/png")


def resource(uri: str, mime_type: str, said: str) -> types.EmbeddedResource:
    return types.EmbeddedResource(resource=types.TextResourceContents(uri=uri, mime_type=mime_type, text=said))


def always(*blocks: types.ContentBlock) -> Answer:
    async def answer(_: Context, __: dict[str, Any]) -> Blocks:
        return blocks

    return answer


async def progress(context: Context, _: dict[str, Any]) -> Blocks:
    for done in (0, 50, 100):
        await context.session.report_progress(done, total=100, message=f"Completed step {done} of 100")
    return [text("done")]


async def logging(context: Context, _: dict[str, Any]) -> Blocks:
    for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        params = types.LoggingMessageNotificationParams(level="info", data=said)
        notification = types.LoggingMessageNotification(params=params)
        await context.session.send_notification(notification, context.request_id)
    return [text("done")]


async def failing(_: Context, __: dict[str, Any]) -> Blocks:
    raise RuntimeError("This tool intentionally returns an error for testing")


async def needing_sampling(_: Context, __: dict[str, Any]) -> Blocks:
    missing: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
    raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "The client does not say that it samples", missing)


def elicited(message: str, name: str, kind: str = "string") -> types.ElicitRequest:
    schema: dict[str, Any] = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def sampled(question: str) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=text(question))
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=100))


class Asking(NamedTuple):
    """What is asked back, round by round, before there is an answer: the client calls again with what it was asked for.
    Which round it is, the client carries, sealed. So no worker has to remember it.
    """

    rounds: Sequence[types.InputRequests]
    keeps_state: bool = True

    def next(self, asked: Any, capabilities: types.ClientCapabilities | None) -> types.InputRequiredResult | None:
        """What is asked next, of those things that the client can do; None where all is answered."""
        place = int(asked.request_state or 0)
        if self.rounds[place].keys() <= (asked.input_responses or {}).keys():
            place += 1
        if place == len(self.rounds):
            return None
        able = capabilities or types.ClientCapabilities()
        can = {
            "elicitation/create": able.elicitation,
            "sampling/createMessage": able.sampling,
            "roots/list": able.roots,
        }
        wanted = {name: each for name, each in self.rounds[place].items() if can[each.method] is not None}
        state = str(place) if self.keeps_state else None
        return types.InputRequiredResult(input_requests=wanted, request_state=state)


NAME: types.InputRequests = {"user_name": elicited("What is your name?", "name")}
CONFIRM: types.InputRequests = {"confirm": elicited("Please confirm", "ok", "boolean")}
GREETING: types.InputRequests = {"greeting": sampled("Generate a greeting")}
ROOTS: types.InputRequests = {"client_roots": types.ListRootsRequest()}
ASKING = {
    "test_input_required_result_elicitation": Asking([NAME], keeps_state=False),
    "test_input_required_result_sampling": Asking([GREETING], keeps_state=False),
    "test_input_required_result_list_roots": Asking([ROOTS], keeps_state=False),
    "test_input_required_result_request_state": Asking([CONFIRM]),
    "test_input_required_result_tampered_state": Asking([CONFIRM]),
    "test_input_required_result_multiple_inputs": Asking([{**NAME, **GREETING, **ROOTS}]),
    "test_input_required_result_capabilities": Asking([{**NAME, **GREETING}]),
    "test_input_required_result_multi_round": Asking(
        [
            {"step1": elicited("Step 1: What is your name?", "name")},
            {"step2": elicited("Step 2: What is your favorite color?", "color")},
        ]
    ),
    "test_input_required_result_prompt": Asking([{"user_context": elicited("Which context?", "context")}]),
}
TOOLS: dict[str, tuple[str, dict[str, Any], Answer]] = {
    "test_simple_text": ("Says a text", NO_ARGUMENTS, always(text("This is a simple text response for testing."))),
    "test_image_content": ("Shows a picture", NO_ARGUMENTS, always(image())),
    "test_audio_content": ("Plays", NO_ARGUMENTS, always(types.AudioContent(data=WAV, mime_type="audio/wav"))),
    "test_embedded_resource": (
        "Has a resource inside",
        NO_ARGUMENTS,
        always(resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")),
    ),
    "test_multiple_content_types": (
        "Has all kinds",
        NO_ARGUMENTS,
        always(
            text("Multiple content types test:"),
            image(),
            resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
        ),
    ),
    "test_error_handling": ("Fails", NO_ARGUMENTS, failing),
    "test_tool_with_progress": ("Says how far it is", NO_ARGUMENTS, progress),
    "test_missing_capability": ("Needs what no client has", NO_ARGUMENTS, needing_sampling),
    "test_streaming_elicitation": ("Asks for nothing", NO_ARGUMENTS, always(text("done"))),
    "test_tool_with_logging": ("Says what it does", NO_ARGUMENTS, logging),
    "test_logging_tool": ("Logs nothing", NO_ARGUMENTS, always(text("done"))),
    "test_custom_headers": ("Takes arguments by headers", BY_HEADER, always(text("ok"))),
    **{
        name: ("Asks back", NO_ARGUMENTS, always(text("state-ok")))
        for name in ASKING
        if name != "test_input_required_result_prompt"
    },
    "json_schema_2020_12_tool": ("Has a rich schema", SCHEMA_2020_12, always(text("ok"))),
}
RESOURCES: dict[str, types.TextResourceContents | types.BlobResourceContents] = {
    "test://static-text": types.TextResourceContents(
        uri="test://static-text", mime_type="text/plain", text="This is the content of the static text resource."
    ),
    "test://static-binary": types.BlobResourceContents(uri="test://static-binary", mime_type="image/png", blob=PNG),
}
TEMPLATE = "test://template/{id}/data"


def _user(content: types.ContentBlock) -> types.PromptMessage:
    return types.PromptMessage(role="user", content=content)


PROMPTS: dict[str, tuple[tuple[str, ...], Callable[[dict[str, str]], list[types.PromptMessage]]]] = {
    "test_simple_prompt": ((), lambda _: [_user(text("This is a simple prompt for testing."))]),
    "test_prompt_with_arguments": (
        ("arg1", "arg2"),
        lambda given: [_user(text(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'"))],
    ),
    "test_prompt_with_embedded_resource": (
        ("resourceUri",),
        lambda given: [
            _user(resource(given["resourceUri"], "text/plain", "Embedded resource content for testing.")),
            _user(text("Please process the embedded resource above.")),
        ],
    ),
    "test_input_required_result_prompt": ((), lambda _: [_user(text("With that context."))]),
    "test_prompt_with_image": ((), lambda _: [_user(image()), _user(text("Please analyze the image above."))]),
}


def _asked_back(context: Context, asked: Any) -> types.InputRequiredResult | None:
    asking = ASKING.get(asked.name)
    return None if asking is None else asking.next(asked, context.session.client_capabilities)


async def _list_tools(_: Context, __: Any) -> types.ListToolsResult:
    return types.ListToolsResult(
        tools=[
            types.Tool(name=name, description=said, input_schema=schema) for name, (said, schema, _) in TOOLS.items()
        ]
    )


async def _call_tool(
    context: Context, asked: types.CallToolRequestParams
) -> types.CallToolResult | types.InputRequiredResult:
    if asked.name not in TOOLS:
        raise MCPError(types.INVALID_PARAMS, f"There is no tool {asked.name}")
    if wanted := _asked_back(context, asked):
        return wanted
    try:
        return types.CallToolResult(content=list(await TOOLS[asked.name][2](context, asked.arguments or {})))
    except RuntimeError as error:
        return types.CallToolResult(content=[text(str(error))], is_error=True)


async def _list_resources(_: Context, __: Any) -> types.ListResourcesResult:
    return types.ListResourcesResult(
        resources=[
            types.Resource(uri=uri, name=uri.removeprefix("test://"), mime_type=each.mime_type)
            for uri, each in RESOURCES.items()
        ]
    )


async def _list_templates(_: Context, __: Any) -> types.ListResourceTemplatesResult:
    template = types.ResourceTemplate(name="template", uri_template=TEMPLATE, mime_type="application/json")
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def _read_resource(_: Context, asked: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = str(asked.uri)
    before, after = TEMPLATE.split("{id}")
    if uri.startswith(before) and uri.endswith(after):
        known = uri.removeprefix(before).removesuffix(after)
        said = json.dumps({"id": known, "templateTest": True, "data": f"Data for ID: {known}"})
        contents: Any = types.TextResourceContents(uri=uri, mime_type="application/json", text=said)
        return types.ReadResourceResult(contents=[contents])
    if uri not in RESOURCES:
        raise MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})
    return types.ReadResourceResult(contents=[RESOURCES[uri]])


async def _list_prompts(_: Context, __: Any) -> types.ListPromptsResult:
    return types.ListPromptsResult(
        prompts=[
            types.Prompt(
                name=name,
                description=name.replace("_", " "),
                arguments=[types.PromptArgument(name=each, required=True) for each in arguments],
            )
            for name, (arguments, _) in PROMPTS.items()
        ]
    )


async def _get_prompt(
    context: Context, asked: types.GetPromptRequestParams
) -> types.GetPromptResult | types.InputRequiredResult:
    if asked.name not in PROMPTS:
        raise MCPError(types.INVALID_PARAMS, f"There is no prompt {asked.name}")
    if wanted := _asked_back(context, asked):
        return wanted
    return types.GetPromptResult(messages=PROMPTS[asked.name][1](asked.arguments or {}))


async def _set_level(_: Context, __: types.SetLevelRequestParams) -> types.EmptyResult:
    return types.EmptyResult()


async def _complete(_: Context, __: types.CompleteRequestParams) -> types.CompleteResult:
    return types.CompleteResult(completion=types.Completion(values=[], total=0, has_more=False))


def fixture_server() -> Server[Any]:
    """A server with what the suite asks for, as far as ours could have it."""
    hint = CacheHint(ttl_ms=60_000)
    with warnings.catch_warnings():
        # The newer revision has no logging any more; the older one's scenarios ask for it.
        warnings.simplefilter("ignore", MCPDeprecationWarning)
        server = Server(
            "conformance",
            version="1",
            cache_hints={"tools/list": hint, "prompts/list": hint, "resources/list": hint, "resources/read": hint},
            on_list_tools=_list_tools,
            on_call_tool=_call_tool,
            on_list_resources=_list_resources,
            on_list_resource_templates=_list_templates,
            on_read_resource=_read_resource,
            on_list_prompts=_list_prompts,
            on_get_prompt=_get_prompt,
            on_completion=_complete,
            on_set_logging_level=_set_level,
        )
    # Each worker has the key, as it would have a setting.
    server.middleware.append(RequestStateBoundary(RequestStateSecurity(keys=[b"x" * 32]), default_audience=None))
    return server
