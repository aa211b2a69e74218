"""The links in mails stop what they say and nothing else, without a token."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.mail.unsubscribing import DIGEST, Stop, stop_link
from app.settings import Settings
from tests.callers import Caller, refused
from tests.jobs.test_report_schedules import DAILY, SCHEDULES
from tests.mail.conftest import Person

ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@pytest.fixture
def path(settings: Settings) -> Callable[[Stop], str]:
    """The path of a link."""

    def make(stop: Stop) -> str:
        link = stop_link(settings, stop)
        assert link is not None
        return "/public/" + link.partition("/public/")[2]

    return make


def test_a_link_takes_one_address_off_one_report_once_somebody_says_so(
    person: Person, path: Callable[[Stop], str]
) -> None:
    admin, email = person("admin")
    agent, other = person("agent")
    made = admin.ok("POST", SCHEDULES, DAILY | {"recipients": [email, other]})
    link = path(Stop(agent.tenant, schedule=made["id"], address=other))
    page = admin.client.get(link)
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert other in page.text
    assert '<form method="post">' in page.text
    assert admin.ok("GET", f"{SCHEDULES}/{made['id']}")["recipients"] == [email, other]
    for _ in range(2):
        done = admin.client.post(link, data=ONE_CLICK)
        assert done.status_code == 200
        assert "form" not in done.text
    schedule = admin.ok("GET", f"{SCHEDULES}/{made['id']}")
    assert (schedule["recipients"], schedule["version"]) == ([email], 2)
    entry = admin.audit(resource_type="report_schedule", action="update")[0]
    assert (entry["user_id"], entry["user_role"]) == (agent.user_id, "agent")
    assert entry["changes"] == {"recipients": {"old": [email, other], "new": [email]}}


def test_a_link_stops_one_kind_or_the_digest_of_one_person(
    person: Person, path: Callable[[Stop], str], catalog: psycopg.Connection
) -> None:
    (one, _), (other, _) = person("agent"), person("agent")
    catalog.execute("SELECT set_config('crm.tenant', %s, false)", [one.tenant])
    catalog.execute("UPDATE notification_settings SET digest = 'daily', emailed = '{assigned,mentioned}'")
    one.client.post(path(Stop(one.tenant, user=one.user_id, what="assigned")))
    one.client.post(path(Stop(other.tenant, user=other.user_id, what=DIGEST)))
    found = catalog.execute("SELECT user_id, emailed, digest FROM notification_settings").fetchall()
    assert sorted(found) == sorted(
        [(one.user_id, ["mentioned"], "daily"), (other.user_id, ["assigned", "mentioned"], "none")]
    )


@pytest.mark.parametrize(("locale", "direction"), [("en", "ltr"), ("de", "ltr"), ("ar", "rtl")])
def test_the_page_is_in_the_persons_language(
    locale: str, direction: str, person: Person, path: Callable[[Stop], str], catalog: psycopg.Connection
) -> None:
    agent, _ = person("agent")
    catalog.execute("SELECT set_config('crm.tenant', %s, false)", [agent.tenant])
    catalog.execute("UPDATE notification_settings SET locale = %s", [locale])
    page = agent.client.get(path(Stop(agent.tenant, user=agent.user_id, what="reminder"))).text
    assert f'<html lang="{locale}" dir="{direction}">' in page


def test_a_link_that_was_changed_is_no_link(admin: Caller, path: Callable[[Stop], str]) -> None:
    right = path(Stop(admin.tenant, user=admin.user_id, what=DIGEST))
    other = path(Stop(admin.tenant, user="somebody else", what=DIGEST))
    swapped = right.partition(".")[0] + "." + other.partition(".")[2]
    for wrong in (
        right[:-1],
        swapped,
        f"{right.partition('.')[0]}.é",
        "/public/unsubscribe/x",
        f"/public/unsubscribe/{'x' * 5000}",
    ):
        refused(admin.client.get(wrong), 404, "NOT_FOUND")
        refused(admin.client.post(wrong), 404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["/public/unsubscribe/x", "/public/files/x"])
def test_guesses_are_limited_by_address(path: str, variant: Callable[..., TestClient[Litestar]]) -> None:
    limited = variant(auth_failures_per_minute=2)
    assert [limited.get(path).status_code for _ in range(3)] == [404, 404, 429]


def test_the_log_shows_no_link(admin: Caller, path: Callable[[Stop], str], capsys: pytest.CaptureFixture[str]) -> None:
    link = path(Stop(admin.tenant, user=admin.user_id, what=DIGEST))
    capsys.readouterr()
    admin.client.get(link)
    logged = capsys.readouterr().out
    assert "/public/unsubscribe/{token}" in logged
    assert link.rpartition("/")[2] not in logged
