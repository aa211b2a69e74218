"""A request that reads several times sees one moment, however much is written meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import psycopg
import pytest

from app.db.roles import enter_tenant
from app.db.session import Session
from app.settings import Settings
from tests.callers import Caller


@contextmanager
def between_statements(tenant: str, write: Callable[[], None]) -> Iterator[list[str]]:
    """Write after each statement that the service executes for this tenant, and not for what runs in the background;
    what it executed.
    """
    executed: list[str] = []
    send = Session._send

    async def sent(session: Session, compiled: Any, parameters: list[Any]) -> Any:
        cursor = await send(session, compiled, parameters)
        if tenant in session._identity.parameters:
            executed.append(compiled.sql)
            write()
        return cursor

    with patch.object(Session, "_send", sent):
        yield executed


@pytest.mark.parametrize(
    ("query", "least"),
    [
        ({}, 1),
        ({"page": "2"}, 1),
        ({"status": "lead"}, 1),
        ({"search": "lace"}, 2),
        ({"search": "lace", "page": "2"}, 2),
    ],
)
def test_rows_and_total_agree_while_others_write(
    query: dict[str, str], least: int, admin: Caller, settings: Settings
) -> None:
    for number in range(7):
        admin.customer(f"Lovelace {number}")
    add = "INSERT INTO customers (tenant_id, name) VALUES (%s, 'Lovelace the next')"
    with psycopg.connect(settings.database_dsn) as connection:

        def write() -> None:
            enter_tenant(connection, admin.tenant, {})
            connection.execute(add, [admin.tenant])
            connection.commit()

        with between_statements(admin.tenant, write) as executed:
            page = admin.ok("GET", "/admin/customers", page_size=5, **query)
    assert len(executed) >= least
    shown = 5 * (int(query.get("page", 1)) - 1) + len(page["data"])
    assert page["total"] == 7
    assert shown == (5 if "page" not in query else 7)


def test_a_record_s_notes_are_those_of_the_moment_when_the_record_was_found(admin: Caller, settings: Settings) -> None:
    customer = admin.customer("Ada")
    admin.ok("POST", f"/admin/customers/{customer['id']}/notes", {"content": "first"})
    add = "INSERT INTO notes (tenant_id, customer_id, content, author_id) VALUES (%s, %s, 'next', 'bob')"
    with psycopg.connect(settings.database_dsn) as connection:

        def write() -> None:
            enter_tenant(connection, admin.tenant, {})
            connection.execute(add, [admin.tenant, customer["id"]])
            connection.commit()

        with between_statements(admin.tenant, write) as executed:
            page = admin.ok("GET", f"/admin/customers/{customer['id']}/notes")
    assert len(executed) >= 2
    assert [note["content"] for note in page["data"]] == ["first"]
    assert page["total"] == 1
