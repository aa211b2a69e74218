"""The live streams of one worker: each tenant's feed is read once for all of them, whoever they are."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any

import structlog
from prometheus_client import Gauge
from sqlalchemy import ARRAY, Select, Text, any_, bindparam, select

from app.access.access_tokens import AccessTokens
from app.access.actor import Actor
from app.access.memberships import Memberships
from app.access.permissions import RANK, Role
from app.db.database import Database
from app.events.fan_out import FanOut
from app.events.feed import ENDS
from app.events.live import AT_ONCE, Changes, Told, read, reload_event
from app.events.notices import KNOWN, KNOWN_SECONDS, Notice, read_notices
from app.events.waiting import LOOK_SECONDS, NewEvents
from app.models import User
from app.records.bootstrap import TenantBootstrap
from app.records.transaction import reading
from app.shared.redis import Shared
from app.web.draining import is_draining
from app.web.errors import AppError, Code
from app.web.event_stream import id_line, retry_block

STREAMS = Gauge("crm_streams_open", "Live streams that are open", multiprocess_mode="livesum")

# Of one person, in one worker.
MOST_STREAMS = 20
# Who is further behind reads its lists anew, which costs less.
MOST_BEHIND = 5000
# What a client has not read. Then its stream ends, and it comes back when it can.
MOST_UNREAD_BYTES = 256 * 1024
# How often it is looked whether a stream has to end, and how often at its person.
TICK_SECONDS = 0.25
RECHECK_SECONDS = 3.0
COMMENT_SECONDS = 15.0
# Streams that begin, or read what they missed, at the same time. After a restart all come back, and the other requests
# need connections, too.
MOST_READING = 4
# How often a worker that hears from another one what is new looks whether it has missed something.
HEAR_SECONDS = 0.5
# How often it is looked for new notifications.
NOTICE_SECONDS = 1.0
# Clients come back after between one and so many milliseconds more.
COMES_BACK_MS = 1000
SPREAD_MS = 4000

person = User.__table__.c
PEOPLE: Select[Any] = select(person.id, person.role).where(person.id == any_(bindparam("ids", type_=ARRAY(Text))))
BEGIN = ENDS.add_columns(
    select(person.role).where(person.id == bindparam("user_id", type_=Text)).correlate_except(User).scalar_subquery(),
    KNOWN,
)

log = structlog.get_logger("streams")


class Stream:
    """One person's open stream: what it has to send, and when it ends."""

    def __init__(self, actor: Actor, role: Role, *, own_only: bool, place: int, noticed: Iterable[int] = ()) -> None:
        self.actor = actor
        # What the service knew of the person when it began: who may do less from then on, loses it.
        self.role = role
        self.own_only = own_only
        # All up to here was sent, or is in the queue, or is read by `LiveStreams.listen`.
        self.place = place
        # The notifications of the last seconds that it has told, or that were there before it began.
        self._noticed = set(noticed)
        self.sent_at = time.monotonic()
        self.ended = False
        self._queue: deque[bytes] = deque()
        self._unread = 0
        self._changed = asyncio.Event()

    def tell(self, told: Told) -> None:
        """Queue what this person may hear of it, and has not heard."""
        if told.until > self.place:
            told = told.beyond(self.place)
            self.place = told.until
            self.put(told.to_owner(self.actor.user_id) if self.own_only else told.to_everybody())

    def notice(self, notices: Sequence[Notice]) -> None:
        """Queue those of these new notifications that it has not told."""
        for notice in notices:
            if notice.id not in self._noticed:
                self.put(notice.text)
        self._noticed = {notice.id for notice in notices}

    def put(self, text: bytes) -> None:
        """Queue this. Where too much waits that the client has not read, the stream ends instead."""
        if self.ended or not text:
            return
        self._unread += len(text)
        if self._unread > MOST_UNREAD_BYTES:
            self._queue.clear()
            self.end()
            return
        self._queue.append(text)
        self._changed.set()

    def comment(self) -> None:
        """Say that the stream is there, and how far it is: much may have happened that this person does not see."""
        self.sent_at = time.monotonic()
        self.put(b":\n" + id_line(self.place) + b"\n")

    def end(self, last: bytes = b"") -> None:
        """Send this, and nothing more after it."""
        self.put(last)
        self.ended = True
        self._changed.set()

    async def next(self) -> bytes | None:
        """What is to be sent, as soon as there is something; None at the end."""
        while not self._queue:
            if self.ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        text = b"".join(self._queue)
        self._queue.clear()
        self._unread = 0
        self.sent_at = time.monotonic()
        return text


