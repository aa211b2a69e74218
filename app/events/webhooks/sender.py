"""The sender: it makes deliveries of new events, and sends what is due to many receivers side by side.

No receiver keeps others waiting: each has as many requests at a time as it has shown to answer, and when many are
open, one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from app.access.actor import Actor
from app.access.permissions import Role
from app.crypto.cipher import UnreadableError
from app.crypto.keys import Keys
from app.db.database import Database
from app.events import feed
from app.events.webhooks import deliveries
from app.events.webhooks.attempts import Attempt, Outcome, Policy
from app.events.webhooks.deliveries import Receiver, Result, Taken
from app.events.webhooks.metrics import DELIVERED, DURATION, GIVEN_UP, RETRY
from app.events.webhooks.signing import SECRET, message_id, signed
from app.records.repository import Repository
from app.records.transaction import reading
from app.web import strict_json
from app.web.addresses import Addresses
from app.web.errors import AppError

if TYPE_CHECKING:
    from app.events.webhooks.client import Client

LOOK_SECONDS = 0.5
# While there is much to do, it is done in batches.
BUSY_LOOK_SECONDS = 0.1
# Of one worker process: requests that are open, to one receiver and in all.
MOST_FOR_ONE, MOST_OPEN = 16, 400
# Deliveries that are taken at a time: of one receiver, and of one tenant.
MOST_TAKEN_FOR_ONE, MOST_TAKEN = 100, 200
# While events of so many bytes wait in memory, no more are read.
MOST_BYTES = 64 * 1024 * 1024
MOST_LINES = 10_000
TENANTS_AT_ONCE = 4
STOP_SECONDS = 15.0
OUTCOMES = {"delivered": DELIVERED, "pending": RETRY, "failed": GIVEN_UP}
DELETED = "The event was deleted by retention before it was delivered"
NO_SECRET = "The secret can't be decrypted: give the webhook a new one"  # noqa: S105 -- a sentence

log = structlog.get_logger("webhooks")


class _Message:
    """A delivery that this worker has taken; `body` is shared by all who get the event."""

    def __init__(self, taken: Taken, body: bytes | None) -> None:
        self.taken = taken
        self.body = body


class _Line:
    """What is to be sent to one webhook: lists of messages that are sent one after the other, each of one record."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.url = ""
        self.secrets: list[str] = []
        self.queue: deque[list[_Message]] = deque()
        self.held = 0
        self.running = 0
        # Requests at a time. It grows while the receiver answers well.
        self.window = 1
        self._seconds: float | None = None

    @property
    def room(self) -> int:
        """How many more to take: about what the receiver takes within a second."""
        wanted = self.window if not self._seconds else min(int(self.window / self._seconds), MOST_TAKEN_FOR_ONE)
        return max(wanted, self.window) - self.held

    def note(self, outcome: Outcome) -> None:
        """What the receiver just did decides how much it gets."""
        if outcome.delivered:
            seconds = max(outcome.attempt.duration_ms / 1000, 0.001)
            self._seconds = seconds if self._seconds is None else 0.8 * self._seconds + 0.2 * seconds
            self.window = min(self.window * 2, MOST_FOR_ONE)
        else:
            self._seconds, self.window = None, 1


