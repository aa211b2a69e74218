"""A mail server of our own, on this machine only."""

from __future__ import annotations

import asyncio
import email
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from email.message import EmailMessage
from email.policy import default

from aiosmtpd.smtp import SMTP, Envelope, Session

OK = "250 OK"


class MailServer:
    """A real SMTP server. What it answers can be changed; a function may also wait, or end the connection."""

    def __init__(self) -> None:
        self.got: list[EmailMessage] = []
        self.tried: list[str] = []
        self.to_recipient: Callable[[str], str] = lambda _: OK
        self.to_data: Callable[[SMTP], Awaitable[str]] | None = None
        self.refused_commands: dict[str, str] = {}
        self.url = ""

    async def handle_EHLO(  # noqa: N802 -- the library's name
        self, _: SMTP, session: Session, __: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [self.refused_commands["EHLO"]] if "EHLO" in self.refused_commands else responses

    async def handle_HELO(self, _: SMTP, session: Session, __: Envelope, hostname: str) -> str:  # noqa: N802 -- the library's name
        session.host_name = hostname
        return self.refused_commands.get("HELO", "250 crm")

    async def handle_MAIL(  # noqa: N802 -- the library's name
        self, _: SMTP, __: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self.refused_commands.get("MAIL", OK)

    async def handle_RCPT(self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]) -> str:  # noqa: N802 -- the library's name
        self.tried.append(address)
        answer = self.to_recipient(address)
        if answer == OK:
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, _: Session, envelope: Envelope) -> str:  # noqa: N802 -- the library's name
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(envelope.content, policy=default)
        assert isinstance(message, EmailMessage)
        self.got.append(message)
        return OK if self.to_data is None else await self.to_data(server)

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[MailServer]:
        """Inside, it answers."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(self, loop=loop, enable_SMTPUTF8=True), "127.0.0.1", port)
        self.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    def to(self, address: str) -> list[EmailMessage]:
        """What came for this address."""
        return [each for each in self.got if address in str(each["To"])]

    @contextmanager
    def beside(self, port: int = 0) -> Iterator[MailServer]:
        """The same in a thread of its own, for who is not asynchronous."""
        began = threading.Event()
        stop: list[Callable[[], object]] = []

        async def serve() -> None:
            end = asyncio.Event()
            loop = asyncio.get_running_loop()
            stop.append(lambda: loop.call_soon_threadsafe(end.set))
            async with self.listening(port):
                began.set()
                await end.wait()

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        began.wait(10)
        try:
            yield self
        finally:
            stop[0]()
            thread.join(10)
