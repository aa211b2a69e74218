"""Which records may be the same: found in the background, listed, dismissed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from app.admin.duplicates.watching import DuplicateWatch
from app.db.database import Database
from app.settings import Settings
from tests.bench.labelled import CONTACTS, CUSTOMERS, quality
from tests.callers import Caller, Callers, refused
from tests.records.chains import seal

Find = Callable[[], None]


@pytest.fixture
def find(settings: Settings, tenant: str) -> Find:
    """Do what the background does for the organization."""

    async def catch_up() -> None:
        async with Database(settings) as database:
            await DuplicateWatch(database).catch_up(tenant)

    def run() -> None:
        seal(settings)
        asyncio.run(catch_up())

    return run


def groups(caller: Caller, **query: Any) -> list[tuple[list[int], list[str]]]:
    """The members and the reasons of each group."""
    found = caller.ok("GET", "/admin/duplicates", **query)
    assert found["total"] == len(found["data"])
    return [([record["id"] for record in group["records"]], group["reasons"]) for group in found["data"]]


def alike(caller: Caller, *names: str, **fields: Any) -> list[int]:
    return [caller.customer(name, **fields)["id"] for name in names]


def test_most_of_what_somebody_labelled_is_found_and_little_else() -> None:
    for labelled in (CUSTOMERS, CONTACTS):
        found = quality(labelled)
        assert found.precision >= 0.9, found.wrong
        assert found.recall >= 0.9, found.missed


def test_what_is_like_another_one_is_found_and_forgotten_with_it(admin: Caller, find: Find) -> None:
    admin.ok("PUT", "/admin/settings", {"country": "DE"})
    before = alike(admin, "Müller GmbH", "MULLER", phone="+49 30 / 12345-67")
    find()  # all that was there before
    assert groups(admin) == [(before, ["same phone", "same name"])]
    third = admin.customer("Moller", phone="030 1234567")["id"]
    other = admin.customer("Something else")["id"]
    find()
    ((members, _),) = groups(admin)
    assert members == [*before, third]
    (first, second) = admin.ok("GET", f"/admin/customers/{third}/duplicates")["data"]
    assert (first["record"]["id"], second["record"]["id"]) == (before[0], before[1])
    assert admin.ok("GET", f"/admin/customers/{other}/duplicates") == {"data": [], "total": 0}
    admin.ok("DELETE", f"/admin/customers/{before[0]}")
    admin.ok("PATCH", f"/admin/customers/{third}", {"name": "Unlike", "phone": None})
    find()
    assert groups(admin) == []
    admin.ok("POST", f"/admin/customers/{before[0]}/restore")
    find()
    assert groups(admin) == [(before, ["same phone", "same name"])]


def test_groups_come_best_first_and_by_kind(admin: Caller, find: Find) -> None:
    customers = alike(admin, "Ada Lovelace", "Lovelace, Ada")
    contacts = [
        admin.ok("POST", f"/admin/customers/{each}/contacts", {"first_name": "Grace", "email": "g@navy.example"})["id"]
        for each in customers
    ]
    find()
    assert [members for members, _ in groups(admin)] == [contacts, customers]
    assert [members for members, _ in groups(admin, sort_order="asc")] == [customers, contacts]
    assert groups(admin, kind="contacts") == [(contacts, ["same email", "same name"])]
    (duplicate,) = admin.ok("GET", f"/admin/contacts/{contacts[0]}/duplicates")["data"]
    assert (duplicate["record"]["id"], duplicate["record"]["company"]) == (contacts[1], "Lovelace, Ada")


def test_phones_are_read_in_the_organizations_country(admin: Caller, find: Find) -> None:
    alike(admin, "Nordwind", phone="0711 998877", kind="organization")
    alike(admin, "Zephyr", phone="+49 711 998877", kind="organization")
    find()
    assert groups(admin) == []
    admin.ok("PUT", "/admin/settings", {"country": "DE"})
    find()
    assert [reasons for _, reasons in groups(admin)] == [["same phone"]]


def test_what_was_dismissed_is_never_shown_again(admin: Caller, agent: Caller, find: Find) -> None:
    one, other, third = alike(admin, "Ada Lovelace", "Ada Lovelace", "Ada  LOVELACE")
    find()
    body = {"ids": [other, one]}
    refused(agent.post("/admin/duplicates/dismiss", body), 403, "INSUFFICIENT_PERMISSIONS")
    (fault,) = refused(admin.post("/admin/duplicates/dismiss", {"ids": [one, 2**62]}), 400, "CUSTOMER_NOT_FOUND")[
        "fields"
    ]
    assert fault["field"] == "ids"
    admin.ok("POST", "/admin/duplicates/dismiss", body)
    ((members, _),) = groups(admin)
    assert members == [one, third]  # not together by the third one either
    assert [each["record"]["id"] for each in admin.ok("GET", f"/admin/customers/{one}/duplicates")["data"]] == [third]
    admin.ok("POST", "/admin/duplicates/dismiss", {"ids": [one, other, third]})
    assert groups(admin) == []
    admin.ok("PATCH", f"/admin/customers/{one}", {"name": "Ada M. Lovelace"})
    admin.ok("PATCH", f"/admin/customers/{one}", {"name": "Ada Lovelace", "company": "Engines"})
    find()
    assert groups(admin) == []


def test_what_many_have_in_common_tells_nothing(
    admin: Caller, service_connection: psycopg.Connection, find: Find
) -> None:
    admin.customer("Somebody")
    service_connection.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
    service_connection.execute(
        "INSERT INTO customers (tenant_id, name, kind) SELECT %s, 'Welcome desk', 'organization'"
        " FROM generate_series(1, 60)",
        [admin.tenant],
    )
    find()
    assert groups(admin) == []


def test_an_agent_sees_what_is_wholly_its_own(
    admin: Caller, agent: Caller, callers: Callers, own_scope: Any, find: Find
) -> None:
    limited = callers.person("agent", admin.tenant, user_id=agent.user_id, client=own_scope)
    mine = [agent.customer("Ada Lovelace")["id"] for _ in range(2)]
    alike(admin, "Grace Hopper", "Grace Hopper")
    agent.customer("Alan Turing")
    admin.customer("Alan Turing")
    find()
    assert len(groups(admin)) == 3
    assert [members for members, _ in groups(limited)] == [mine]


def test_an_erased_record_leaves_no_key(admin: Caller, settings: Settings, find: Find) -> None:
    one, other = alike(admin, "Ada Lovelace", "Ada Lovelace")
    find()
    admin.ok("POST", f"/admin/customers/{one}/erase", {"reason": "Asked for", "confirm": "Ada Lovelace"})
    keys = "SELECT DISTINCT record_id FROM duplicate_keys"
    with psycopg.connect(settings.database_dsn) as connection:
        connection.execute("SET ROLE crm_service")
        connection.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        assert connection.execute(keys).fetchall() == [(other,)]
    find()
    assert groups(admin) == []
