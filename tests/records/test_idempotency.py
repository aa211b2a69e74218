"""Trying again with an Idempotency-Key."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from app.db.database import Database
from app.db.roles import enter_tenant
from app.records.maintenance import prune
from app.settings import Settings
from tests.callers import Caller, Callers, refused

KEY = {"Idempotency-Key": "a-key"}


def test_the_same_request_again_gets_the_same_answer_and_does_nothing(admin: Caller) -> None:
    first = admin.post("/admin/customers", {"name": "Ada"}, headers=KEY)
    again = admin.post("/admin/customers", {"name": "Ada"}, headers=KEY)
    assert (again.status_code, again.content, again.headers["ETag"]) == (201, first.content, '"1"')
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert admin.ok("GET", "/admin/customers")["total"] == 1


def test_another_request_under_the_key_is_refused(admin: Caller) -> None:
    customer = admin.post("/admin/customers", {"name": "Ada"}, headers=KEY).json()
    refused(admin.post("/admin/customers", {"name": "Bob"}, headers=KEY), 422, "IDEMPOTENCY_KEY_REUSED")
    refused(admin.post(f"/admin/customers/{customer['id']}/restore", headers=KEY), 422, "IDEMPOTENCY_KEY_REUSED")


def test_a_refused_request_leaves_its_key_free(admin: Caller) -> None:
    holder = admin.customer(email="ada@example.com")
    body = {"name": "B", "email": "ada@example.com"}
    refused(admin.post("/admin/customers", body, headers=KEY), 409, "EMAIL_EXISTS")
    admin.ok("DELETE", f"/admin/customers/{holder['id']}")
    assert admin.post("/admin/customers", body, headers=KEY).status_code == 201


def test_keys_of_other_people_and_organizations_are_their_own(callers: Callers, tenant: str, admin: Caller) -> None:
    people = [admin, callers.person("admin", tenant), callers.person("admin", f"{tenant}-b", user_id=admin.user_id)]
    ids = {person.post("/admin/customers", {"name": "Ada"}, headers=KEY).json()["id"] for person in people}
    assert len(ids) == 3


def test_fifty_at_once_under_one_key_make_one_customer(admin: Caller) -> None:
    admin.ok("GET", "/admin/me")
    with ThreadPoolExecutor(15) as pool:
        answers = list(pool.map(lambda _: admin.post("/admin/customers", {"name": "Ada"}, headers=KEY), range(50)))
    for answer in answers:
        if answer.status_code != 201:
            refused(answer, 409, "REQUEST_IN_PROGRESS")
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert admin.ok("GET", "/admin/customers")["total"] == 1


def test_while_the_first_is_still_running_the_next_is_told_so_and_does_not_wait(
    admin: Caller, settings: Settings
) -> None:
    admin.ok("GET", "/admin/me")
    waiting = "SELECT 1 FROM pg_locks WHERE relation = 'customers'::regclass AND NOT granted"
    with ThreadPoolExecutor(1) as pool, psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("LOCK TABLE customers IN EXCLUSIVE MODE")
        first = pool.submit(admin.post, "/admin/customers", {"name": "Ada"}, headers=KEY)
        while not first.done() and not owner.execute(waiting).fetchone():
            pass
        refused(admin.post("/admin/customers", {"name": "Ada"}, headers=KEY), 409, "REQUEST_IN_PROGRESS")
        owner.rollback()
        assert first.result().status_code == 201


@pytest.mark.parametrize("key", ["", "with space", "ü", "x" * 256])
def test_a_key_is_visible_ascii(admin: Caller, key: str) -> None:
    answer = admin.call("POST", "/admin/customers", json={"name": "A"}, headers={"Idempotency-Key": key.encode()})  # type: ignore[dict-item]  # httpx takes bytes
    data = refused(answer, 400, "INVALID_REQUEST")
    assert data["fields"][0]["field"] == "Idempotency-Key"


def test_a_key_is_free_again_after_a_day(admin: Caller, settings: Settings) -> None:
    first = admin.post("/admin/customers", {"name": "Ada"}, headers=KEY).json()
    with psycopg.connect(settings.database_dsn) as connection:
        enter_tenant(connection, admin.tenant, {})
        connection.execute("UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 second'")
    second = admin.post("/admin/customers", {"name": "Ada"}, headers=KEY)
    assert second.json()["id"] != first["id"]


def test_a_key_is_dropped_after_a_day_and_no_sooner(admin: Caller, settings: Settings) -> None:
    for key in ("old", "older", "young"):
        admin.post("/admin/tags", {"name": key}, headers={"Idempotency-Key": key})
    with psycopg.connect(settings.database_dsn) as connection:
        enter_tenant(connection, admin.tenant, {})
        age = "UPDATE idempotency_keys SET created_at = now() - %s::interval WHERE key = %s"
        connection.execute(age, ["24 hours 1 second", "old"])
        connection.execute(age, ["1 year", "older"])
        connection.execute(age, ["23 hours 59 minutes", "young"])

    async def pruned() -> int:
        async with Database(settings) as database:
            return await prune(database)

    assert asyncio.run(pruned()) >= 2
    assert asyncio.run(pruned()) == 0
    with psycopg.connect(settings.database_dsn) as connection:
        enter_tenant(connection, admin.tenant, {})
        assert connection.execute("SELECT key FROM idempotency_keys").fetchall() == [("young",)]
