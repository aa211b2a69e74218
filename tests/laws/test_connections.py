"""Requests without a valid token, or to unknown addresses, take no database connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any
from unittest.mock import patch

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.access.memberships import TASK as MEMBERSHIPS
from app.db.pool import Connection, Pool
from app.events.waiting import TASK as NEW_EVENTS
from app.main import create_app
from app.settings import Settings
from tests.access.test_tokens import FORGED, REFUSED, signed
from tests.callers import Caller, refused
from tests.client import InProcess
from tests.conftest import SECRET
from tests.laws.routes import ADMIN, CONSOLE

NOT_OURS = {
    **FORGED,
    **{name: signed(claims, SECRET) for name, (claims, _) in REFUSED.items()},
}


_asking: ContextVar[bool] = ContextVar("asking", default=False)


@pytest.fixture
def connections() -> Iterator[list[object]]:
    """One item for each connection that the pool gave out for a request, and not for what runs in the background."""
    taken: list[object] = []
    acquire, answer = Pool.acquire, Litestar.__call__

    async def asked(app: Litestar, scope: Any, receive: Any, send: Any) -> None:
        _asking.set(scope["type"] == "http")
        await answer(app, scope, receive, send)

    async def counted(pool: Pool) -> Connection:
        connection = await acquire(pool)
        task = asyncio.current_task()
        # The first request of a worker begins what it asks for by itself.
        if _asking.get() and (task is None or task.get_name() not in (MEMBERSHIPS, NEW_EVENTS)):
            taken.append(connection)
        return connection

    with patch.object(Pool, "acquire", counted), patch.object(Litestar, "__call__", asked):
        yield taken


def test_the_counter_counts(connections: list[object], admin: Caller) -> None:
    admin.ok("GET", "/admin/customers")
    assert connections


def test_no_broken_token_takes_a_connection(connections: list[object], client: TestClient[Litestar]) -> None:
    for name, token in NOT_OURS.items():
        for method, path in (
            ("GET", "/admin/customers"),
            ("POST", "/admin/customers"),
            ("GET", "/console/admin/deals"),
        ):
            answer = client.request(method, path, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 401, (name, answer.text)
    assert connections == []


def test_no_route_takes_a_connection_without_a_token(connections: list[object], client: TestClient[Litestar]) -> None:
    for operation in (*ADMIN, *CONSOLE):
        answer = client.request(operation.method, operation.url(), **operation.payload())
        assert answer.status_code == 401, operation
    assert connections == []


def test_neither_unknown_paths_nor_wrong_methods_take_one(connections: list[object], admin: Caller) -> None:
    for path in (
        "/",
        "/admin",
        "/admin/nothing",
        "/admin/customers/1/nothing",
        "/console/nothing",
    ):
        refused(admin.get(path), 404, "NOT_FOUND")
    for operation in ADMIN:
        for method in ("TRACE", "PROPFIND"):
            refused(admin.call(method, operation.url()), 405, "METHOD_NOT_ALLOWED")
    assert connections == []


def test_what_has_no_token_is_refused_alike_while_the_database_is_away() -> None:
    nowhere = "postgresql://crm@127.0.0.1:1/crm"
    away = Settings(jwt_secret=SECRET, database_url=nowhere, upkeep_seconds=0, jobs_in_service=False)
    with InProcess(create_app(away)) as client:
        assert client.get("/health").status_code == 503
        refused(client.get("/admin/customers"), 401, "MISSING_TOKEN")
        refused(client.get("/nowhere"), 404, "NOT_FOUND")
        refused(client.patch("/admin/me"), 405, "METHOD_NOT_ALLOWED")
