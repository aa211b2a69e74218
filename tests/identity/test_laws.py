"""Rules that hold for all of `crm identity`: generated from its routes and tables."""

from __future__ import annotations

import uuid
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.testing import TestClient
from psycopg import sql
from sqlalchemy.engine import make_url

from app.db.migrations import Migrations
from app.db.roles import ROLES
from app.dev.token import make_token
from app.identity.events import Kind
from app.identity.guards import Allows, Rule
from app.identity.main import create_identity
from app.identity.migrations import IDENTITY
from app.settings import Settings
from tests.callers import refused
from tests.identity.conftest import Somebody

# Who may call what. A route that is not here, or has no guard, fails the law below.
DECLARED = {
    Rule.ANYBODY: """
        POST /auth/register, POST /auth/verify-email, POST /auth/login, POST /admin/login, POST /auth/refresh,
        POST /auth/password/forgot, POST /auth/password/reset
    """,
    Rule.PERSON: """
        POST /auth/logout, POST /auth/logout-all, POST /auth/password/change, GET /auth/me, GET /admin/me,
        GET /auth/sessions, DELETE /auth/sessions/{session_id}, GET /auth/organizations/me, POST /auth/organizations
    """,
    Rule.ADMIN: """
        PATCH /auth/organizations/{organization_id}, GET /auth/organizations/{organization_id}/members,
        POST /auth/organizations/{organization_id}/members,
        PATCH /auth/organizations/{organization_id}/members/{user_id},
        DELETE /auth/organizations/{organization_id}/members/{user_id}
    """,
}
PROBES = {"/health", "/ready", "/live", "/metrics"}
SETTINGS = Settings(jwt_secret="only-for-the-routes", database_url="postgresql://localhost/none")


def operations() -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in create_identity(SETTINGS).routes:
        if isinstance(route, HTTPRoute) and route.path_format not in PROBES:
            for handler in route.route_handlers:
                for method in sorted(handler.http_methods - {"OPTIONS"}):
                    yield method, route.path_format, handler


OPERATIONS = sorted(operations(), key=itemgetter(1, 0))
GUARDED = [
    (method, path, handler) for method, path, handler in OPERATIONS if f"{method} {path}" not in DECLARED[Rule.ANYBODY]
]


def in_path(path: str, organization: str) -> str:
    return path.format(organization_id=organization, user_id=uuid.uuid4(), session_id=uuid.uuid4())


def test_every_route_has_the_guard_that_is_declared() -> None:
    found: dict[str, Rule] = {}
    for method, path, handler in OPERATIONS:
        (guard,) = handler.resolve_guards()
        assert isinstance(guard, Allows)
        found[f"{method} {path}"] = guard.rule
    declared = {each.strip(): rule for rule, text in DECLARED.items() for each in text.replace("\n", " ").split(",")}
    assert found == declared


@pytest.mark.parametrize(("method", "path", "_"), GUARDED, ids=[f"{method} {path}" for method, path, _ in GUARDED])
def test_without_a_token_of_an_open_session_nobody_gets_in(
    method: str, path: str, _: Any, ada: Somebody, settings: Settings
) -> None:
    path = in_path(path, ada.organization)
    ada.ok("POST", "/auth/logout")
    ended, ada.session = ada.session["token"], {}
    refused(ada.call(method, path), 401, "MISSING_TOKEN")
    elsewhere = make_token(settings, role="admin", tenant="acme")
    for token in (ended, elsewhere, ended[:-2], "x"):
        refused(ada.call(method, path, headers={"Authorization": f"Bearer {token}"}), 401, "INVALID_TOKEN")


def test_an_unknown_field_or_parameter_is_named_and_a_write_is_not_tried(ada: Somebody) -> None:
    body = {"email": ada.email, "password": ada.password, "remember": True}
    answer = ada.call("POST", "/auth/login", json=body)
    assert refused(answer, 400, "INVALID_REQUEST")["fields"][0]["field"] == "remember"
    assert ada.password not in answer.text
    refused(ada.call("GET", "/auth/me?verbose=1"), 400, "INVALID_REQUEST")
    refused(ada.call("POST", "/auth/logout", headers={"Dry-Run": "true"}), 400, "DRY_RUN_UNSUPPORTED")
    refused(ada.call("GET", "/auth/nowhere"), 404, "NOT_FOUND")
    refused(ada.call("PUT", "/auth/login"), 405, "METHOD_NOT_ALLOWED")


def test_the_models_are_what_the_migrations_make(identity_settings: Settings) -> None:
    work = Migrations(identity_settings.migration_dsn, identity_settings.database_dsn, line=IDENTITY)
    work.check()
    assert work.current() == "0003"


