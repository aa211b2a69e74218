"""How mails are sent: once, again where that can help, and whatever the mail server does."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from email.headerregistry import Address
from typing import Any

import psycopg
import pytest
from aiosmtpd.smtp import SMTP

from app.db.database import Database
from app.mail.outbox import prune_mails
from app.mail.sender import PAUSES, MailSender
from app.settings import Settings
from tests.mail.conftest import Outbox
from tests.mail_server import MailServer

Make = Callable[[Database, MailServer], MailSender]
Run = Callable[[Callable[[MailSender], Coroutine[Any, Any, None]]], None]


def somebody() -> str:
    return f"ada-{uuid.uuid4().hex}@example.com"


@pytest.fixture
def run(settings: Settings, mail_server: MailServer, sender: Make) -> Run:
    """Do something with a sender while the mail server listens."""

    def do(work: Callable[[MailSender], Coroutine[Any, Any, None]]) -> None:
        async def inside() -> None:
            async with Database(settings) as database, mail_server.listening():
                await work(sender(database, mail_server))

        asyncio.run(inside())

    return do


async def all_due(sender: MailSender) -> None:
    while await sender.look():
        pass


def test_a_mail_is_sent_once_in_both_forms_with_all_its_headers(
    run: Run, mail_server: MailServer, outbox: Outbox
) -> None:
    address = somebody()
    mail = outbox.make(address, {"subject": "Größe: عرض", "name": "Ada, Countess", "deal": True})
    other = outbox.make(address, {"deal": True})
    run(all_due)
    run(all_due)
    got, second = sorted(mail_server.to(address), key=lambda each: each["Subject"], reverse=True)
    assert (outbox.read(mail)["status"], outbox.read(other)["status"]) == ("sent", "sent")
    assert got["Subject"] == "Größe: عرض"
    assert got["From"].addresses == (Address("The CRM", "crm", "example.com"),)
    assert got["To"].addresses[0].display_name == "Ada, Countess"
    assert got["List-Unsubscribe"] == f"<https://crm.example.com/public/unsubscribe/{outbox.tenant}>"
    assert got["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert got["Auto-Submitted"] == "auto-generated"
    assert str(got["Message-ID"]).endswith("@example.com>")
    assert got["Message-ID"] != second["Message-ID"]
    assert got["In-Reply-To"] == got["References"] == second["In-Reply-To"]
    text, html = got.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert text.get_content() == "Some text.\r\n"


@pytest.mark.parametrize("name", ["Ada\r\nBcc: eve@example.com", 'Ada" <eve@example.com>, "', "Ada\u202eEve\x00"])
def test_nothing_in_a_name_or_subject_becomes_a_header_or_another_recipient(
    name: str, run: Run, mail_server: MailServer, outbox: Outbox
) -> None:
    address = somebody()
    outbox.make(address, {"name": name.replace("\x00", ""), "subject": name.replace("\x00", "")})
    run(all_due)
    (got,) = mail_server.to(address)
    assert [each.addr_spec for each in got["To"].addresses] == [address]
    assert got["Bcc"] is None
    assert mail_server.tried == [address]


@pytest.mark.parametrize("answer", ["550 5.1.1 No such user", "550 Unknown recipient", "553 5.1.3 Bad address"])
def test_a_refused_address_is_remembered_and_not_tried_again(
    answer: str, run: Run, mail_server: MailServer, outbox: Outbox
) -> None:
    address = somebody()
    mail_server.to_recipient = lambda to: answer if to == address else "250 OK"
    first = outbox.make(address)
    run(all_due)
    second = outbox.make(address.upper())
    run(all_due)
    assert outbox.read(first)["status"] == "refused"
    assert outbox.read(first)["error"] == answer
    assert outbox.read(second)["status"] == "dropped"
    assert mail_server.tried.count(address) == 1
    assert mail_server.to(address) == []


@pytest.mark.parametrize(
    "answer",
    [
        "550 5.7.1 Relay access denied",
        "550 Relaying is not allowed",
        "554 5.7.1 Service unavailable; client host is blocked using zen.example.org",
        "554 Your address is on our blocklist",
        "550 HELO name does not resolve",
        "530 5.7.0 Authentication required",
        "503 5.5.1 Bad sequence of commands",
        "550 5.2.2 The mailbox is over quota",
        "550 Mailbox full",
        "552 Mailbox full",
        "451 Try again",
    ],
)
def test_what_is_not_the_addresss_fault_is_not_remembered_and_tried_again(
    answer: str, run: Run, mail_server: MailServer, outbox: Outbox
) -> None:
    address = somebody()
    mail_server.to_recipient = lambda _: answer
    first = outbox.make(address)
    run(all_due)
    assert (outbox.read(first)["status"], outbox.read(first)["error"]) == ("waiting", answer)
    mail_server.to_recipient = lambda _: "250 OK"
    second = outbox.make(address)
    run(all_due)
    assert outbox.read(second)["status"] == "sent"


def test_what_the_server_does_not_take_now_is_tried_again_over_a_day(
    run: Run, mail_server: MailServer, outbox: Outbox
) -> None:
    assert PAUSES[0] == 5
    assert 0.9 * 86_400 < sum(PAUSES) <= 86_400
    mail_server.to_recipient = lambda _: "450 Not now"
    mail = outbox.make(somebody())
    for attempt, pause in enumerate(PAUSES, 1):
        run(all_due)
        found = outbox.read(mail)
        assert (found["status"], found["attempts"]) == ("waiting", attempt)
        assert pause - 5 < found["due_in"] <= pause
        outbox.change(mail, "due_at = now()")
    run(all_due)
    assert (outbox.read(mail)["status"], outbox.read(mail)["error"]) == ("failed", "450 Not now")


def test_a_server_that_is_away_costs_no_mail_and_no_attempt(run: Run, mail_server: MailServer, outbox: Outbox) -> None:
    address = somebody()
    mail = outbox.make(address)

    async def while_away(sender: MailSender) -> None:
        sender._transport = lambda: away_from(sender)
        await sender.look()

    def away_from(_: MailSender) -> Any:
        from app.mail.transport import SmtpTransport

        return SmtpTransport("smtp://127.0.0.1:1")

    run(while_away)
    assert (outbox.read(mail)["status"], outbox.read(mail)["attempts"]) == ("waiting", 0)
    run(all_due)
    assert len(mail_server.to(address)) == 1


@pytest.mark.parametrize("command", ["EHLO", "MAIL"])
def test_a_server_that_breaks_off_again_and_again_is_given_up_in_the_end(
    command: str, run: Run, mail_server: MailServer, outbox: Outbox
) -> None:
    mail_server.refused_commands = {command: "421 Not now", "HELO": "550 I do not know you"}
    address = somebody()
    mail = outbox.make(address)

    async def once(sender: MailSender) -> None:
        await sender.look()

    run(once)
    found = outbox.read(mail)
    assert (found["status"], found["attempts"]) == ("waiting", 1)
    assert 0 < found["due_in"] <= PAUSES[0]
    outbox.change(mail, f"due_at = now(), attempts = {len(PAUSES)}")
    run(once)
    assert outbox.read(mail)["status"] == "failed"


def test_a_mail_that_can_not_be_made_stops_no_other_one(run: Run, mail_server: MailServer, outbox: Outbox) -> None:
    bad, address = outbox.make(somebody(), {"unsent": True}), somebody()
    for _ in range(8):
        outbox.make(address)

    async def once(sender: MailSender) -> None:
        await sender.look()

    run(once)
    assert (outbox.read(bad)["status"], outbox.read(bad)["attempts"]) == ("waiting", 1)
    assert len(mail_server.to(address)) == 8


def test_a_mail_that_may_have_been_sent_is_not_sent_again(run: Run, mail_server: MailServer, outbox: Outbox) -> None:
    address = somebody()

    async def vanish(server: SMTP) -> str:
        assert isinstance(server.transport, asyncio.WriteTransport)
        server.transport.abort()
        return "250 OK"

    mail_server.to_data = vanish
    mail = outbox.make(address)
    run(all_due)
    assert outbox.read(mail)["status"] == "unknown"
    mail_server.to_data = None
    run(all_due)
    assert len(mail_server.to(address)) == 1


def test_what_a_dead_worker_took_is_not_sent_again(settings: Settings, run: Run, outbox: Outbox) -> None:
    from app.mail.outbox import tend

    mail = outbox.make(somebody())
    outbox.change(mail, "status = 'sending', taken_at = now() - interval '11 minutes'")

    async def tended(_: MailSender) -> None:
        async with Database(settings) as database:
            await tend(database)

    run(tended)
    assert outbox.read(mail)["status"] == "unknown"


def test_what_waited_for_a_day_is_given_up(settings: Settings, run: Run, outbox: Outbox) -> None:
    from app.mail.outbox import tend

    old, new = outbox.make(somebody()), outbox.make(somebody())
    outbox.change(old, "due_at = now() - interval '25 hours'")

    async def tended(_: MailSender) -> None:
        async with Database(settings) as database:
            await tend(database)

    run(tended)
    assert (outbox.read(old)["status"], outbox.read(new)["status"]) == ("failed", "waiting")


def test_what_is_not_to_be_sent_any_more_is_dropped_and_what_fails_is_tried_again(
    run: Run, mail_server: MailServer, outbox: Outbox
) -> None:
    address = somebody()
    dropped, failed = outbox.make(address, {"drop": "It was read"}), outbox.make(address, {"fail": True})
    run(all_due)
    assert (outbox.read(dropped)["status"], outbox.read(dropped)["error"]) == ("dropped", "It was read")
    assert (outbox.read(failed)["status"], outbox.read(failed)["attempts"]) == ("waiting", 1)
    assert mail_server.to(address) == []


def test_a_refused_address_is_tried_again_after_a_year(
    settings: Settings, run: Run, mail_server: MailServer, outbox: Outbox, catalog: psycopg.Connection
) -> None:
    address, other = somebody(), somebody()
    mail_server.to_recipient = lambda _: "550 5.1.1 No such user"
    for each in (address, other):
        outbox.make(each)
    run(all_due)
    old = "UPDATE refused_addresses SET refused_at = now() - interval '366 days' WHERE address_folded = %s"
    catalog.execute(old, [address])

    async def pruned(_: MailSender) -> None:
        async with Database(settings) as database:
            await prune_mails(database)

    run(pruned)
    assert catalog.execute("SELECT address_folded FROM refused_addresses").fetchall() == [(other,)]


def test_two_senders_send_each_mail_once(
    settings: Settings, mail_server: MailServer, sender: Make, outbox: Outbox
) -> None:
    addresses = [somebody() for _ in range(20)]
    for address in addresses:
        outbox.make(address)

    async def both() -> None:
        async with Database(settings) as database, mail_server.listening():
            await asyncio.gather(*(all_due(sender(database, mail_server)) for _ in range(2)))

    asyncio.run(both())
    assert [len(mail_server.to(address)) for address in addresses] == [1] * 20


def test_an_address_in_any_script_gets_its_mail(run: Run, mail_server: MailServer, outbox: Outbox) -> None:
    name = uuid.uuid4().hex[:8]
    outbox.make(f"{name}@bücher.example")
    outbox.make(f"büro-{name}@example.com")
    run(all_due)
    tried = sorted(address for address in mail_server.tried if name in address)
    assert tried == sorted([f"{name}@xn--bcher-kva.example", f"büro-{name}@example.com"])
    assert len(mail_server.to(name)) == 2
