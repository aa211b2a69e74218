"""An answer that is being given. It is a task of this worker: it goes on where nobody listens any more."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from litestar import Litestar
from msgspec import Struct, to_builtins
from sqlalchemy import Executable

from app.access.actor import Actor
from app.access.permissions import Permission
from app.admin.assistant import queries
from app.admin.assistant.mcp_servers.service import OutsideTool, offered_tools, propose
from app.admin.assistant.mentions import mentioned
from app.admin.assistant.schemas import AnswerEvent, EventType, MessageError, MessageStatus
from app.admin.assistant.settings.service import accepted, count, failed, model_for
from app.admin.assistant.shown import INTERRUPTED, event_of
from app.admin.proposals.queries import Kept as Proposed
from app.admin.tools.calling import call as call_tool
from app.admin.tools.calling import checked, offered
from app.admin.tools.tool import Caller, ToolError
from app.assistant.loop import SUM_UP, Called, Conversing, Draft, Event, Failure, Limits, StoppedError
from app.assistant.prompt import Situation, system_prompt
from app.assistant.provider import Model, ProviderError, ToolCall, ToolSpec, Usage
from app.assistant.turns import Kept, Offer, Plan, Turn
from app.assistant.windows import Windows
from app.db.database import Database, Origin
from app.records.transaction import Transaction, reading, writing
from app.settings import Settings
from app.web import strict_json
from app.web.draining import is_draining
from app.web.errors import AppError, Code

MOST_SECONDS = 120.0
# How often it is stored how far an answer is, and looked whether it was cancelled.
BEAT_SECONDS = 1.0
# How long an answer goes on when the service is told to stop.
DRAIN_SECONDS = 10.0
# How often whoever listens is told that the answer is still being given.
SILENT_SECONDS = 15.0
# What is read of a conversation since it was summed up, the newest first: more than any model takes.
MOST_TURNS, MOST_TURN_BYTES = 2000, 4 * 1024 * 1024
# How often the end of an answer is tried to be stored, where the database is away.
END_TRIES = 5

T = TypeVar("T")
log = structlog.get_logger("assistant")


class GoneError(Exception):
    """The conversation was deleted or erased, or another answer has taken this one's place."""


class Asked(Struct, frozen=True, kw_only=True):
    """What is to be answered, for whom."""

    actor: Actor
    origin: Origin
    conversation_id: int
    run: UUID
    # The turn that the answer begins with.
    turn_id: int
    model: Model
    shown: tuple[str, int] | None