class Room:
    """The streams of one tenant, and how far its feed was read for them."""

    def __init__(self, tenant_id: str, place: int) -> None:
        self.tenant_id = tenant_id
        # Reads for all of them, so it sees all records.
        self.reader = Actor(user_id="", tenant_id=tenant_id, role=Role.ADMIN)
        self.place = place
        # How far another worker has read it, where something is missing here.
        self.behind = place
        self.woken = asyncio.Event()
        self.is_reader = False
        self.streams: set[Stream] = set()

    def tell(self, told: Told) -> None:
        """Give this to all streams."""
        self.place = max(self.place, told.until)
        for stream in self.streams:
            stream.tell(told)

    def hear(self, changes: Changes, *, tell: bool) -> None:
        """Give what another worker read to all streams, or find out that something before it is missing."""
        if tell and changes.after <= self.place:
            self.tell(Told(changes))
        else:
            self.behind = max(self.behind, changes.until)
            self.woken.set()


class LiveStreams:
    """All streams of this worker. One task for each tenant reads its feed, and one looks which streams have to end."""

    def __init__(
        self,
        database: Database,
        bootstrap: TenantBootstrap,
        new_events: NewEvents,
        shared: Shared,
        memberships: Memberships,
        access_tokens: AccessTokens,
    ) -> None:
        self._database = database
        self._access_tokens = access_tokens
        self._memberships = memberships
        self._fan_out = FanOut(shared, own_only=database.own_scope)
        self._bootstrap = bootstrap
        self._new_events = new_events
        self._rooms: dict[str, Room] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_ticking = False
        self._turns = asyncio.Semaphore(MOST_READING)

    async def open(self, actor: Actor, after: int | None) -> tuple[Stream, AsyncIterator[bytes]]:
        """A stream from now on, or from after this sequence on, and what it sends. Whoever opens it closes it.

        Raises AppError: 401 where the token has expired, 503 while the service stops, and as `Database.reader`.
        """
        if actor.expires_at <= time.time():
            raise AppError(Code.INVALID_TOKEN, "The token has expired: log in again")
        if is_draining():
            raise AppError(Code.SERVICE_UNAVAILABLE, headers={"Retry-After": "1"})
        async with self._turns:
            await self._bootstrap.ensure(actor)
            async with reading(self._database, actor, one_statement=True) as tx:
                given = {"user_id": actor.user_id, "late": KNOWN_SECONDS}
                newest, cut_at, role, noticed = (await tx.connection.execute(BEGIN, given)).one()
        room = self._rooms.get(actor.tenant_id)
        if room is None:
            room = self._rooms[actor.tenant_id] = Room(actor.tenant_id, newest)
            self._start(self._follow(room))
            self._start(self._notice(room))
        if not self._is_ticking:
            self._is_ticking = True
            self._start(self._tick())
        begin = retry_block(_comes_back())
        if after is None:
            after = room.place
            begin += id_line(after) + b"\n"
        elif not max(cut_at, newest - MOST_BEHIND) <= after <= newest:
            after = room.place
            begin += reload_event(after)
        own_only = self._database.sees_own_only(actor)
        stream = Stream(actor, Role(role), own_only=own_only, place=max(after, room.place), noticed=noticed)
        room.streams.add(stream)
        STREAMS.inc()
        return stream, self._sent(stream, begin, after, room)

    def close(self, stream: Stream) -> None:
        """Forget a stream. The tenant's task ends with its last one."""
        room = self._rooms[stream.actor.tenant_id]
        room.streams.remove(stream)
        STREAMS.dec()
        if not room.streams:
            del self._rooms[stream.actor.tenant_id]

    async def stop(self) -> None:
        """End all streams."""
        for stream in self._streams():
            stream.end()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._streams())

    def reads_by_itself(self, tenant_id: str) -> bool:
        """Whether this worker reads the feed of a tenant that it has streams of."""
        return self._rooms[tenant_id].is_reader

    def _streams(self) -> list[Stream]:
        return [stream for room in self._rooms.values() for stream in room.streams]

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sent(self, stream: Stream, begin: bytes, after: int, room: Room) -> AsyncIterator[bytes]:
        """All that a stream sends: first what it missed, up to where the room was when it came."""
        missed_until = room.place
        yield begin
        while after < missed_until and not stream.ended:
            until = min(missed_until, after + AT_ONCE)
            async with self._turns:
                told = Told(await self._read(room, after, until))
            yield told.to_owner(stream.actor.user_id) if stream.own_only else told.to_everybody()
            after = until
        while (text := await stream.next()) is not None:
            yield text

    async def _read(self, room: Room, after: int, until: int) -> Changes:
        async with reading(self._database, room.reader, standby=True) as tx:
            return await read(tx, after, until, own_only=self._database.own_scope)

    async def share(self) -> None:
        """Hear what other workers read, until cancelled."""
        await self._fan_out.hear(lambda: self._rooms, self._hear)

    def _hear(self, tenant_id: str, changes: Changes) -> None:
        # While nobody knows who was shut out, nobody is told what others read.
        self._rooms[tenant_id].hear(changes, tell=self._memberships.is_fresh)

    async def _follow(self, room: Room) -> None:
        """Read a tenant's feed for its streams, as long as it has some."""
        failing = False
        while room.streams:
            try:
                lease = await self._fan_out.lead(room.tenant_id, room.place)
                room.is_reader = lease.is_ours
                newest = await self._new_events.look(room.reader) if lease.is_ours else await _heard(room, lease.place)
                while room.place < newest and room.streams:
                    changes = await self._read(room, room.place, min(newest, room.place + AT_ONCE))
                    await self._memberships.fresh()
                    room.tell(Told(changes))
                    if lease.is_ours:
                        await self._fan_out.tell(room.tenant_id, changes)
                failing = False
            except Exception as error:
                if not failing:
                    log.warning("live streams wait for the database", reason=type(error).__name__, exc_info=error)
                failing = True
                await asyncio.sleep(LOOK_SECONDS)

    async def _notice(self, room: Room) -> None:
        """Tell people of their new notifications, as long as a tenant has streams."""
        looked_at = time.monotonic()
        while room.streams:
            await asyncio.sleep(NOTICE_SECONDS)
            streams: dict[str, list[Stream]] = defaultdict(list)
            for stream in room.streams:
                streams[stream.actor.user_id].append(stream)
            began_at = time.monotonic()
            # While the database is away, `_follow` says so.
            with suppress(AppError):
                async with reading(self._database, room.reader, one_statement=True) as tx:
                    notices = await read_notices(tx, [*streams], began_at - looked_at)
                looked_at = began_at
                by_person: dict[str, list[Notice]] = defaultdict(list)
                for notice in notices:
                    by_person[notice.person].append(notice)
                for person_id, open_streams in streams.items():
                    for stream in open_streams:
                        stream.notice(by_person[person_id])

    async def _tick(self) -> None:
        """Say now and then that a stream is there, and end those whose time has come."""
        rechecked_at = time.monotonic()
        while self._rooms:
            await asyncio.sleep(TICK_SECONDS)
            draining, now, silent_since = is_draining(), time.time(), time.monotonic() - COMMENT_SECONDS
            for stream in self._streams():
                if draining:
                    stream.end(retry_block(_comes_back()))
                elif stream.actor.expires_at <= now or not self._memberships.still_holds(stream.actor):
                    stream.end()
                elif stream.sent_at <= silent_since:
                    stream.comment()
            if time.monotonic() - rechecked_at >= RECHECK_SECONDS:
                rechecked_at = time.monotonic()
                self._start(self._recheck())
        self._is_ticking = False

    async def _recheck(self) -> None:
        """End the streams of people who may do less than when they began: one statement for each tenant."""
        for room in list(self._rooms.values()):
            ids = list({stream.actor.user_id for stream in room.streams})
            try:
                async with reading(self._database, room.reader, one_statement=True) as tx:
                    roles = dict((await tx.connection.execute(PEOPLE, {"ids": ids})).all())
            except AppError:  # it is tried again soon
                return
            for stream in room.streams:
                role = roles.get(stream.actor.reference)
                if role is None or RANK[Role(role)] < RANK[stream.role]:
                    stream.end()
        for stream in self._streams():
            if (token := stream.actor.access_token) is not None:
                try:
                    await self._access_tokens.find(token.hash)
                except AppError as refusal:
                    if refusal.status == 401:
                        stream.end()


async def _heard(room: Room, place: int) -> int:
    """How far this worker has to read by itself, since it did not hear of it: looked at now and then, and at once where
    something is missing.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(HEAR_SECONDS):
            await room.woken.wait()
    room.woken.clear()
    return max(place, room.behind)


def _comes_back() -> int:
    """After how many milliseconds a client should come back: not all at once."""
    return COMES_BACK_MS + secrets.randbelow(SPREAD_MS)