class WebhookSender:
    """Sends events to webhooks of all tenants. Any number of workers share the work."""

    def __init__(
        self,
        database: Database,
        keys: Keys,
        addresses: Addresses,
        shown: Mapping[str, Repository[Any]],
        policy: Policy | None = None,
    ) -> None:
        self._database = database
        self._keys = keys
        self._addresses = addresses
        self._shown = shown
        self._policy = policy or Policy()
        self._lines: OrderedDict[int, _Line] = OrderedDict()
        self._results: dict[str, list[tuple[Taken, Outcome]]] = defaultdict(list)
        self._given_back: dict[str, list[Taken]] = defaultdict(list)
        self._tasks: set[asyncio.Task[None]] = set()
        # Deliveries taken so far, and bytes of those that wait in memory.
        self._count = self._bytes = 0
        self._failing = self._stopping = False
        self._client: Client

    async def run(self) -> None:
        """Run until it is cancelled: then what is being sent comes to its end, and the rest goes on elsewhere."""
        # Inside the function, because the library takes a while to load, and only who sends needs it.
        from app.events.webhooks.client import Client

        async with Client(self._addresses) as self._client:
            look = None
            try:
                while True:
                    # Once begun it comes to its end: nothing is taken and then forgotten.
                    look = asyncio.create_task(self._try_look())
                    busy = await asyncio.shield(look)
                    await asyncio.sleep(BUSY_LOOK_SECONDS if busy else LOOK_SECONDS)
            finally:
                if look is not None:
                    await look
                await self._stop()

    async def _try_look(self) -> bool:
        try:
            busy = await self._look()
        except Exception as error:
            if not self._failing:
                log.warning("webhooks wait: looking for what is due failed, and is tried again", exc_info=error)
            self._failing = True
            return False
        self._failing = False
        return busy

    async def _look(self) -> bool:
        """Keep results, make new deliveries and take what is due; returns whether there was anything to do."""
        kept = await self._keep()
        behind = await deliveries.tenants_behind(self._database)
        await self._for_each(behind, lambda tenant: deliveries.make(self._database, tenant))
        due = await deliveries.due(self._database)
        rooms = {tenant: self._rooms(tenant, webhooks) for tenant, webhooks in due.items()}
        taking = [tenant for tenant, of_tenant in rooms.items() if of_tenant]
        before = self._count
        if self._bytes < MOST_BYTES:
            await self._for_each(taking, lambda tenant: self._take(tenant, rooms[tenant]))
        return bool(kept or behind or self._count > before)

    async def _for_each(self, tenants: Iterable[str], work: Callable[[str], Awaitable[object]]) -> None:
        """Do this for each tenant, for some at a time. What fails for one is tried again at the next look."""
        free = asyncio.Semaphore(TENANTS_AT_ONCE)

        async def do(tenant: str) -> None:
            async with free:
                try:
                    await work(tenant)
                except AppError as error:
                    log.warning("webhooks of a tenant wait", tenant=tenant, code=error.code.name)
                except Exception as error:
                    log.error("webhooks of a tenant failed", tenant=tenant, exc_info=error)

        await asyncio.gather(*map(do, tenants))

    # ── taking ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _rooms(self, tenant: str, webhooks: Sequence[int]) -> dict[int, int]:
        fair = max(MOST_TAKEN // len(webhooks), 1)
        rooms = {webhook: min(self._line(tenant, webhook).room, fair) for webhook in webhooks}
        return {webhook: room for webhook, room in rooms.items() if room > 0}

    def _line(self, tenant: str, webhook: int) -> _Line:
        line = self._lines.get(webhook)
        if line is None:
            line = self._lines[webhook] = _Line(tenant)
            if len(self._lines) > MOST_LINES and not next(iter(self._lines.values())).held:
                self._lines.popitem(last=False)
        self._lines.move_to_end(webhook)
        return line

    async def _take(self, tenant: str, rooms: Mapping[int, int]) -> None:
        receivers, taken = await deliveries.take(self._database, tenant, rooms)
        if not taken:
            return
        self._count += len(taken)
        service = Actor(user_id="", tenant_id=tenant, role=Role.ADMIN)
        try:
            async with reading(self._database, service) as tx:
                events = await feed.read_these(tx, sorted({each.sequence for each in taken}), self._shown)
        except AppError:
            # Else they would wait until nobody can be sending them any more.
            self._given_back[tenant].extend(taken)
            raise
        bodies = {sequence: _body(event.type, event.at, event) for sequence, event in events.items()}
        records: dict[tuple[int, str, int], list[_Message]] = defaultdict(list)
        for each in sorted(taken, key=lambda each: each.sequence):
            message = _Message(each, bodies.get(each.sequence))
            records[each.webhook_id, each.resource_type, each.resource_id].append(message)
            self._bytes += len(message.body or b"")
        for (webhook, *_), messages in records.items():
            line = self._line(tenant, webhook)
            line.url, line.secrets = receivers[webhook].url, secrets_of(self._keys, tenant, receivers[webhook])
            line.held += len(messages)
            line.queue.append(messages)
        for webhook in receivers:
            self._start(self._line(tenant, webhook))

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, line: _Line) -> None:
        """Send of this line as much at a time as it may now."""
        while line.queue and line.running < self._allowed(line):
            line.running += 1
            task = asyncio.create_task(self._send_in_order(line, line.queue.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _allowed(self, line: _Line) -> int:
        open_now = len(self._tasks)
        if open_now >= MOST_OPEN:
            return 0
        return line.window if open_now < MOST_OPEN // 2 else 1

    async def _send_in_order(self, line: _Line, messages: list[_Message]) -> None:
        was_full = len(self._tasks) >= MOST_OPEN
        left = deque(messages)
        try:
            while left:
                outcome = await self._send(line, left[0])
                message = left.popleft()
                self._results[line.tenant].append((message.taken, outcome))
                self._let_go(line, message)
                line.note(outcome)
                if self._stopping:
                    break
                if not outcome.delivered:
                    # What else was taken for it would wait too long here.
                    self._return_all(line)
                    break
        finally:
            self._return(line, left)
            line.running -= 1
            self._start(line)
            if was_full:
                for other in list(self._lines.values()):
                    self._start(other)

    async def _send(self, line: _Line, message: _Message) -> Outcome:
        if message.body is None:
            return _failed(DELETED, final=True)
        if not line.secrets:
            return _failed(NO_SECRET)
        headers = signed(message_id(message.taken.webhook_id, message.taken.sequence), message.body, line.secrets)
        outcome = await self._client.send(line.url, headers, message.body)
        DURATION.observe(outcome.attempt.duration_ms / 1000)
        return outcome

    def _let_go(self, line: _Line, message: _Message) -> None:
        line.held -= 1
        self._bytes -= len(message.body or b"")

    def _return_all(self, line: _Line) -> None:
        while line.queue:
            self._return(line, line.queue.popleft())

    def _return(self, line: _Line, messages: Iterable[_Message]) -> None:
        for message in messages:
            self._let_go(line, message)
            self._given_back[line.tenant].append(message.taken)

    # ── results ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _keep(self) -> bool:
        """Keep what came of attempts; returns whether there was anything."""
        tenants = {*self._results, *self._given_back}
        await self._for_each(tenants, self._keep_of)
        return bool(tenants)

    async def _keep_of(self, tenant: str) -> None:
        given_back = self._given_back.pop(tenant, [])
        if given_back:
            # If it fails, they are due again a while later.
            await deliveries.give_back(self._database, tenant, given_back)
        done = self._results.pop(tenant, [])
        if not done:
            return
        results = [self._result(*each) for each in done]
        try:
            off = await deliveries.keep(
                self._database,
                tenant,
                results,
                delivered={taken.webhook_id for taken, outcome in done if outcome.delivered},
                failed={taken.webhook_id for taken, outcome in done if outcome.receiver_failed},
                gone={taken.webhook_id for taken, outcome in done if outcome.gone},
                patience=self._policy.patience,
            )
        except AppError:
            self._results[tenant][:0] = done
            raise
        for webhook in off:
            log.warning(
                "a webhook was switched off, because it failed for days or is gone", tenant=tenant, webhook=webhook
            )
        for result in results:
            OUTCOMES[result.status].inc()

    def _result(self, taken: Taken, outcome: Outcome) -> Result:
        pause = None if outcome.delivered else self._policy.pause(taken.tries, outcome)
        status = "delivered" if outcome.delivered else "failed" if pause is None else "pending"
        return Result(taken.id, taken.claims, status, outcome.attempt, pause or 0.0)

    async def _stop(self) -> None:
        """Let what is being sent come to its end; what was only taken is due again."""
        self._stopping = True
        for line in self._lines.values():
            self._return_all(line)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        with suppress(AppError):
            await self._keep()


def secrets_of(keys: Keys, tenant: str, receiver: Receiver) -> list[str]:
    """The secrets that sign for this webhook now: none if they can't be decrypted."""
    stored = [receiver.secret] if receiver.secret is not None else []
    if receiver.previous_secret is not None and receiver.signs_with_both:
        stored.append(receiver.previous_secret)
    try:
        return [keys.decrypt(each, SECRET, tenant, receiver.webhook_id) for each in stored]
    except UnreadableError as error:
        log.error("a webhook's secret can't be read", tenant=tenant, webhook=receiver.webhook_id, reason=str(error))
        return []


def _body(name: str, at: datetime, data: object) -> bytes:
    return strict_json.encode({"type": name, "timestamp": at, "data": data})


def _failed(reason: str, *, final: bool = False) -> Outcome:
    return Outcome(Attempt(datetime.now(UTC), None, 0, reason, None), final=final)
