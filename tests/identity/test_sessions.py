"""Logging in, refreshing, and what ends a session."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import jwt
import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.identity.events import MOST_OF_PERSON
from app.settings import Settings
from tests.callers import refused
from tests.identity.conftest import Somebody


def test_who_registers_and_logs_in_is_let_into_the_crm(
    ada: Somebody, client: TestClient[Litestar], settings: Settings
) -> None:
    me = client.get("/admin/me", headers={"Authorization": f"Bearer {ada.session['access_token']}"}).json()["user"]
    assert (me["email"], me["name"], me["role"]) == (ada.email, "Ada", "admin")
    assert (me["id"], me["tenant_id"]) == (ada.id, ada.organization)
    claims = jwt.decode(ada.session["token"], settings.jwt_secret, ["HS256"], audience="platform-console")
    assert set(claims) == {
        *("sub", "user_id", "email", "name", "role", "tenant_id", "iss", "aud", "iat", "exp", "jti"),
    }
    assert claims["exp"] - int(claims["iat"]) == ada.session["expires_in"] == 15 * 60
    assert ada.session["organizations"] == [{"id": ada.organization, "name": "Engines", "role": "admin"}]


def test_the_console_logs_in_as_it_does_with_the_cms(ada: Somebody, client: TestClient[Litestar]) -> None:
    session = ada.ok("POST", "/admin/login", {"email": ada.email.upper(), "password": ada.password})
    headers = {"Authorization": f"Bearer {session['token']}"}
    assert ada.ok("GET", "/admin/me", headers=headers) == client.get("/admin/me", headers=headers).json()


@pytest.mark.parametrize("email", ["ada", "nobody@example.com"])
def test_a_wrong_login_does_not_say_what_was_wrong(ada: Somebody, email: str) -> None:
    email = ada.email if email == "ada" else email
    answer = ada.call("POST", "/auth/login", json={"email": email, "password": "wrong"})
    refused(answer, 401, "INVALID_CREDENTIALS")


def test_a_refresh_token_is_good_once_and_used_again_ends_the_session(
    ada: Somebody, identity_owner: psycopg.Connection
) -> None:
    first = ada.session["refresh_token"]
    second = ada.ok("POST", "/auth/refresh", {"refresh_token": first})
    assert second["refresh_token"] != first
    third = ada.ok("POST", "/auth/refresh", {"refresh_token": second["refresh_token"]})
    refused(ada.refresh(first), 401, "TOKEN_REUSED")
    refused(ada.refresh(third["refresh_token"]), 401, "INVALID_TOKEN")
    refused(ada.call("GET", "/auth/me", headers={"Authorization": f"Bearer {third['token']}"}), 401, "INVALID_TOKEN")
    assert "testclient" in ada.mail("session of yours")
    kinds = identity_owner.execute("SELECT kind FROM auth_events WHERE user_id = %s ORDER BY id", [ada.id]).fetchall()
    assert [kind for (kind,) in kinds] == ["registered", "logged_in", "refreshed", "refreshed", "token_reused"]


def test_two_refreshes_at_the_same_moment_get_the_same_pair(ada: Somebody) -> None:
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: ada.refresh(), range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    assert len({answer.json()["access_token"] for answer in answers}) == 1
    assert ada.refresh(answers[0].json()["refresh_token"]).status_code == 200


def test_a_spent_token_that_fifty_use_at_once_ends_the_session_for_all(
    ada: Somebody, identity_owner: psycopg.Connection
) -> None:
    newest = ada.refresh().json()["refresh_token"]
    identity_owner.execute(
        "UPDATE refresh_tokens SET spent_at = spent_at - interval '11 seconds' WHERE spent_at IS NOT NULL"
    )
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: ada.refresh(), range(50)))
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(401, "TOKEN_REUSED")}
    refused(ada.refresh(newest), 401, "INVALID_TOKEN")
    (told,) = identity_owner.execute(
        "SELECT count(*) FROM auth_events WHERE kind = 'token_reused' AND user_id = %s", [ada.id]
    ).fetchone() or (0,)
    assert told == 1


def test_after_a_logout_nothing_of_the_session_works(ada: Somebody) -> None:
    ada.ok("POST", "/auth/logout")
    refused(ada.refresh(), 401, "INVALID_TOKEN")
    refused(ada.call("GET", "/auth/me"), 401, "INVALID_TOKEN")


def test_a_person_sees_the_own_devices_and_ends_them(ada: Somebody, somebody: Callable[..., Somebody]) -> None:
    here = dict(ada.session)
    ada.log_in(headers={"User-Agent": "Telephone"})
    devices = ada.ok("GET", "/auth/sessions")
    assert [(each["user_agent"], each["is_current"]) for each in devices["data"]] == [
        ("Telephone", True),
        ("testclient", False),
    ]
    assert devices["data"][0]["address"] == ada.network
    bob = somebody("Bob")
    bob.register()
    bob.log_in()
    other = devices["data"][1]["id"]
    refused(bob.call("DELETE", f"/auth/sessions/{other}"), 404, "SESSION_NOT_FOUND")
    ada.ok("DELETE", f"/auth/sessions/{other}")
    refused(ada.refresh(here["refresh_token"]), 401, "INVALID_TOKEN")
    ada.ok("POST", "/auth/logout-all")
    refused(ada.refresh(), 401, "INVALID_TOKEN")


def test_nobody_logs_in_or_refreshes_without_end_and_nobody_else_waits_for_it(
    ada: Somebody, somebody: Callable[..., Somebody]
) -> None:
    bob = somebody("Bob")
    bob.network = ada.network
    bob.register()
    for _ in range(2 * MOST_OF_PERSON):
        answer = ada.refresh()
        if answer.status_code == 429:
            break
        ada.session = answer.json()
    refused(answer, 429, "RATE_LIMITED")
    codes = [ada.log_in().status_code for _ in range(2 * MOST_OF_PERSON)]
    assert codes[0] == 200
    assert MOST_OF_PERSON - 1 <= codes.count(200) < len(codes)
    assert bob.log_in().status_code == 200
    ada.network = "192.0.2.7"
    assert ada.log_in().status_code == 200
