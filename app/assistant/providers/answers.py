"""What the adapters share: an answer as it comes, and how it ends."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import ClassVar
from uuid import uuid4

import httpx2
import structlog

from app.assistant.provider import Message, Model, Piece, ProviderError, Stop, ToolCall, ToolSpec, Usage, estimate
from app.assistant.providers.failures import failed
from app.assistant.providers.transport import refusal

log = structlog.get_logger("assistant")

# Of requests that got no answer, or were put off.
RETRIES = 1
# What a peer can send that no reader of its API understands.
NONSENSE = (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError)
NOT_UNDERSTOOD = "The provider's answer was not understood: is its address the right one for this kind of provider?"


class Answer(ABC):
    """One answer of a provider."""

    # What the provider's library raises.
    error: ClassVar[type[Exception]]

    def __init__(self, model: Model) -> None:
        self.model = model
        self.stop: Stop | None = None
        self.usage: Usage | None = None

    @abstractmethod
    def pieces(
        self, system: str, messages: Sequence[Message], tools: Sequence[ToolSpec], max_tokens: int
    ) -> AsyncGenerator[Piece, None]:
        """The pieces as they come, without the usage and the end, which it keeps."""

    @abstractmethod
    def refusal(self, error: Exception) -> ProviderError | None:
        """What the provider's own error means, if it is one."""

    async def stream(
        self, system: str, messages: Sequence[Message], tools: Sequence[ToolSpec], max_tokens: int
    ) -> AsyncGenerator[Piece, None]:
        """See app/assistant/provider.py."""
        came: list[Piece] = []
        failure: ProviderError | None = None
        cause: Exception | None = None
        pieces = self.pieces(system, messages, tools, max_tokens)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    came.append(piece)
                    yield piece
        except (self.error, httpx2.HTTPError, httpx2.StreamError, *NONSENSE) as error:
            cause, failure = error, self.refusal(error) or self._broken(error, began=bool(came))
        else:
            failure = failed("ended_early") if self.stop is None else None
        if came or self.usage or failure is None:
            yield _counted(self.usage, estimate(system, messages, tools, came))
        if failure is not None:
            raise failure from cause
        assert self.stop is not None, "else it ended early"  # noqa: S101
        yield self.stop

    def _broken(self, error: Exception, *, began: bool) -> ProviderError:
        """The error for a connection that broke, or for an answer that nobody understands."""
        if isinstance(error, NONSENSE):
            # Its text may hold what the conversation is about.
            log.warning(
                "a provider's answer was not understood", provider=self.model.provider, error=type(error).__name__
            )
            return failed("other", NOT_UNDERSTOOD)
        return failed("ended_early") if began else failed("unreachable", refusal(error))


def _counted(said: Usage | None, guess: Usage) -> Usage:
    """What the provider said, and a guess where it said nothing: no request is empty."""
    if said is None:
        return guess
    return Usage(said.input_tokens or guess.input_tokens, said.output_tokens)


def call_of(call_id: str | None, name: str, arguments: str, extra: dict[str, object] | None = None) -> ToolCall:
    """A call whose arguments are whole. It gets an id where the provider gave none."""
    try:
        read = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        read = None
    is_object = isinstance(read, dict)
    return ToolCall(
        id=call_id or f"call_{uuid4().hex}",
        name=name,
        arguments=read if is_object else {},
        malformed=None if is_object else arguments,
        extra=extra,
    )
