"""What clients see of turns, and of what happens while an answer is given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, convert
from msgspec.structs import asdict

from app.admin.assistant.schemas import (
    AnswerEvent,
    ConversationMessage,
    EventType,
    MessageError,
    MessagePart,
    MessageRole,
    MessageStatus,
    PartType,
    Shown,
    TokenUsage,
)
from app.assistant.loop import Event, Failure
from app.assistant.provider import Text, Thought, ToolCall, ToolResult, Usage
from app.assistant.turns import Kept, Note, Offer

INTERRUPTED = MessageError(
    Failure.INTERRUPTED, "The service was stopped in the middle of this answer: send your message again."
)


def parts_of(kept: Iterable[Kept]) -> list[MessagePart]:
    """Parts as clients see them. What the model only thought is its provider's."""
    return [_part(part) for part in kept if not isinstance(part, Thought)]


def message_of(row: Iterable[Any], *, answering: bool) -> ConversationMessage:
    """A turn as it is stored. One that is not whole, and has no worker any more, was interrupted."""
    message_id, role, status, parts, context, error, tokens_in, tokens_out, created_at = row
    message = ConversationMessage(
        id=message_id,
        role=MessageRole(role),
        status=MessageStatus(status),
        parts=parts_of(parts),
        context=None if context is None else convert(context, Shown),
        error=None if error is None else convert(error, MessageError),
        usage=None if tokens_in is None else TokenUsage(tokens_in, tokens_out),
        created_at=created_at,
    )
    if message.status is MessageStatus.RUNNING and not answering:
        message.status, message.error = MessageStatus.INTERRUPTED, INTERRUPTED
    return message


def event_of(event: Event) -> AnswerEvent:
    """What happens, as clients hear of it."""
    if isinstance(event, Usage):
        return AnswerEvent(type=EventType.USAGE, input_tokens=event.input_tokens, output_tokens=event.output_tokens)
    part = asdict(_part(event))
    return AnswerEvent(**part | {"type": EventType(part["type"])})


def _part(part: Kept) -> MessagePart:
    match part:
        case Text(text):
            return MessagePart(type=PartType.TEXT, text=text)
        case Note(text):
            return MessagePart(type=PartType.NOTE, text=text)
        case ToolCall():
            name = part.shown_name or part.name
            return MessagePart(type=PartType.TOOL_CALL, call_id=part.id, name=name, arguments=part.arguments)
        case ToolResult():
            return MessagePart(
                type=PartType.TOOL_RESULT,
                call_id=part.call_id,
                content=_document(part.content),
                is_error=part.is_error,
            )
        case Offer():
            return MessagePart(
                type=PartType.PROPOSAL,
                proposal_id=part.proposal_id,
                summary=part.summary,
                title=part.title,
                expires_at=part.expires_at,
            )
    return MessagePart(type=PartType.TEXT, text=UNSET)


def _document(content: str) -> Any:
    """A result as JSON, where it is that."""
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        return content
