"""What the assistant needs of a language model, whoever runs it: turns go in, pieces of an answer come out.

The providers' libraries are large: they are loaded, in a thread, when the first answer is asked for.
"""

from __future__ import annotations

import asyncio
import importlib
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from enum import StrEnum
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from app.web.addresses import Addresses
from app.web.strict_json import DEEPEST, UNSTORABLE

MISSING = "The assistant's libraries are not installed on this service: pip install 'crm-service[assistant]'"
# Roughly, in any language.
BYTES_PER_TOKEN = 4


class Provider(StrEnum):
    """Who runs the model."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    GOOGLE = "google"
    # Anything that speaks OpenAI's chat API at an address of its own.
    OPENAI_COMPATIBLE = "openai_compatible"


HOMES = {
    Provider.ANTHROPIC: "https://api.anthropic.com",
    Provider.OPENAI: "https://api.openai.com/v1",
    Provider.GOOGLE: "https://generativelanguage.googleapis.com/v1beta/openai/",
}


class Model(Struct, frozen=True, kw_only=True):
    """A model, and how it is reached."""

    provider: Provider
    name: str
    # Empty for a server of one's own that wants none.
    key: str
    base_url: str
    # What checks the address, where a client named it. The operator's own is not checked.
    addresses: Addresses | None = None


class ToolSpec(Struct, frozen=True):
    """A tool that the model may call. `input_schema` is a JSON Schema of an object."""

    name: str
    description: str
    input_schema: dict[str, Any]
    # What people call it, where providers refuse that name.
    shown_name: str | None = None


class Text(Struct, frozen=True, tag_field="type", tag="text"):
    """What somebody said."""

    text: str


class Thought(Struct, frozen=True, tag_field="type", tag="thought"):
    """What the model thought. Its provider wants it back with the calls that followed; nobody else gets it."""

    provider: Provider
    content: dict[str, Any]


class ToolCall(Struct, frozen=True, tag_field="type", tag="tool_call", omit_defaults=True):
    """A call that the model asks for."""

    id: str
    name: str
    arguments: dict[str, Any]
    # The arguments as the model wrote them, where that is no JSON object: the call is answered with an error.
    malformed: str | None = None
    # What the provider wants back with the call.
    extra: dict[str, Any] | None = None
    # What people call the tool, where that is another name.
    shown_name: str | None = None


class ToolResult(Struct, frozen=True, tag_field="type", tag="tool_result", omit_defaults=True):
    """What came of a call."""

    call_id: str
    content: str
    is_error: bool = False


Part: TypeAlias = Text | Thought | ToolCall | ToolResult


class Message(Struct, frozen=True):
    """One turn of a conversation. The results of a turn's calls follow it, in one turn of the role `tool`."""

    role: Literal["user", "assistant", "tool"]
    parts: list[Part]


class Usage(Struct, frozen=True, tag_field="type", tag="usage"):
    """Tokens of one answer, as the provider counted them or, where it did not say, as `estimate` does. It comes once,
    before Stop, and before an error in the middle of an answer.
    """

    input_tokens: int
    output_tokens: int


class Stop(Struct, frozen=True, tag_field="type", tag="stop"):
    """The end of an answer, and always the last piece. `too_long` says that the window is full."""

    reason: Literal["end", "tool_calls", "max_tokens", "too_long", "refused"]


# Text comes in pieces, everything else whole.
Piece: TypeAlias = Text | Thought | ToolCall | Usage | Stop
Kind: TypeAlias = Literal["key_refused", "quota", "overloaded", "too_long", "ended_early", "unreachable", "other"]


class ProviderError(Exception):
    """There is no answer, or no whole one. The message is for people. What came before, came."""

    def __init__(self, kind: Kind, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.message = message
        # In seconds, where the provider said so.
        self.retry_after = retry_after


def cleaned(document: Any, deepest: int = DEEPEST) -> Any:
    """What a stranger sent, of JSON's kinds, as it can be stored: without NUL, lone surrogates, NaN, infinities and
    integers of more than 64 bits. Raises ValueError for what is nested too deep, and TypeError for other kinds.
    """
    if deepest < 0:
        raise ValueError("too deep")
    match document:
        case str():
            return UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", document)
        case dict():
            return {cleaned(name, deepest): cleaned(value, deepest - 1) for name, value in document.items()}
        case list():
            return [cleaned(value, deepest - 1) for value in document]
        case float():
            return document if math.isfinite(document) else None
        case int():
            return document if -(2**63) <= document < 2**63 else None
        case None:
            return None
    raise TypeError(type(document).__name__)


def estimate(system: str, messages: Sequence[Message], tools: Sequence[ToolSpec], answer: Sequence[Piece]) -> Usage:
    """Tokens that nobody counted, as those of an answer that was cancelled."""
    return Usage(_tokens(system, messages, tools), _tokens(answer))


def _tokens(*content: object) -> int:
    return len(msgspec.json.encode(content)) // BYTES_PER_TOKEN + 1


async def stream(
    model: Model, system: str, messages: Sequence[Message], tools: Sequence[ToolSpec], max_tokens: int
) -> AsyncGenerator[Piece, None]:
    """The model's next turn, in pieces as they come. Raises ProviderError.

    Whoever stops early calls `aclose()`, or is cancelled: either ends the connection at once, and so the model.
    """
    name = "anthropic" if model.provider is Provider.ANTHROPIC else "openai"
    try:
        adapter = await asyncio.to_thread(importlib.import_module, f"app.assistant.providers.{name}")
    except ModuleNotFoundError as error:
        raise ProviderError("other", MISSING) from error
    async with aclosing(adapter.ANSWER(model).stream(system, messages, tools, max_tokens)) as pieces:
        async for piece in pieces:
            yield piece
