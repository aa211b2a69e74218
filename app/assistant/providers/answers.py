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

from app.assistant.provider import (
    Message,
    Model,
    Piece,
    ProviderError,
    Stop,
    Text,
    Thought,
    ToolCall,
    ToolSpec,
    Usage,
    cleaned,
    estimate,
)
from app.assistant.providers.failures import failed
from app.web.http_client import refusal

log = structlog.get_logger("assistant")

# Of requests that got no answer, or were put off.
RETRIES = 1
# No answer costs so much.
MOST_TOKENS = 1_000_000_000
# Of one answer. No model makes so many.
MOST_CALLS = 64
TOO_MANY_CALLS = f"The model made more than {MOST_CALLS} calls at once: ask for less at once"
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
        # What has come of pieces that are not whole.
        self.unfinished: list[str] = []

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
                async for each in pieces:
                    piece = _storable(each)
                    came.append(piece)
                    yield piece
        except ProviderError as error:
            failure = error
        except (self.error, httpx2.HTTPError, httpx2.StreamError, *NONSENSE) as error:
            began = bool(came or self.unfinished)
            cause, failure = error, self.refusal(error) or self._broken(error, began=began)
        else:
            failure = failed("ended_early") if self.stop is None else None
        if self.unfinished:
            came.append(Text("".join(self.unfinished)))
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
    given, made = _number(said.input_tokens), _number(said.output_tokens)
    return Usage(given or guess.input_tokens, guess.output_tokens if made is None else made)


def _number(said: object) -> int | None:
    return said if type(said) is int and 0 <= said <= MOST_TOKENS else None


def _storable(piece: Piece) -> Piece:
    """The piece without what no database takes. Raises NONSENSE."""
    match piece:
        case Text(text):
            return Text(_text(text))
        case Thought(whose, content):
            return Thought(whose, cleaned(content))
    return piece


def _text(said: str) -> str:
    if not isinstance(said, str):
        raise TypeError(type(said).__name__)
    text: str = cleaned(said)
    return text


def require_room(calls: int) -> None:
    """Raise ProviderError for one call more than an answer may have."""
    if calls >= MOST_CALLS:
        raise failed("other", TOO_MANY_CALLS)


def call_of(call_id: str | None, name: str, arguments: str, extra: dict[str, object] | None = None) -> ToolCall:
    """A call whose arguments are whole. It gets an id where the provider gave none. Raises NONSENSE."""
    try:
        read = json.loads(arguments or "{}")
        is_object = isinstance(read, dict) and cleaned(read) == read
    except (ValueError, RecursionError):
        is_object = False
    return ToolCall(
        id=_text(call_id or f"call_{uuid4().hex}"),
        name=_text(name),
        arguments=read if is_object else {},
        malformed=None if is_object else _text(arguments),
        extra=cleaned(extra),
    )
