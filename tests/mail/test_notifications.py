"""Notifications and digests are mailed to those who want them, once, and when they want them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any

import psycopg
import pytest

from app.db.database import Database
from app.mail import outbox as stored
from app.settings import Settings
from tests.mail.conftest import Deliver, Person
from tests.mail_server import MailServer

Tell = Callable[..., None]


@pytest.fixture
def tell(catalog: psycopg.Connection) -> Tell:
    """Tell a person of something, as the service does."""

    def do(caller: Any, record: dict[str, Any], kind: str = "assigned", resource: str = "deal") -> None:
        catalog.execute("SELECT set_config('crm.tenant', %s, false)", [caller.tenant])
        catalog.execute(
            "INSERT INTO notifications (tenant_id, user_id, kind, key, actor_id, actor_name, resource_type,"
            " resource_id, in_app, by_email) VALUES (%s, %s, %s, %s, 'boss', 'Grace <b>', %s, %s, true, true)",
            [caller.tenant, caller.user_id, kind, f"{kind}-{record['id']}", resource, record["id"]],
        )

    return do


def sell(caller: Any, title: str) -> dict[str, Any]:
    customer = caller.customer()
    made: dict[str, Any] = caller.ok("POST", "/admin/deals", {"title": title, "customer_id": customer["id"]})
    return made


def forms(message: EmailMessage) -> list[str]:
    return [part.get_content() for part in message.iter_parts()]


def test_a_notification_is_mailed_once_in_the_persons_language(
    person: Person, tell: Tell, deliver: Deliver, mail_server: MailServer, catalog: psycopg.Connection
) -> None:
    admin, address = person("admin")
    deal = sell(admin, "Engines <i>")
    tell(admin, deal)
    deliver()
    deliver()
    (got,) = mail_server.to(address)
    assert "Engines <i>" in got["Subject"]
    text, html = forms(got)
    assert "Engines <i>" in text
    assert "Engines &lt;i&gt;" in html
    assert "<i>" not in html
    assert str(got["List-Unsubscribe"]).startswith("<https://crm.example.com/public/unsubscribe/")
    catalog.execute("UPDATE notification_settings SET locale = 'ar'")
    tell(admin, deal, "mentioned")
    deliver()
    arabic = mail_server.to(address)[1]
    assert 'dir="rtl"' in forms(arabic)[1]
    assert arabic["In-Reply-To"] == got["In-Reply-To"]


@pytest.mark.parametrize(
    "meanwhile",
    [
        "UPDATE notifications SET read_at = now()",
        "DELETE FROM notifications",
        "UPDATE notification_settings SET emailed = '{}'",
        "UPDATE members SET is_active = false",
    ],
)
def test_what_happened_meanwhile_keeps_a_mail_from_being_sent(
    meanwhile: str,
    person: Person,
    tell: Tell,
    deliver: Deliver,
    mail_server: MailServer,
    catalog: psycopg.Connection,
) -> None:
    agent, address = person("agent")
    tell(agent, sell(agent, "Engines"))
    catalog.execute(meanwhile)
    deliver()
    assert mail_server.to(address) == []
    assert catalog.execute("SELECT status FROM mails").fetchall() == [("dropped",)]


@pytest.mark.parametrize(
    ("kind", "meanwhile", "sent"),
    [
        ("assigned", {"title": "Other"}, 1),
        ("assigned", None, 0),
        ("reminder", {"title": "Other"}, 1),
        ("reminder", {"status": "completed"}, 0),
        ("reminder", {"remind_at": "2100-01-02T10:00:00Z"}, 0),
        ("reminder", {"assigned_to": "somebody"}, 0),
        ("overdue", {"due_date": "2100-01-02T10:00:00Z"}, 0),
    ],
)
def test_nothing_is_mailed_of_what_was_done_moved_or_trashed_meanwhile(
    kind: str,
    meanwhile: dict[str, Any] | None,
    sent: int,
    person: Person,
    deliver: Deliver,
    mail_server: MailServer,
    catalog: psycopg.Connection,
) -> None:
    admin, address = person("admin")
    when = {"remind_at": "2026-01-01T10:00:00Z", "due_date": "2026-01-01T12:00:00Z"}
    call = admin.ok("POST", "/admin/activities", {"title": "Call", "type": "call", **when})
    catalog.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
    catalog.execute("UPDATE notification_settings SET emailed = '{assigned,reminder,overdue}'")
    catalog.execute(
        "INSERT INTO notifications (tenant_id, user_id, kind, key, resource_type, resource_id, in_app, by_email)"
        " SELECT tenant_id, assigned_to, kind, concat_ws('/', kind, 'activity', id, extract(epoch FROM"
        " CASE kind WHEN 'overdue' THEN due_date ELSE remind_at END)), 'activity', id, true, true"
        " FROM activities CROSS JOIN (VALUES (%s)) AS said (kind)",
        [kind],
    )
    path = f"/admin/activities/{call['id']}"
    admin.ok("DELETE", path) if meanwhile is None else admin.ok("PATCH", path, meanwhile)
    deliver()
    assert len(mail_server.to(address)) == sent


def test_quiet_hours_that_are_set_later_count_for_mails_that_wait(
    person: Person, tell: Tell, deliver: Deliver, mail_server: MailServer
) -> None:
    agent, address = person("agent")
    now = datetime.now(UTC)
    begin, end = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (-1, 1))
    tell(agent, sell(agent, "Engines"))
    path = "/admin/me/notification-settings"
    agent.ok("PUT", path, {"quiet_hours": {"from": begin, "to": end}, "timezone": "UTC"})
    deliver()
    assert mail_server.to(address) == []
    agent.ok("PUT", path, {"quiet_hours": None})
    deliver()
    assert len(mail_server.to(address)) == 1


def test_quiet_hours_hold_mails_back_until_they_end(
    person: Person, tell: Tell, deliver: Deliver, mail_server: MailServer, catalog: psycopg.Connection
) -> None:
    agent, address = person("agent")
    now = datetime.now(UTC)
    begin, end = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (-1, 1))
    catalog.execute("SELECT set_config('crm.tenant', %s, false)", [agent.tenant])
    catalog.execute("UPDATE notification_settings SET quiet_from = %s, quiet_to = %s, timezone = 'UTC'", [begin, end])
    tell(agent, sell(agent, "Engines"))
    deliver()
    assert mail_server.to(address) == []
    (due,) = catalog.execute("SELECT to_char(due_at AT TIME ZONE 'UTC', 'HH24:MI') FROM mails").fetchall()
    assert due == (end,)


@pytest.mark.parametrize(
    ("begin", "end", "moment", "due"),
    [
        ("22:00", "07:00", "2026-11-26 21:59", "2026-11-26 21:59"),
        ("22:00", "07:00", "2026-11-26 22:00", "2026-11-27 07:00"),
        ("22:00", "07:00", "2026-11-27 06:59", "2026-11-27 07:00"),
        ("22:00", "07:00", "2026-11-27 07:00", "2026-11-27 07:00"),
        ("12:00", "13:00", "2026-11-26 12:30", "2026-11-26 13:00"),
        ("12:00", "13:00", "2026-11-26 11:30", "2026-11-26 11:30"),
        # The night in which clocks go forward.
        ("22:00", "07:00", "2026-03-28 23:00", "2026-03-29 07:00"),
    ],
)
def test_quiet_hours_are_the_persons_own(
    begin: str, end: str, moment: str, due: str, catalog: psycopg.Connection
) -> None:
    zone = "Europe/Berlin"
    found = catalog.execute(
        "SELECT to_char(crm_after_quiet(%(moment)s::timestamp AT TIME ZONE %(zone)s, %(begin)s, %(end)s, %(zone)s)"
        " AT TIME ZONE %(zone)s, 'YYYY-MM-DD HH24:MI')",
        {"moment": moment, "zone": zone, "begin": begin, "end": end},
    ).fetchone()
    assert found == (due,)


def ago(minutes: int) -> dict[str, str]:
    """A time of day so long ago, in a timezone in which it is noon: so it is today."""
    now = datetime.now(UTC)
    local = now + timedelta(hours=12 - now.hour, minutes=-minutes)
    return {"at": f"{local:%H:%M}", "zone": f"Etc/GMT{now.hour - 12:+}"}


DAILY = "UPDATE notification_settings SET digest = 'daily', digest_at = %(at)s, timezone = %(zone)s"


def make_digests(settings: Settings, workers: int = 1) -> None:
    async def run() -> None:
        async with Database(settings) as database:
            await asyncio.gather(*(stored.make_digests(database) for _ in range(workers)))

    asyncio.run(run())


def since(catalog: psycopg.Connection, interval: str) -> None:
    catalog.execute("ALTER TABLE reminder_progress NO FORCE ROW LEVEL SECURITY")
    catalog.execute("UPDATE reminder_progress SET digests_until = now() - %s::interval", [interval])
    catalog.execute("ALTER TABLE reminder_progress FORCE ROW LEVEL SECURITY")


def test_a_digest_says_what_is_to_do_what_is_late_and_what_is_unread_once(
    settings: Settings,
    person: Person,
    tell: Tell,
    deliver: Deliver,
    mail_server: MailServer,
    catalog: psycopg.Connection,
) -> None:
    agent, address = person("agent")
    today = datetime.now(UTC).date()
    deal = sell(agent, "Engines")
    tell(agent, deal)
    for title, day in (("Call today", today), ("Task tomorrow", today + timedelta(days=1))):
        agent.ok("POST", "/admin/activities", {"title": title, "type": "task", "due_date": str(day)})
    late = agent.ok("POST", "/admin/activities", {"title": "Late call", "type": "call", "due_date": str(today)})
    catalog.execute("SELECT set_config('crm.tenant', %s, false)", [agent.tenant])
    catalog.execute("UPDATE activities SET due_date = due_date - interval '3 days' WHERE id = %s", [late["id"]])
    catalog.execute(DAILY, ago(minutes=3))
    catalog.execute("UPDATE notification_settings SET emailed = '{}'")
    for _ in range(2):
        since(catalog, "1 hour")
        make_digests(settings, workers=3)
    deliver()
    (got,) = [each for each in mail_server.to(address) if "Your day" in each["Subject"]]
    for form in forms(got):
        assert form.index("Call today") < form.index("Late call") < form.index("Engines")
        assert "Task tomorrow" not in form


@pytest.mark.parametrize(("interval", "made"), [("90 seconds", 0), ("5 minutes", 1), ("3 days", 1), ("30 days", 1)])
def test_a_digest_that_was_missed_is_made_up_once(
    interval: str, made: int, settings: Settings, person: Person, catalog: psycopg.Connection
) -> None:
    agent, _ = person("agent")
    catalog.execute("SELECT set_config('crm.tenant', %s, false)", [agent.tenant])
    catalog.execute(DAILY, ago(minutes=4))
    since(catalog, interval)
    make_digests(settings)
    assert len(catalog.execute("SELECT FROM mails").fetchall()) == made


def test_who_has_nothing_to_do_gets_no_digest(
    settings: Settings, person: Person, deliver: Deliver, mail_server: MailServer, catalog: psycopg.Connection
) -> None:
    agent, address = person("agent")
    catalog.execute("SELECT set_config('crm.tenant', %s, false)", [agent.tenant])
    catalog.execute("UPDATE notification_settings SET digest = 'weekly', digest_at = '00:00'")
    since(catalog, "8 days")
    make_digests(settings)
    deliver()
    assert mail_server.to(address) == []
    assert catalog.execute("SELECT status FROM mails").fetchall() == [("dropped",)]
