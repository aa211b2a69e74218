"""The commands of `crm identity`, and the program itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from click.testing import Result
from litestar import Litestar
from litestar.testing import TestClient
from msgspec import json

from app.settings import Settings
from tests.callers import refused
from tests.identity.conftest import PASSWORD, Somebody
from tests.processes import crm, crm_here, wait_until


@pytest.fixture
def run(identity_settings: Settings) -> Callable[..., Result]:
    """A command, with what it reads from standard input."""

    def command(*arguments: str, typed: str = "") -> Result:
        environment = {
            "DATABASE_URL": identity_settings.database_dsn,
            "MIGRATION_DATABASE_URL": identity_settings.migration_dsn,
            "JWT_SECRET": identity_settings.jwt_secret,
            "PASSWORD_HASH_MEMORY_KIB": "64",
            "PASSWORD_HASH_TIME": "1",
        }
        return crm_here("identity", *arguments, typed=typed, **environment)

    return command


def test_the_first_admin_is_made_by_a_command_and_others_join_the_organization(
    run: Callable[..., Result], somebody: Callable[..., Somebody]
) -> None:
    ada, bob = somebody("Ada"), somebody("Bob")
    called = f"Engines {uuid.uuid4().hex[:8]}"
    missing = run(
        "user", "add", bob.email, "--name", "Bob", "--organization", called, "--role", "agent", typed=PASSWORD
    )
    assert "first one of a new one is its admin" in missing.stderr
    added = run("user", "add", ada.email, "--name", "Ada", "--organization", called, typed=f"{PASSWORD}\n")
    assert added.stdout == f"{ada.email} can log in.\n", added.stderr
    assert ada.log_in().json()["user"]["role"] == "admin"
    run("user", "add", bob.email, "--name", "Bob", "--organization", called, "--role", "agent", typed=PASSWORD)
    assert bob.log_in().json()["organizations"][0] == {"id": ada.organization, "name": called, "role": "agent"}
    again = run("user", "add", ada.email, "--name", "Ada", "--organization", called, typed=PASSWORD)
    assert (again.exit_code, "is there already" in again.stderr) == (1, True)
    listed = [line.split("\t") for line in run("user", "list").stdout.splitlines()]
    assert [ada.id, ada.email, "Ada", "active", f"{ada.organization} admin"] in listed
    places = [line.split("\t") for line in run("organization", "list").stdout.splitlines()]
    assert [each[4] for each in places if each[:3] == [ada.organization, called, ada.email]] == ["2"]


@pytest.mark.parametrize(
    ("email", "password", "reason"),
    [
        ("ada", PASSWORD, "not a valid address"),
        ("ada@example.com", "pass\0word long enough", "nobody can type"),
        ("a@example.com", "12345678", "most common"),
        ("a@example.com", "", "8 to"),
    ],
)
def test_a_person_that_will_not_do_is_one_line(
    run: Callable[..., Result], email: str, password: str, reason: str
) -> None:
    answer = run("user", "add", email, "--name", "A", "--organization", "B", typed=password)
    assert answer.exit_code != 0
    assert reason in answer.stderr
    assert "Traceback" not in answer.stderr


def test_who_is_disabled_is_out_and_who_is_reset_sets_a_new_password(
    ada: Somebody, run: Callable[..., Result], client: TestClient[Litestar]
) -> None:
    in_crm = {"Authorization": f"Bearer {ada.session['token']}"}
    assert client.get("/admin/me", headers=in_crm).status_code == 200
    run("user", "disable", ada.email)
    wait_until(lambda: client.get("/admin/me", headers=in_crm).status_code == 401, "the token is refused", at_most=5)
    refused(ada.refresh(), 401, "INVALID_TOKEN")
    refused(ada.log_in(), 401, "INVALID_CREDENTIALS")
    run("user", "enable", ada.email)
    secret = run("user", "reset", ada.email).stdout.strip()
    ada.ok("POST", "/auth/password/reset", {"token": secret, "password": "another horse battery"})
    assert ada.log_in("another horse battery").status_code == 200
    assert run("user", "disable", "nobody@example.com").exit_code == 1


def test_events_say_what_happened_newest_first(ada: Somebody, run: Callable[..., Result]) -> None:
    ada.log_in("wrong password")
    lines = [json.decode(line) for line in run("events", "--email", ada.email.upper()).stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["login_failed", "logged_in", "registered"]
    assert {line["network"] for line in lines} == {ada.network}


@pytest.mark.slow
def test_in_production_it_refuses_a_login_that_reads_the_crm(settings: Settings) -> None:
    answer = crm(
        *("identity", "serve", "--port", "0"),
        ENVIRONMENT="production",
        JWT_SECRET="s" * 32,
        DATABASE_URL=settings.database_dsn,
    )
    assert answer.returncode == 1
    assert "login of its own" in answer.stderr
