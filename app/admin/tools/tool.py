"""What a tool is, who calls it, and what comes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias
from urllib.parse import urlencode

from msgspec import UNSET, Struct

from app.admin.inside import Sender
from app.admin.proposals.queries import Kept
from app.admin.tools.arguments import schema_of, without_null
from app.web import strict_json
from app.web.fields import Refused, as_parameter
from app.web.structs import Body

# Whether tools write: never, never by themselves, or what is small and can be taken back.
Mode: TypeAlias = Literal["off", "propose", "on"]


class Caller(Sender, kw_only=True):
    """The person a tool is called for, and by which way: `mcp` or `assistant`."""

    mode: Mode
    conversation_id: int | None = None

    async def read(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """What the route answers, as JSON values. Raises AppError, and ToolError for what is no parameter."""
        answer = await self.send("GET", path, query=written(query or {}))
        if answer.refused:
            raise answer.refusal()
        return answer.document()


class ToolError(Exception):
    """What was wrong with a call, in one sentence that says what to do."""


class Request(NamedTuple):
    """What a writing tool asks for, and what that is for people, without the text of records. `kind` and `ids` say
    which records it is about, the first of them before all; a new one has no id.
    """

    method: str
    path: str
    body: dict[str, Any] | None
    summary: str
    kind: str
    ids: tuple[int, ...] = ()


class Tool(NamedTuple):
    """One of the tools. A reading one has `run`; a writing one has `plan`, which gets the arguments also as
    they were sent, and what it asks for is done or proposed."""

    name: str
    title: str
    description: str
    arguments: type[Body]
    run: Callable[[Caller, Any], Awaitable[dict[str, Any]]] | None = None
    plan: Callable[[Any, dict[str, Any]], Request] | None = None
    # It takes something away: that is always proposed first.
    destructive: bool = False

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.plan is None

    @property
    def input(self) -> dict[str, Any]:
        """The JSON Schema of its arguments."""
        form = schema_of(self.arguments)
        return form | {"properties": {name: without_null(each) for name, each in form["properties"].items()}}


class ToolResult(Struct):
    """What a model is told, and the proposal that waits for the person."""

    content: dict[str, Any]
    is_error: bool = False
    proposal: Kept | None = None

    @property
    def text(self) -> str:
        """The content as JSON, with exact numbers: 8 KiB at most."""
        return strict_json.encode(self.content).decode()


def written(query: Mapping[str, Any]) -> str:
    """A query string. Raises ToolError for a value that no parameter takes."""
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        if value is UNSET or value is None:
            continue
        try:
            pairs.append((name, as_parameter(value)))
        except Refused as refused:
            raise ToolError(f"{name} {refused}.") from None
    return urlencode(pairs)