def test_neither_login_reads_the_others_tables(identity_settings: Settings, settings: Settings) -> None:
    with psycopg.connect(settings.migration_dsn) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'identity')"
        ).fetchall()
    assert {"users", "credentials"} <= {table for schema, table in tables if schema == "identity"}
    crm = [role for role in ROLES if role != "crm_identity"]
    for schema, table in tables:
        name = sql.Identifier(schema, table).as_string()
        with psycopg.connect(settings.migration_dsn) as connection:
            logins = {make_url(settings.database_dsn).username, *crm} if schema == "identity" else {"crm_identity"}
            logins |= {make_url(identity_settings.database_dsn).username} if schema == "public" else set()
            for login in logins:
                rights = "SELECT has_any_column_privilege(%s, %s::regclass, 'SELECT, INSERT, UPDATE')"
                assert connection.execute(rights, [login, name]).fetchone() == (False,), (login, name)


def test_nobody_changes_or_deletes_an_event(identity_settings: Settings) -> None:
    with psycopg.connect(identity_settings.database_dsn, options="-csearch_path=identity") as connection:
        connection.execute("SET ROLE crm_identity")
        for statement in ("DELETE FROM auth_events", "UPDATE auth_events SET kind = 'x'", "TRUNCATE auth_events"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(statement)


def test_nothing_secret_is_in_the_tables_in_events_or_in_logs(
    ada: Somebody,
    somebody: Callable[..., Somebody],
    identity_owner: psycopg.Connection,
    capsys: pytest.CaptureFixture[str],
) -> None:
    secrets = [ada.password, ada.session["token"], ada.session["refresh_token"], ada.secret("Confirm")]
    ada.ok("POST", "/auth/verify-email", {"token": secrets[-1]})
    first = ada.session["refresh_token"]
    ada.session = ada.refresh().json()
    secrets += [ada.session["token"], ada.session["refresh_token"]]
    wrong = "a wrong password that somebody typed"
    ada.log_in(wrong)
    ada.call("POST", "/auth/password/forgot", json={"email": ada.email})
    secrets.append(ada.secret("new password"))
    new = "another horse battery staple"
    ada.ok("POST", "/auth/password/reset", {"token": secrets[-1], "password": new})
    ada.log_in(new)
    secrets += [wrong, new, ada.session["token"], ada.session["refresh_token"]]
    bob = somebody("Bob")
    ada.ok("POST", f"/auth/organizations/{ada.organization}/members", {"email": bob.email, "role": "agent"})
    secrets.append(bob.secret("invites you"))
    assert bob.register(None, invitation=secrets[-1]).status_code == 201
    ada.ok("POST", "/auth/password/change", {"current_password": new, "new_password": f"{new}!"})
    ada.refresh(first)
    tables = [
        name for (name,) in identity_owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'identity'")
    ]
    dump = "\n".join(
        str(row) for name in tables for row in identity_owner.execute(f"SELECT to_jsonb({name})::text FROM {name}")
    )
    assert ada.email in dump
    logged = capsys.readouterr()
    for secret in secrets:
        assert secret not in dump
        assert secret not in logged.out + logged.err
        if len(secret) == 43:
            assert urlsafe_b64decode(secret + "=").hex() not in dump


def test_every_kind_of_event_is_noted_somewhere() -> None:
    code = "".join(path.read_text() for path in Path("app/identity").rglob("*.py"))
    assert [kind.name for kind in Kind if code.count(f"Kind.{kind.name}") == 0] == []


def test_two_ways_to_say_no_are_byte_for_byte_the_same(ada: Somebody, somebody: Callable[..., Somebody]) -> None:
    def ask(path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        answer: httpx.Response = somebody("Eve").call("POST", path, json=body)
        return answer.status_code, answer.content

    unknown = f"{uuid.uuid4().hex}@example.com"
    for path, more in (
        ("/auth/login", {"password": "wrong password"}),
        ("/admin/login", {"password": "wrong password"}),
        ("/auth/password/forgot", {}),
        ("/auth/register", {"password": "correct horse battery", "name": "Eve", "organization": "E"}),
    ):
        assert ask(path, {"email": ada.email, **more}) == ask(path, {"email": unknown, **more})


def test_a_login_without_rights_is_told_which_command_gives_them(
    identity_settings: Settings,
    identity_owner: psycopg.Connection,
    other_identity: Callable[..., TestClient[Litestar]],
    somebody: Callable[..., Somebody],
    capsys: pytest.CaptureFixture[str],
) -> None:
    identity_owner.execute("CREATE ROLE crm_identity_stranger LOGIN PASSWORD 'test'")
    try:
        own = make_url(identity_settings.database_dsn).set(username="crm_identity_stranger")
        eve = somebody("Eve", other_identity(database_url=own.render_as_string(hide_password=False)))
        refused(eve.log_in(), 503, "SERVICE_UNAVAILABLE")
        logged = capsys.readouterr()
        assert "run crm identity upgrade" in logged.out + logged.err
    finally:
        identity_owner.execute("DROP ROLE crm_identity_stranger")
