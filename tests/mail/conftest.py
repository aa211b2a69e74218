"""A mail server on this machine, mails that are made by hand, and a sender."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import psycopg
import pytest
from msgspec.structs import replace

from app.admin.mails.writers import mail_sender
from app.db.database import Database
from app.mail import outbox as stored
from app.mail.messages import Recipient, Written
from app.mail.outbox import Mail
from app.mail.sender import DropError, MailSender
from app.settings import Settings
from tests.callers import Caller, Callers
from tests.mail_server import MailServer


@pytest.fixture
def mail_server() -> MailServer:
    return MailServer()


@pytest.fixture
def catalog(settings: Settings) -> Iterator[psycopg.Connection]:
    """A session of the owner, who is also kept to rows of a tenant."""
    with psycopg.connect(settings.migration_dsn, autocommit=True) as connection:
        yield connection


class Outbox:
    """The mails of one organization."""

    def __init__(self, connection: psycopg.Connection, tenant: str) -> None:
        self._connection = connection
        self.tenant = tenant
        connection.execute("SELECT set_config('crm.tenant', %s, false)", [tenant])

    def make(self, address: str, about: dict[str, Any] | None = None) -> int:
        """A mail that is due."""
        row = self._connection.execute(
            "INSERT INTO mails (tenant_id, kind, key, about, address) VALUES (%s, 'report', %s, %s, %s) RETURNING id",
            [self.tenant, uuid.uuid4().hex, json.dumps(about or {}), address],
        ).fetchone()
        assert row is not None
        return int(row[0])

    def read(self, mail_id: int) -> dict[str, Any]:
        """A mail as it is stored, and in how many seconds it is due."""
        query = "SELECT status, attempts, error, extract(epoch FROM due_at - now())::float8 FROM mails WHERE id = %s"
        row = self._connection.execute(query, [mail_id]).fetchone()
        assert row is not None
        return dict(zip(("status", "attempts", "error", "due_in"), row, strict=True))

    def change(self, mail_id: int, assignment: str) -> None:
        self._connection.execute(f"UPDATE mails SET {assignment} WHERE id = %s", [mail_id])


@pytest.fixture
def outbox(catalog: psycopg.Connection, tenant: str) -> Outbox:
    return Outbox(catalog, tenant)


async def write(tenant: str, mail: Mail) -> tuple[Written, Recipient]:
    """Says what the test wants it to say."""
    about = mail.about
    if reason := about.get("drop"):
        raise DropError(reason)
    if about.get("fail"):
        raise ValueError
    written = Written(
        # Half a letter, which no bytes can be made of.
        subject="\ud800" if about.get("unsent") else about.get("subject", "A subject"),
        text=about.get("text", "Some text.\n"),
        html="<p>Some text.</p>",
        locale="en",
        unsubscribe=f"https://crm.example.com/public/unsubscribe/{tenant}",
        record=("deal", 12) if about.get("deal") else None,
    )
    return written, Recipient(str(mail.address), about.get("name"))


Send = Callable[..., Awaitable[None]]


@pytest.fixture
def sender(settings: Settings) -> Callable[[Database, MailServer], MailSender]:
    """A sender to this server."""

    def make(database: Database, server: MailServer) -> MailSender:
        sent_from = replace(settings, smtp_url=server.url, mail_from="The CRM <crm@example.com>")
        return MailSender(stored.Outbox(database), sent_from, {"report": write})

    return make


class Reader(NamedTuple):
    """A person with an address."""

    caller: Caller
    email: str


Person: TypeAlias = Callable[[str], Reader]


@pytest.fixture
def person(callers: Callers, tenant: str) -> Person:
    """Somebody whom the service has seen."""

    def make(role: str) -> Reader:
        email = f"{role}-{uuid.uuid4().hex}@example.com"
        caller = callers.person(role, tenant, email=email, name="Grace Hopper")
        caller.ok("GET", "/admin/me")
        return Reader(caller, email)

    return make


Deliver: TypeAlias = Callable[[], None]


@pytest.fixture
def deliver(settings: Settings, mail_server: MailServer) -> Deliver:
    """Send what is due, as the service does."""

    def do() -> None:
        async def inside() -> None:
            async with Database(settings) as database, mail_server.listening():
                to_server = replace(
                    settings,
                    smtp_url=mail_server.url,
                    mail_from="crm@example.com",
                    public_url="https://crm.example.com",
                )
                sender = mail_sender(to_server, database)
                while await sender.look():
                    pass

        asyncio.run(inside())

    return do