class Answer:
    """One answer: it stores what happens, calls tools as the person, and tells whoever listens."""

    def __init__(self, app: Litestar, asked: Asked, windows: Windows) -> None:
        self.asked = asked
        self._app = app
        self._actor = asked.actor
        self._database: Database = app.state.database
        self._windows = windows
        self._mine = {"conversation_id": asked.conversation_id, "run_id": asked.run}
        self._events: list[AnswerEvent] = []
        self._changed = asyncio.Event()
        self._is_over = False
        self._work: asyncio.Task[None] | None = None
        # Why it ends before its end.
        self._ending: StoppedError | None = None
        self._cancelled = False
        # The turn that is being written, and what is stored of it.
        self._turn_id = asked.turn_id
        self._is_first = True
        self._draft: Draft | None = None
        self._stored: list[Kept] = []
        # What was asked for and is not counted yet.
        self._spending: list[Draft] = []
        self._results_id: int | None = None
        self._system = ""
        self._tools: list[ToolSpec] = []
        self._outside: dict[str, OutsideTool] = {}

    # ── from outside ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Give the answer. It comes to its end, whatever happens."""
        self._work = work = asyncio.create_task(self._converse())
        status = MessageStatus.FAILED
        error: MessageError | None = MessageError(Failure.SERVICE_FAILED, Code.INTERNAL_ERROR.message)
        try:
            try:
                await self._watch(work)
                status, error = self._outcome(work)
            except Exception as fault:  # noqa: BLE001 -- it is logged
                _log_fault(fault)
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
            status, error = await self._end(status, error)
        finally:
            work.cancel()
            if error is not None:
                self._tell(AnswerEvent(type=EventType.ERROR, code=error.code.value, message=error.message))
            self._tell(AnswerEvent(type=EventType.DONE, message_id=self._turn_id, status=status))
            self._is_over = True
            self._changed.set()

    async def _watch(self, work: asyncio.Task[None]) -> None:
        until, drained_at = time.monotonic() + MOST_SECONDS, None
        while not work.done():
            await asyncio.wait({work}, timeout=BEAT_SECONDS)
            now = time.monotonic()
            if is_draining():
                drained_at = drained_at or now
                if now - drained_at >= DRAIN_SECONDS:
                    self.interrupt()
            if now >= until:
                self._stop(
                    StoppedError(
                        Failure.TIME_IS_UP,
                        f"The answer took longer than {MOST_SECONDS:.0f} seconds and ends here: ask for less at once.",
                    )
                )
            elif not work.done():
                await self._look()
                await self._beat()

    def cancel(self) -> None:
        """The person wants no more of it."""
        self._cancelled = True
        self._stop(StoppedError(Failure.INTERRUPTED, ""))

    def interrupt(self) -> None:
        """The service stops."""
        self._stop(StoppedError(INTERRUPTED.code, INTERRUPTED.message))

    async def events(self) -> AsyncIterator[AnswerEvent | None]:
        """All that has happened and happens, to the end; None says that it is still going on."""
        place = 0
        while True:
            while place < len(self._events):
                yield self._events[place]
                place += 1
            if self._is_over:
                return
            changed = self._changed
            try:
                async with asyncio.timeout(SILENT_SECONDS):
                    await changed.wait()
            except TimeoutError:
                yield None

    # ── what the loop needs ──────────────────────────────────────────────────────────────────────────────────────────

    async def model(self) -> Model:
        """The model to ask now."""
        try:
            async with reading(self._database, self._actor) as tx:
                return await model_for(tx, self._app.state)
        except AppError as refusal:
            used_up = refusal.code is Code.ASSISTANT_BUDGET_USED
            failure = Failure.ASSISTANT_BUDGET_USED if used_up else Failure.ASSISTANT_NOT_CONFIGURED
            raise StoppedError(failure, refusal.message) from refusal

    async def begin(self, model: Model, sent: Plan, draft: Draft) -> int:
        """A turn of the model begins."""

        async def keep(tx: Transaction) -> int:
            turn_id = self.asked.turn_id if self._is_first else await self._say(tx, "assistant", "running", [])
            call = (sent.turns, sent.shortened, self._system, [tool.name for tool in self._tools])
            await self._note_sent(tx, turn_id, model, *call)
            return turn_id

        self._turn_id = await self._kept(keep)
        self._is_first, self._draft, self._stored, self._results_id = False, draft, [], None
        return self._turn_id

    def spend(self, draft: Draft) -> None:
        """What this takes is counted, however it ends."""
        self._spending.append(draft)

    async def end(self, draft: Draft) -> None:
        """The turn has come to its end."""
        await self._settle()
        await self._kept(lambda tx: self._go_on(tx, self._turn_id, draft.parts, "done", usage=draft.usage))
        self._stored = draft.parts
        self._draft = None
        await accepted(self._database, self._actor.tenant_id)

    async def failed(self, error: ProviderError) -> None:
        """The provider has refused: if that is for the key, the admins are told."""
        await failed(self._database, self._actor.tenant_id, error)

    async def keep_results(self, parts: list[Kept]) -> int:
        """Keep what calls have answered so far."""

        async def keep(tx: Transaction) -> int:
            if self._results_id is None:
                return await self._say(tx, "tool", "done", parts)
            await self._go_on(tx, self._results_id, parts, "done")
            return self._results_id

        self._results_id = await self._kept(keep)
        return self._results_id

    async def keep_summary(self, model: Model, draft: Draft, crowd: list[Turn], letters: int) -> Turn:
        """Keep a summary of these turns."""
        until = crowd[-1].id

        async def keep(tx: Transaction) -> int:
            turn_id = await self._say(tx, "summary", "done", draft.parts, until=until)
            await self._go_on(tx, turn_id, draft.parts, "done", usage=draft.usage)
            await self._note_sent(tx, turn_id, model, crowd, (), SUM_UP, [], letters=letters)
            return turn_id

        await self._settle()
        turn_id = await self._kept(keep)
        return Turn(turn_id, "summary", draft.parts, until)

    async def call(self, call: ToolCall) -> Called:
        """Call a tool as the person, with the rights that the person has now."""
        try:
            self._actor = await self._app.state.authenticator.check_again(self._actor, Permission.READ)
        except AppError as refusal:
            raise StoppedError(Failure.NOT_ALLOWED, refusal.message) from refusal
        origin = self.asked.origin
        caller = Caller(
            app=self._app,
            actor=self._actor,
            via="assistant",
            request_id=origin.request_id or "",
            ip_address=origin.ip_address,
            user_agent=origin.user_agent,
            mode="propose",
            conversation_id=self.asked.conversation_id,
        )
        if call.name in self._outside:
            return await self._call_outside(call, self._outside[call.name])
        result = await call_tool(caller, call.name, call.arguments)
        if not result.is_error:
            names = mentioned(call.arguments, result.content)
            await self._kept(lambda tx: _execute(tx, queries.MENTION, self._mine | {"newly": names}))
        return Called(result.text, result.is_error, None if result.proposal is None else _offer(result.proposal))

    async def _call_outside(self, call: ToolCall, tool: OutsideTool) -> Called:
        """Have the person asked first: arguments carry data out, and nobody knows what a tool of others does."""
        try:
            arguments = checked(call.arguments)
            proposal = await self._kept(
                lambda tx: propose(tx, tool, arguments, conversation_id=self.asked.conversation_id)
            )
        except (AppError, ToolError) as refusal:
            return Called(strict_json.encode({"error": str(refusal)}).decode(), is_error=True)
        content = {
            "proposal_id": proposal.id,
            "summary": proposal.summary,
            "next": f"It is not called yet. Tell the person to approve or decline proposal {proposal.id}.",
        }
        return Called(strict_json.encode(content).decode(), is_error=False, offer=_offer(proposal))

    def tell(self, event: Event) -> None:
        """Tell whoever listens."""
        self._tell(event_of(event))

    # ── the answer's own ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _converse(self) -> None:
        given: dict[str, Any] = {"conversation_id": self.asked.conversation_id, "me": self._actor.user_id}
        given |= {"most": MOST_TURNS, "most_bytes": MOST_TURN_BYTES}
        async with reading(self._database, self._actor) as tx:
            rows = (await tx.connection.execute(queries.TURNS, given)).all()
            currency, timezone = (await tx.connection.execute(queries.SITUATION)).one()
            self._outside = await offered_tools(tx)
        # The turn that is about to be written is not one that was said.
        turns = [Turn(*row) for row in rows if row[0] != self.asked.turn_id]
        settings: Settings = self._app.state.settings
        self._system = system_prompt(
            Situation(
                name=self._actor.name,
                user_id=self._actor.reference,
                role=self._actor.role,
                now=datetime.now(ZoneInfo(timezone)),
                timezone=timezone,
                currency=currency,
                shown=self.asked.shown,
            )
        )
        self._tools = [
            *(ToolSpec(tool.name, tool.description, tool.input) for tool in offered("propose")),
            *(tool.spec for tool in self._outside.values()),
        ]
        window = self._windows.of(self._actor.tenant_id, self.asked.model, settings.assistant_window_tokens)
        await Conversing(
            self,
            self._system,
            self._tools,
            turns,
            Limits(settings.assistant_max_tokens, window),
            learn_window=partial(self._windows.learn, self._actor.tenant_id, self.asked.model),
        ).run()

    async def _look(self) -> None:
        """End the answer if the person may no longer be here."""
        try:
            await self._app.state.authenticator.check_again(self._actor, Permission.READ)
        except AppError as refusal:
            if refusal.status != 503:  # it is asked again
                self._stop(StoppedError(Failure.NOT_ALLOWED, refusal.message))

    async def _beat(self) -> None:
        """Store how far it is, and say that its worker lives."""
        draft, turn_id = self._draft, self._turn_id
        try:
            parts = [] if draft is None else draft.parts
            if draft is None or parts == self._stored:
                await self._kept(_nothing)
            else:
                grown = {"message_id": turn_id, "new_parts": to_builtins(parts)}
                await self._kept(lambda tx: _execute(tx, queries.GROW, grown))
        except GoneError:
            self._stop(StoppedError(Failure.INTERRUPTED, ""))
        except AppError as error:  # it is tried again
            log.warning("an answer of the assistant could not be stored", reason=error.message)

    async def _end(
        self, status: MessageStatus, error: MessageError | None
    ) -> tuple[MessageStatus, MessageError | None]:
        """Store the end: answers what it is. If the database is away for long, the answer was interrupted."""
        for tried in range(END_TRIES):
            try:
                await self._settle()
                await self._kept(partial(self._ended, status, error))
                break
            except GoneError:
                return MessageStatus.INTERRUPTED, None
            except AppError as refusal:
                log.warning("the end of an answer could not be stored", reason=refusal.message)
                await asyncio.sleep(2**tried / 4)
            except Exception as fault:  # noqa: BLE001 -- it is logged
                # Most likely for what the turn holds: it ends without.
                _log_fault(fault)
                self._draft, status = None, MessageStatus.FAILED
                error = MessageError(Failure.SERVICE_FAILED, Code.INTERNAL_ERROR.message)
        return status, error

    async def _ended(self, status: MessageStatus, error: MessageError | None, tx: Transaction) -> None:
        if status is not MessageStatus.DONE:
            draft = self._draft
            parts = self._stored if draft is None else draft.parts
            usage = None if draft is None else draft.usage
            await self._go_on(tx, self._turn_id, parts, status.value, error=error, usage=usage)
        await tx.connection.execute(queries.END, self._mine)

    async def _settle(self) -> None:
        """Count what was used and is not counted yet, before anything that could fail."""
        for draft in list(self._spending):
            if draft.usage is not None:
                await count(self._database, self._actor, draft.usage)
                self._spending.remove(draft)

    def _outcome(self, work: asyncio.Task[None]) -> tuple[MessageStatus, MessageError | None]:
        """How it came to its end."""
        if self._cancelled:
            return MessageStatus.CANCELLED, None
        failure = self._ending if work.cancelled() else work.exception()
        if failure is None:
            return MessageStatus.DONE, None
        if isinstance(failure, StoppedError):
            interrupted = failure.failure is Failure.INTERRUPTED
            status = MessageStatus.INTERRUPTED if interrupted else MessageStatus.FAILED
            return status, MessageError(failure.failure, failure.message)
        if isinstance(failure, GoneError):
            return MessageStatus.INTERRUPTED, None
        if not isinstance(failure, AppError):
            _log_fault(failure)
        message = failure.message if isinstance(failure, AppError) else Code.INTERNAL_ERROR.message
        return MessageStatus.FAILED, MessageError(Failure.SERVICE_FAILED, message)

    def _stop(self, why: StoppedError) -> None:
        self._ending = self._ending or why
        if self._work is not None:
            self._work.cancel()

    def _tell(self, event: AnswerEvent) -> None:
        event.conversation_id = self.asked.conversation_id
        self._events.append(event)
        self._changed.set()
        self._changed = asyncio.Event()

    async def _kept(self, keep: Callable[[Transaction], Awaitable[T]]) -> T:
        """Store something of this answer. Raises GoneError where the conversation is no longer its."""
        async with writing(self._database, self._actor, self.asked.origin) as tx:
            cancelled = (await tx.connection.execute(queries.BEAT, self._mine)).scalar_one_or_none()
            if cancelled is None:
                raise GoneError
            if cancelled and not self._cancelled:
                self.cancel()
            return await keep(tx)

    async def _say(
        self, tx: Transaction, role: str, status: str, parts: list[Kept], *, until: int | None = None
    ) -> int:
        given = {"tenant_id": tx.actor.tenant_id, "conversation_id": self.asked.conversation_id}
        given |= {"role": role, "status": status, "parts": to_builtins(parts), "context": None, "until": until}
        return int((await tx.connection.execute(queries.SAY, given)).scalar_one())

    async def _go_on(
        self,
        tx: Transaction,
        turn_id: int,
        parts: list[Kept],
        status: str,
        *,
        error: MessageError | None = None,
        usage: Usage | None = None,
    ) -> None:
        given: dict[str, Any] = {"message_id": turn_id, "new_parts": to_builtins(parts), "new_status": status}
        given |= {"reason": None if error is None else to_builtins(error)}
        given |= {"tokens_in": usage and usage.input_tokens, "tokens_out": usage and usage.output_tokens}
        await tx.connection.execute(queries.GO_ON, given)

    async def _note_sent(
        self,
        tx: Transaction,
        turn_id: int,
        model: Model,
        turns: Sequence[Turn],
        shortened: Collection[int],
        system: str,
        tools: list[str],
        *,
        letters: int | None = None,
    ) -> None:
        given: dict[str, Any] = {"tenant_id": tx.actor.tenant_id, "conversation_id": self.asked.conversation_id}
        given |= {"message_id": turn_id, "provider": model.provider.value, "model": model.name}
        given |= {"system": system, "tools": tools, "sent": [turn.id for turn in turns]}
        given |= {"shortened": sorted(shortened), "letters": letters}
        await tx.connection.execute(queries.NOTE_SENT, given)


def _offer(kept: Proposed) -> Offer:
    return Offer(kept.id, kept.summary, kept.title, kept.expires_at)


async def _execute(tx: Transaction, statement: Executable, given: Mapping[str, Any]) -> None:
    await tx.connection.execute(statement, given)


def _log_fault(fault: BaseException) -> None:
    """Note where it happened. Its text, which may be what the conversation is about, is left out."""
    frames = "".join(traceback.format_tb(fault.__traceback__))
    log.error("an answer of the assistant failed", error=type(fault).__name__, frames=frames)


async def _nothing(_: Transaction) -> None:
    """Only the beat itself."""
