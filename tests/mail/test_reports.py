"""Reports that are made again and again reach their recipients."""

from __future__ import annotations

from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import psycopg
import pytest

from app.settings import Settings
from tests.callers import Caller
from tests.jobs.conftest import (
    report_maker,
    work,  # noqa: F401 -- a fixture
)
from tests.jobs.test_report_runs import sell
from tests.jobs.test_report_schedules import DAILY, SCHEDULES, jobs, make_due, run_due
from tests.mail.conftest import Deliver, Person
from tests.mail_server import MailServer


@pytest.fixture
def run_schedule(settings: Settings, work: Callable[..., None]) -> Callable[[Caller, dict[str, Any]], None]:  # noqa: F811
    """Make the report of a schedule now."""

    def do(caller: Caller, schedule: dict[str, Any]) -> None:
        make_due(settings, schedule)
        run_due(settings)
        work({"report": report_maker(settings)}, lambda: all(job["status"] == "done" for job in jobs(caller)))

    return do


def parts(message: EmailMessage) -> tuple[str, str, EmailMessage]:
    """Its text, its HTML and its file."""
    body, file = message.iter_parts()
    assert isinstance(body, EmailMessage)
    assert isinstance(file, EmailMessage)
    text, html = body.iter_parts()
    assert isinstance(text, EmailMessage)
    assert isinstance(html, EmailMessage)
    return text.get_content(), html.get_content(), file


@pytest.mark.parametrize("form", ["csv", "xlsx", "json"])
def test_a_report_reaches_each_recipient_once_as_a_table_and_with_the_file(
    form: str, person: Person, deliver: Deliver, run_schedule: Callable[..., None], mail_server: MailServer
) -> None:
    admin, email = person("admin")
    sell(admin)
    made = admin.ok("POST", SCHEDULES, DAILY | {"format": form, "name": "Team, daily", "recipients": [email]})
    run_schedule(admin, made)
    deliver()
    deliver()
    (got,) = mail_server.to(email)
    text, html, file = parts(got)
    assert got["Subject"].startswith("Team, daily: ")
    for shown in (text, html):
        assert "Win rate" in shown
        assert "Grace Hopper" in shown
    assert file.get_filename() == f"team-{jobs(admin)[0]['finished_at'][:10]}.{form}"
    assert file.get_content()


def test_of_several_recipients_only_members_who_are_active_get_it(
    person: Person,
    deliver: Deliver,
    run_schedule: Callable[..., None],
    mail_server: MailServer,
    catalog: psycopg.Connection,
) -> None:
    admin, email = person("admin")
    left, gone = person("agent")
    made = admin.ok("POST", SCHEDULES, DAILY | {"recipients": [email, gone]})
    catalog.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
    catalog.execute("UPDATE members SET is_active = false WHERE user_id = %s", [left.user_id])
    run_schedule(admin, made)
    deliver()
    assert len(mail_server.to(email)) == 1
    assert mail_server.to(gone) == []


def test_a_report_that_named_somebody_who_was_erased_is_not_mailed(
    person: Person,
    deliver: Deliver,
    run_schedule: Callable[..., None],
    mail_server: MailServer,
    catalog: psycopg.Connection,
) -> None:
    admin, email = person("admin")
    catalog.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
    made = admin.ok("POST", SCHEDULES, DAILY | {"report": "overview", "recipients": [email]})
    run_schedule(admin, made)
    (kept,) = catalog.execute("SELECT document IS NOT NULL FROM job_files").fetchall()
    catalog.execute("UPDATE job_files SET content = NULL")
    (then,) = catalog.execute("SELECT document IS NOT NULL FROM job_files").fetchall()
    deliver()
    assert (kept, then) == ((True,), (False,))
    assert mail_server.to(email) == []
    assert catalog.execute("SELECT status FROM mails").fetchall() == [("dropped",)]


def test_a_report_that_nobody_is_to_get_is_kept_once(
    admin: Caller, run_schedule: Callable[..., None], catalog: psycopg.Connection
) -> None:
    catalog.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
    run_schedule(admin, admin.ok("POST", SCHEDULES, DAILY))
    assert catalog.execute("SELECT document FROM job_files").fetchall() == [(None,)]
    assert catalog.execute("SELECT FROM mails").fetchall() == []
