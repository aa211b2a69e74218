"""/admin/events."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from litestar import Response, get
from litestar.di import NamedDependency
from msgspec import UNSET

from app.access.permissions import Permission, Requires
from app.admin.events.queries import SHOWN
from app.admin.events.schemas import EventQuery, Events
from app.admin.http import answer, transaction
from app.events import feed
from app.events.feed import Selection
from app.events.streams import LiveStreams
from app.events.types import matching
from app.events.waiting import NewEvents
from app.web import strict_json
from app.web.errors import Fault, invalid
from app.web.event_stream import EventStream
from app.web.input import CrmRequest
from app.web.large_responses import EncodedRows
from app.web.limits import RELEASE, STREAMING
from app.web.routing import Routes
from app.web.structs import MAX_ID

SEQUENCE = re.compile(r"[0-9]{1,19}")


@get("/", guards=[Requires(Permission.AUDIT)])
async def list_events(request: CrmRequest, filters: NamedDependency[EventQuery]) -> Response[Events]:
    """What happened after a sequence, oldest first, each change once. If retention deleted some: 410 HISTORY_CUT."""
    if filters.after is UNSET:
        async with transaction(request, one_statement=True) as tx:
            return answer(tx, Events([], await feed.newest(tx), has_more=False))
    selection = Selection(
        None if filters.types is UNSET else matching(filters.types),
        None if filters.resource_type is UNSET else filters.resource_type,
    )
    new_events: NewEvents = request.app.state.new_events
    after, until = filters.after, time.monotonic() + filters.wait
    async with _noticing(request) as gone:
        with EncodedRows() as rows:
            while True:
                async with transaction(request, standby=True) as tx:
                    part = await feed.read(
                        tx, after, filters.limit, selection, SHOWN, lambda event: rows.add(strict_json.encode(event))
                    )
                if part.events or gone.done():
                    break
                after = max(after, part.none_until)
                if not part.has_more and not await new_events.wait(request.user, after, until - time.monotonic(), gone):
                    break
            # Somebody who was shut out while waiting hears no more.
            await request.app.state.authenticator.check_again(request.user, Permission.AUDIT)
            return _answer(rows, part)


@get("/stream", guards=[Requires(Permission.READ)])
async def stream_events(request: CrmRequest) -> EventStream:
    """What happens to the records that you may read, as it happens: server-sent events. Last-Event-ID goes on."""
    after = _last_event_id(request)
    streams: LiveStreams = request.app.state.streams
    over: ExitStack = request.scope["state"][RELEASE]
    # It is no longer one of the person's open requests, of which there would soon be none left.
    over.close()
    request.app.state.streams_per_person.acquire((request.user.tenant_id, request.user.user_id), request.scope)
    stream, content = await streams.open(request.user, after)
    over.callback(streams.close, stream)
    request.scope["state"][STREAMING] = True
    return EventStream(content)


def _last_event_id(request: CrmRequest) -> int | None:
    # A client that has no id yet may send an empty one.
    given = [value for value in request.headers.getall("last-event-id", []) if value.strip()]
    if not given:
        return None
    if len(given) > 1 or not SEQUENCE.fullmatch(given[0]) or int(given[0]) > MAX_ID:
        raise invalid(Fault("Last-Event-ID", "must be one header, the id of an event of this stream"))
    return int(given[0])


def _answer(rows: EncodedRows, part: feed.Part) -> Response[Events]:
    before, bracket, after = strict_json.encode(Events([], part.newest, part.has_more)).partition(b"[")
    return rows.response(before + bracket, part.events, after)


@asynccontextmanager
async def _noticing(request: CrmRequest) -> AsyncIterator[asyncio.Future[None]]:
    """What is done when the client hangs up."""
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        yield gone
    finally:
        gone.cancel()


async def _hung_up(request: CrmRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


router = Routes("/events", route_handlers=[list_events, stream_events], tags=["Events"])
