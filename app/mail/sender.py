"""The sender: it takes mails that are due, has them written, and hands them over.

A mail is taken before it is handed over, in a transaction of its own: so each is sent at most once, whoever dies. What
was certainly not sent is tried again; what may have been sent is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeAlias

import structlog

from app.mail.messages import Recipient, Written, compose
from app.mail.metrics import OUTCOMES
from app.mail.outbox import Mail
from app.mail.transport import Ending, Handed, ServerAwayError, Transport, transport_of
from app.settings import Settings
from app.web.errors import AppError

LOOK_SECONDS, TEND_SECONDS = 1.0, 15.0
# Connections to the mail server, and mails of a look.
LANES, MOST_TAKEN = 4, 40
MINUTE, HOUR = 60.0, 3600.0
# Together a day.
PAUSES = (5.0, MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 6 * HOUR, 10 * HOUR)
# While the server is away, nothing is tried for so long.
AWAY_SECONDS, LONGEST_AWAY_SECONDS = 5.0, 60.0
STOP_SECONDS = 15.0
KEEP_ATTEMPTS = 3

log = structlog.get_logger("mail")


class DropError(Exception):
    """The mail is not to be sent any more, and why."""


# Writes a mail: what it says and who gets it. Raises DropError where there is nothing to say any more, and AppError.
Write: TypeAlias = Callable[[str, Mail], Awaitable[tuple[Written, Recipient]]]


class Outbox(Protocol):
    """Where mails wait, and where what came of each is kept. Each call is a short transaction, and raises AppError."""

    async def due(self, most: int) -> list[tuple[str, int]]:
        """Mails that are due, by tenant and id."""

    async def take(self, tenant_id: str, mail_id: int) -> Mail | None:
        """Take a mail; None if somebody else has it."""

    async def refusal(self, tenant_id: str, address: str) -> str | None:
        """What a mail server answered when it refused this address for good, if one did."""

    async def end(self, tenant_id: str, mail: Mail, status: str, error: str | None = None) -> None:
        """Keep what came of a mail."""

    async def refuse(self, tenant_id: str, mail: Mail, address: str, answer: str) -> None:
        """End a mail, and send no other to this address."""

    async def again(self, tenant_id: str, mail: Mail, pause: float, error: str | None) -> None:
        """Let a mail that was certainly not sent wait for its next attempt."""

    async def tend(self) -> None:
        """What is to be done from time to time."""


class MailSender:
    """Sends the mails of an outbox. Any number of workers share the work."""

    def __init__(
        self,
        outbox: Outbox,
        settings: Settings,
        writers: Mapping[str, Write],
        transport: Callable[[], Transport] | None = None,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._outbox = outbox
        self._settings = settings
        self._writers = writers
        self._transport = transport or (lambda: transport_of(settings))
        self._pauses = pauses
        self._stopping = self._failing = False
        self._away = 0
        self._lanes: set[asyncio.Task[str | None]] = set()

    async def run(self) -> None:
        """Run until it is cancelled: then what is being sent comes to its end, and the rest goes on elsewhere."""
        tending = asyncio.create_task(self._tend())
        try:
            while True:
                busy = await self._try_look()
                if self._away:
                    await asyncio.sleep(min(AWAY_SECONDS * 2 ** (self._away - 1), LONGEST_AWAY_SECONDS))
                elif not busy:
                    await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._stopping = True
            tending.cancel()
            if self._lanes:
                _, late = await asyncio.wait(self._lanes, timeout=STOP_SECONDS)
                for task in late:
                    task.cancel()
                await asyncio.gather(tending, *late, return_exceptions=True)

    async def look(self) -> bool:
        """Send what is due now, some of it; returns whether there was anything. Raises AppError."""
        found = await self._outbox.due(MOST_TAKEN if not self._away else 1)
        lanes = [found[place::LANES] for place in range(min(LANES, len(found)))]
        tasks = [asyncio.create_task(self._send_all(lane)) for lane in lanes]
        for task in tasks:
            self._lanes.add(task)
            task.add_done_callback(self._lanes.discard)
        if tasks:
            # Once begun, a mail comes to its end: a stop of the worker is no reason to lose it.
            await asyncio.wait(tasks)
            self._note({task.result() for task in tasks})
        return bool(found)

    async def _try_look(self) -> bool:
        try:
            busy = await self.look()
        except Exception as error:
            if not self._failing:
                log.warning("mails wait: looking for what is due failed, and is tried again", exc_info=error)
            self._failing = True
            return False
        self._failing = False
        return busy

    async def _tend(self) -> None:
        while True:
            try:
                await self._outbox.tend()
            except AppError as error:
                log.debug("mails wait: the database can't be used now", code=error.code.name)
            await asyncio.sleep(TEND_SECONDS)

    def _note(self, reasons: set[str | None]) -> None:
        """Whether the server was away in this look, and why."""
        away = sorted(reason for reason in reasons if reason is not None)
        if away and not self._away:
            log.warning("mails wait: the mail server can't be used now, and is tried again", reason=away[0])
        elif self._away and not away:
            log.info("the mail server is back")
        self._away = self._away + 1 if away else 0

    async def _send_all(self, mails: Sequence[tuple[str, int]]) -> str | None:
        """Send these one after the other, over one connection; returns why the server can't be used, if it can't."""
        transport = self._transport()
        try:
            for tenant, mail_id in mails:
                if self._stopping:
                    break
                await transport.open()
                await self._send(transport, tenant, mail_id)
        except ServerAwayError as away:
            return str(away)
        except AppError as error:
            log.warning("mails wait: the database can't be used now", code=error.code.name)
        except Exception as error:
            log.error("sending mails failed", exc_info=error)
        finally:
            await transport.close()
        return None

    async def _send(self, transport: Transport, tenant: str, mail_id: int) -> None:
        mail = await self._outbox.take(tenant, mail_id)
        if mail is None:
            return
        about = log.bind(tenant=tenant, mail=mail.id, kind=mail.kind)
        try:
            written, recipient = await self._writers[mail.kind](tenant, mail)
            answer = await self._outbox.refusal(tenant, recipient.address)
            if answer is not None:
                raise DropError(f"A mail server refused this address before: {answer}")
            sender = self._settings.sender
            message = compose(written, recipient, sender, mail.message_id, tenant, datetime.now(UTC))
            content, address = message.as_bytes(), str(message["To"].addresses[0].addr_spec)
        except DropError as drop:
            about.info("a mail is not sent", reason=str(drop))
            await self._end(tenant, mail, "dropped", str(drop))
            return
        except Exception as error:
            # Nothing was sent: so it may be tried again.
            log.error("a mail could not be written", tenant=tenant, mail=mail.id, kind=mail.kind, exc_info=error)
            reason = error.message if isinstance(error, AppError) else "It could not be written: the log says why"
            await self._later(tenant, mail, reason)
            return
        try:
            handed = await transport.send(content, sender[1], address)
        except ServerAwayError as away:
            # It was there a moment ago: what it breaks off again and again is given up like all else.
            await self._later(tenant, mail, str(away))
            raise
        except Exception as error:
            log.error("handing a mail over failed", tenant=tenant, mail=mail.id, kind=mail.kind, exc_info=error)
            handed = Handed(Ending.UNKNOWN, "It failed while it was handed over: the log says why")
            await transport.close()
        await self._keep(tenant, mail, recipient, handed)

    async def _keep(self, tenant: str, mail: Mail, recipient: Recipient, handed: Handed) -> None:
        about = log.bind(tenant=tenant, mail=mail.id, kind=mail.kind)
        if handed.ending is Ending.LATER:
            await self._later(tenant, mail, handed.answer)
        elif handed.ending is Ending.REFUSED:
            OUTCOMES["refused"].inc()
            about.warning("the mail server refused an address: nothing is sent there any more", answer=handed.answer)
            await self._outbox.refuse(tenant, mail, recipient.address, handed.answer or "")
        else:
            if handed.ending is not Ending.SENT:
                about.warning("a mail was not sent", outcome=handed.ending.value, answer=handed.answer)
            await self._end(tenant, mail, handed.ending.value, handed.answer)

    async def _later(self, tenant: str, mail: Mail, reason: str | None) -> None:
        if mail.attempts > len(self._pauses):
            log.warning("a mail is given up", tenant=tenant, mail=mail.id, kind=mail.kind, reason=reason)
            await self._end(tenant, mail, "failed", reason)
            return
        OUTCOMES["retry"].inc()
        await self._outbox.again(tenant, mail, self._pauses[mail.attempts - 1], reason)

    async def _end(self, tenant: str, mail: Mail, status: str, error: str | None = None) -> None:
        OUTCOMES[status].inc()
        for attempt in range(KEEP_ATTEMPTS):
            try:
                await self._outbox.end(tenant, mail, status, error)
                return
            except AppError:
                # It is sent at most once all the same; but whoever reads the table would not know that it was.
                if attempt == KEEP_ATTEMPTS - 1:
                    raise
                await asyncio.sleep(1)
