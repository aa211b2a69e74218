"""Models of OpenAI and Google, and of all servers that speak OpenAI's chat API."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any, cast

from openai import APIError, APIStatusError, AsyncOpenAI, OpenAIError
from openai.types.chat import ChatCompletionChunk, ChatCompletionToolParam

from app.assistant.provider import (
    Message,
    Model,
    Piece,
    Provider,
    ProviderError,
    Stop,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from app.assistant.providers.answers import RETRIES, Answer, call_of, require_room
from app.assistant.providers.failures import refused
from app.assistant.providers.transport import model_client

STATUS = re.compile(r"[1-5][0-9]{2}")
STOPS = {"length": Stop("max_tokens"), "content_filter": Stop("refused")}


class ChatAnswer(Answer):
    """An answer of the chat API."""

    error = OpenAIError

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        # Calls as they grow: id, name, arguments, and what has to be sent back with them.
        self._calls: list[dict[str, Any]] = []
        # The newest call of each index.
        self._growing: dict[int | None, dict[str, Any]] = {}
        self._reason: str | None = None

    async def pieces(
        self, system: str, messages: Sequence[Message], tools: Sequence[ToolSpec], max_tokens: int
    ) -> AsyncGenerator[Piece, None]:
        """Text as it comes, and then the calls."""
        key = self.model.key or "none"
        client = AsyncOpenAI(
            api_key=key,
            base_url=self.model.base_url,
            http_client=model_client(self.model.addresses, {"Authorization": f"Bearer {key}"}),
            max_retries=RETRIES,
        )
        # OpenAI's newer models refuse the old name, and other servers do not know the new one.
        limit = "max_completion_tokens" if self.model.provider is Provider.OPENAI else "max_tokens"
        given: dict[str, Any] = {limit: max_tokens}
        if tools:
            given["tools"] = [_tool(tool) for tool in tools]
        async with client:
            chunks = await client.chat.completions.create(
                model=self.model.name,
                messages=cast("Any", [{"role": "system", "content": system}, *_turns(messages)]),
                stream=True,
                stream_options={"include_usage": True},
                **given,
            )
            async with chunks:
                async for chunk in chunks:
                    for piece in self._read(chunk):
                        yield piece
        if self._reason is not None:
            self.unfinished.clear()
            for call in self._calls:
                yield call_of(call["id"], call["name"], call["arguments"], call["extra"])
            self.stop = Stop("tool_calls") if self._calls else STOPS.get(self._reason, Stop("end"))

    def _read(self, chunk: ChatCompletionChunk) -> Iterator[Piece]:
        if chunk.usage is not None:
            self.usage = Usage(chunk.usage.prompt_tokens or 0, chunk.usage.completion_tokens or 0)
        for choice in chunk.choices or []:
            delta = choice.delta
            if delta is not None and (text := delta.content or delta.refusal):
                yield Text(text)
            for part in (delta.tool_calls if delta is not None else None) or []:
                self._grow(part)
            self._reason = choice.finish_reason or self._reason

    def _grow(self, part: Any) -> None:
        """Add a part to its call. Some servers give no index, or the same one to each call: a new id is a new call."""
        known = self._growing.get(part.index)
        if known is None or (part.id and known["id"] and part.id != known["id"]):
            require_room(len(self._calls))
            known = {"id": None, "name": "", "arguments": "", "extra": None}
            self._growing[part.index] = known
            self._calls.append(known)
        known["id"] = known["id"] or part.id
        if part.function is not None:
            known["name"] = known["name"] or part.function.name or ""
            known["arguments"] += part.function.arguments or ""
            self.unfinished.append(part.function.arguments or part.function.name or "")
        # Google's models refuse a call that comes back without its signature.
        known["extra"] = (part.model_extra or {}).get("extra_content") or known["extra"]

    def refusal(self, error: Exception) -> ProviderError | None:
        """What a status says, or an error in the middle of the stream."""
        if not isinstance(error, APIError) or (error.body is None and not isinstance(error, APIStatusError)):
            return None
        said = f"{error.code} {error.type} {error.message}"
        if isinstance(error, APIStatusError):
            return refused(self.model, error.status_code, said, error.response.headers)
        return refused(self.model, int(code) if STATUS.fullmatch(code := str(error.code)) else 500, said, {})


def _tool(tool: ToolSpec) -> ChatCompletionToolParam:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return ChatCompletionToolParam(type="function", function=cast("Any", function))


def _turns(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    for message in messages:
        text = "\n\n".join(part.text for part in message.parts if isinstance(part, Text))
        calls = [part for part in message.parts if isinstance(part, ToolCall)]
        if calls:
            yield {"role": "assistant", "content": text or None, "tool_calls": [_call(call) for call in calls]}
        elif text:
            yield {"role": "assistant" if message.role == "assistant" else "user", "content": text}
        for part in message.parts:
            if isinstance(part, ToolResult):
                yield {"role": "tool", "tool_call_id": part.call_id, "content": part.content}


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
    extra = {"extra_content": call.extra} if call.extra else {}
    return {"id": call.id, "type": "function", "function": function, **extra}


ANSWER = ChatAnswer
