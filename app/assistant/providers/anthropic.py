"""Models of Anthropic, and of servers that speak its Messages API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any, cast

from anthropic import AnthropicError, APIStatusError, AsyncAnthropic
from anthropic.types import RawMessageStreamEvent, ToolParam

from app.assistant.provider import (
    Message,
    Model,
    Part,
    Piece,
    Provider,
    ProviderError,
    Stop,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from app.assistant.providers.answers import RETRIES, Answer, call_of, require_room
from app.assistant.providers.failures import refused
from app.assistant.providers.transport import model_client

STOPS = {
    "tool_use": Stop("tool_calls"),
    "max_tokens": Stop("max_tokens"),
    "refusal": Stop("refused"),
    "model_context_window_exceeded": Stop("too_long"),
}


class MessagesAnswer(Answer):
    """An answer of the Messages API."""

    error = AnthropicError

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._calls = 0

    async def pieces(
        self, system: str, messages: Sequence[Message], tools: Sequence[ToolSpec], max_tokens: int
    ) -> AsyncGenerator[Piece, None]:
        """The blocks of the answer: text as it comes, others when they are whole."""
        block: dict[str, Any] = {}
        key = self.model.key or "none"
        client = AsyncAnthropic(
            api_key=key,
            base_url=self.model.base_url,
            http_client=model_client(self.model.addresses, {"X-Api-Key": key}),
            max_retries=RETRIES,
            open_telemetry=False,
        )
        async with client:
            events = await client.messages.create(
                model=self.model.name,
                max_tokens=max_tokens,
                system=system,
                messages=cast("Any", [turn for turn in map(_turn, messages) if turn["content"]]),
                tools=[
                    ToolParam(name=tool.name, description=tool.description, input_schema=tool.input_schema)
                    for tool in tools
                ],
                # What was sent before costs a tenth when it is sent again, and each round sends it again.
                cache_control={"type": "ephemeral"},
                stream=True,
            )
            async with events:
                async for event in events:
                    for piece in self._read(event, block):
                        yield piece

    def _read(self, event: RawMessageStreamEvent, block: dict[str, Any]) -> Iterator[Piece]:
        if event.type == "message_start":
            self._count(event.message.usage)
        elif event.type == "content_block_start":
            block.clear()
            block.update(event.content_block.model_dump(exclude_none=True), json=[])
            if block["type"] == "text" and block["text"]:
                yield Text(block["text"])
        elif event.type == "content_block_delta":
            delta = event.delta
            if delta.type == "text_delta":
                yield Text(delta.text)
            elif delta.type == "input_json_delta":
                block["json"].append(delta.partial_json)
                self.unfinished.append(delta.partial_json)
            elif delta.type == "thinking_delta":
                block["thinking"] += delta.thinking
                self.unfinished.append(delta.thinking)
            elif delta.type == "signature_delta":
                block["signature"] = delta.signature
        elif event.type == "content_block_stop":
            self.unfinished.clear()
            if block["type"] == "tool_use":
                require_room(self._calls)
                self._calls += 1
            yield from _whole(block)
        elif event.type == "message_delta":
            self._count(event.usage)
            if event.delta.stop_reason:
                self.stop = STOPS.get(event.delta.stop_reason, Stop("end"))

    def _count(self, usage: Any) -> None:
        before = self.usage or Usage(0, 0)
        read = [usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens]
        given = sum(count or 0 for count in read)
        self.usage = Usage(given or before.input_tokens, usage.output_tokens or before.output_tokens)

    def refusal(self, error: Exception) -> ProviderError | None:
        """What a status says, or an error in the middle of the stream."""
        if not isinstance(error, APIStatusError):
            return None
        # Within a stream the status is 200, and the type says what it would be.
        status = {"overloaded_error": 529, "rate_limit_error": 429, "api_error": 500}.get(str(error.type))
        said = f"{error.type} {error.api_message or error.message}"
        return refused(self.model, status or error.status_code, said, error.response.headers)


def _whole(block: dict[str, Any]) -> Iterator[Piece]:
    written = "".join(block.pop("json"))
    if block["type"] == "tool_use":
        yield call_of(block["id"], block["name"], written)
    elif block["type"] in {"thinking", "redacted_thinking"}:
        yield Thought(Provider.ANTHROPIC, dict(block))


def _turn(message: Message) -> dict[str, Any]:
    content = [each for part in message.parts for each in _block(part)]
    return {"role": "assistant" if message.role == "assistant" else "user", "content": content}


def _block(part: Part) -> Iterator[dict[str, Any]]:
    match part:
        case Text(text) if text.strip():  # the API refuses empty text
            yield {"type": "text", "text": text}
        case Thought(Provider.ANTHROPIC, content):
            yield content
        case ToolCall(id=call_id, name=name, arguments=arguments):
            yield {"type": "tool_use", "id": call_id, "name": name, "input": arguments}
        case ToolResult(call_id, content, is_error):
            yield {"type": "tool_result", "tool_use_id": call_id, "content": content, "is_error": is_error}


ANSWER = MessagesAnswer
