"""/admin/assistant/conversations."""

from collections.abc import AsyncIterator
from contextlib import ExitStack

from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec.structs import replace

from app.access.permissions import Permission, Requires
from app.admin.assistant import queries, service
from app.admin.assistant.answering import Answer, Asked
from app.admin.assistant.answers import Answers
from app.admin.assistant.schemas import (
    Conversation,
    ConversationChange,
    ConversationCreate,
    ConversationMessages,
    ConversationQuery,
    MessageCreate,
    MessageQuery,
    Trace,
    TraceQuery,
)
from app.admin.assistant.settings.service import model_for
from app.admin.http import answer, list_page, message, origin_of, refuse_dry_run, transaction
from app.records.transaction import reading
from app.web.event_stream import EventStream, event
from app.web.input import CrmRequest
from app.web.limits import RELEASE, STREAMING
from app.web.paging import Page
from app.web.routing import Routes
from app.web.structs import Message, RecordId

COMMENT = b":\n\n"


@get("/", guards=[Requires(Permission.READ)])
async def list_conversations(
    request: CrmRequest, filters: NamedDependency[ConversationQuery]
) -> Response[Page[Conversation]]:
    """My conversations with the assistant, the last one first."""
    return await list_page(request, queries.LISTING, filters, scope=queries.OF_ME)


@post("/", guards=[Requires(Permission.WRITE)])
async def create_conversation(request: CrmRequest, data: JSONBody[ConversationCreate]) -> Response[Conversation]:
    """Begin a conversation. It is mine alone."""
    async with transaction(request) as tx:
        return answer(tx, await service.create(tx, data), 201)


@get("/{conversation_id:str}", guards=[Requires(Permission.READ)])
async def get_conversation(request: CrmRequest, conversation_id: FromPath[RecordId]) -> Response[Conversation]:
    """One conversation of mine."""
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await queries.get(tx, conversation_id))


@patch("/{conversation_id:str}", guards=[Requires(Permission.WRITE)])
async def change_conversation(
    request: CrmRequest, conversation_id: FromPath[RecordId], data: JSONBody[ConversationChange]
) -> Response[Conversation]:
    """Give a conversation of mine another title."""
    async with transaction(request) as tx:
        return answer(tx, await service.change(tx, conversation_id, data))


@delete("/{conversation_id:str}", guards=[Requires(Permission.WRITE)], status_code=200)
async def delete_conversation(request: CrmRequest, conversation_id: FromPath[RecordId]) -> Response[Message]:
    """Delete a conversation of mine for good, with all its messages. An answer that is being given ends."""
    async with transaction(request) as tx:
        await service.remove(tx, conversation_id)
        return message(tx, "Conversation deleted successfully")


@get("/{conversation_id:str}/messages", guards=[Requires(Permission.READ)])
async def list_conversation_messages(
    request: CrmRequest, conversation_id: FromPath[RecordId], filters: NamedDependency[MessageQuery]
) -> Response[ConversationMessages]:
    """What was said after a message, oldest first. Here is what a broken connection has missed."""
    async with transaction(request) as tx:
        return answer(tx, await service.messages(tx, conversation_id, filters))


@post("/{conversation_id:str}/messages", guards=[Requires(Permission.WRITE), refuse_dry_run], status_code=200)
async def send_message(
    request: CrmRequest, conversation_id: FromPath[RecordId], data: JSONBody[MessageCreate]
) -> EventStream:
    """Say something to the assistant. The answer comes as server-sent events, and goes on where the connection breaks.

    With an Idempotency-Key that was used before, the answer is JSON: the ids of the message and of its answer.
    """
    answers: Answers = request.app.state.answers
    answers.require_room(request.user)
    origin = replace(origin_of(request), via="assistant")
    async with transaction(request) as tx:
        started = await service.begin(tx, conversation_id, data)
        model = await model_for(tx, request.app.state)
        answer(tx, started.begun)
        actor = tx.actor
    given = answers.start(request.app, Asked(actor=actor, origin=origin, model=model, **started.asked))
    over: ExitStack = request.scope["state"][RELEASE]
    # It is no longer one of the person's open requests, of which there would soon be none left.
    over.close()
    request.scope["state"][STREAMING] = True
    return EventStream(_events(given))


@post("/{conversation_id:str}/cancel", guards=[Requires(Permission.WRITE), refuse_dry_run], status_code=200)
async def cancel_answer(request: CrmRequest, conversation_id: FromPath[RecordId]) -> Response[Message]:
    """Stop the model. What it has said so far stays. Without an answer that is being given, nothing happens."""
    async with transaction(request) as tx:
        await service.cancel(tx, conversation_id)
        done = message(tx, "The assistant stops")
    answers: Answers = request.app.state.answers
    if (here := answers.find(request.user.tenant_id, conversation_id)) is not None:
        here.cancel()
    return done


@get("/{conversation_id:str}/trace", guards=[Requires(Permission.READ)])
async def trace_conversation(
    request: CrmRequest, conversation_id: FromPath[RecordId], filters: NamedDependency[TraceQuery]
) -> Response[Trace]:
    """What was sent to the model's provider, call by call, oldest first: of a conversation of mine. Admins see that of
    others, too.
    """
    async with transaction(request) as tx:
        if not service.sees_all_traces(tx):
            return answer(tx, await service.trace(tx, conversation_id, filters))
    everybody = replace(request.user, user_id="")
    async with reading(request.app.state.database, everybody) as tx:
        return answer(tx, await service.trace(tx, conversation_id, filters))


async def _events(given: Answer) -> AsyncIterator[bytes]:
    async for each in given.events():
        yield COMMENT if each is None else event(each.type, each)


router = Routes(
    "/assistant/conversations",
    route_handlers=[
        list_conversations,
        create_conversation,
        get_conversation,
        change_conversation,
        delete_conversation,
        list_conversation_messages,
        send_message,
        cancel_answer,
        trace_conversation,
    ],
    tags=["Assistant"],
)
