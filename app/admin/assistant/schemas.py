"""Conversations with the assistant as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from msgspec import UNSET, Meta, Struct

from app.assistant.loop import Failure
from app.web.paging import ListQuery
from app.web.structs import MAX_ID, Body, Maybe, RecordId, View, ViewType
from app.web.text import NAME, REQUIRED_TEXT

LONGEST_TEXT = 20_000
MOST_MESSAGES = 200
USUAL_MESSAGES = 100
MOST_CALLS = 50

ConversationTitle = Annotated[str, Meta(max_length=255, **NAME, examples=["Offer for Ada Lovelace"])]
After = Annotated[int, Meta(ge=0, le=MAX_ID, description="Those after this id; 0 is the beginning")]


class ConversationSort(StrEnum):
    """Conversations have one order."""

    UPDATED_AT = "updated_at"


class Conversation(View):
    """A conversation of mine. `title` is the beginning of its first message until it gets another one. While
    `answering` is true, the answer grows.
    """

    id: int
    title: str | None
    answering: bool
    created_at: datetime
    updated_at: datetime


class ConversationQuery(ListQuery):
    """My conversations have no filters."""

    sort_by: Maybe[ConversationSort] = UNSET


class ConversationCreate(Body, kw_only=True):
    """A new conversation."""

    view: ClassVar[ViewType] = Conversation

    title: Maybe[ConversationTitle | None] = UNSET


class ConversationChange(Body, kw_only=True):
    """What of a conversation can be written."""

    view: ClassVar[ViewType] = Conversation

    title: Maybe[ConversationTitle | None] = UNSET


class ShownType(StrEnum):
    """What a screen can show."""

    CUSTOMER = "customer"
    CONTACT = "contact"
    DEAL = "deal"
    PROJECT = "project"
    ACTIVITY = "activity"
    NOTE = "note"


class Shown(Struct, kw_only=True, forbid_unknown_fields=True):
    """What the person's screen shows."""

    type: ShownType
    id: RecordId


class MessageCreate(Body, kw_only=True):
    """What the person says."""

    text: Annotated[str, Meta(max_length=LONGEST_TEXT, **REQUIRED_TEXT, examples=["Who is overdue with me?"])]
    context: Maybe[Shown | None] = UNSET


class MessageRole(StrEnum):
    """Whose turn it is: the person's, the model's, or that of the tools which the model called."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class MessageStatus(StrEnum):
    """Whether it is whole."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    ERASED = "erased"


class PartType(StrEnum):
    """What a part of a message is."""

    TEXT = "text"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    PROPOSAL = "proposal"
    NOTE = "note"


class Said(Struct, kw_only=True):
    """What parts of messages have, and the events that tell of them."""

    type: StrEnum
    text: Maybe[str] = UNSET
    call_id: Maybe[str] = UNSET
    name: Maybe[str] = UNSET
    arguments: Maybe[dict[str, Any]] = UNSET
    content: Maybe[Any] = UNSET
    is_error: Maybe[bool] = UNSET
    proposal_id: Maybe[int] = UNSET
    summary: Maybe[str] = UNSET
    title: Maybe[str | None] = UNSET
    expires_at: Maybe[datetime | None] = UNSET


class MessagePart(Said, kw_only=True):
    """A part of a message: text; a tool that the model called, by `call_id`; what it answered; a proposal that waits
    for the person, all of which is at /admin/proposals/{proposal_id}; a note, by which the service told the model what
    came of a proposal.
    """

    type: PartType


class MessageError(Struct):
    """Why an answer is not whole."""

    code: Failure
    message: str


class TokenUsage(Struct):
    """What it took, in the provider's tokens."""

    input_tokens: int
    output_tokens: int


class ConversationMessage(View):
    """One turn. Of an erased one nothing is left: a record that the conversation was about was erased."""

    id: int
    role: MessageRole
    status: MessageStatus
    parts: list[MessagePart]
    context: Shown | None
    error: MessageError | None
    usage: TokenUsage | None
    created_at: datetime


class MessageQuery(Struct, kw_only=True):
    """Which turns."""

    after: After = 0
    limit: Annotated[int, Meta(ge=1, le=MOST_MESSAGES, description=f"{USUAL_MESSAGES} by default")] = USUAL_MESSAGES


class ConversationMessages(Struct):
    """Turns, oldest first. While `answering` is true, the last ones still grow: ask again from the same id on."""

    data: list[ConversationMessage]
    answering: bool
    has_more: bool


class SentMessage(Struct):
    """A turn as the provider got it."""

    role: MessageRole
    parts: list[MessagePart]


class ProviderCall(View):
    """What was sent to a provider once, and the turn that it answered. What a tool looks like is in the MCP server."""

    id: int
    created_at: datetime
    message_id: int
    provider: str
    model: str
    system: str
    tools: list[str]
    messages: list[SentMessage]


class TraceQuery(Struct, kw_only=True):
    """Which calls."""

    after: After = 0
    limit: Annotated[int, Meta(ge=1, le=MOST_CALLS, description="How many at most; fewer if they are large")] = 10


class Trace(Struct):
    """All that was sent to a provider for a conversation, oldest first."""

    data: list[ProviderCall]
    has_more: bool


class EventType(StrEnum):
    """What an event of an answer says."""

    TEXT = "text"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    PROPOSAL = "proposal"
    USAGE = "usage"
    DONE = "done"
    ERROR = "error"


class AnswerEvent(Said, kw_only=True):
    """What happens while an answer is given. `done` is the last one. Where the answer is not whole, an `error` comes
    before it.
    """

    type: EventType
    conversation_id: Maybe[int] = UNSET
    input_tokens: Maybe[int] = UNSET
    output_tokens: Maybe[int] = UNSET
    message_id: Maybe[int] = UNSET
    status: Maybe[MessageStatus] = UNSET
    code: Maybe[str] = UNSET
    message: Maybe[str] = UNSET
