"""What has been in the trash for longer than its organization keeps it is deleted for good."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import psycopg
import pytest

from app.db.database import Database
from app.records import maintenance
from app.records.maintenance import Maintenance, purge_trash
from app.settings import Settings
from app.storage.objects import ObjectStore
from app.storage.removed import delete_removed_objects
from tests.admin.test_trash import fill
from tests.callers import Caller


def purge(settings: Settings) -> int:
    """All that is due, and its files."""

    async def work() -> int:
        async with Database(settings) as database:
            gone = 0
            while some := await purge_trash(database):
                gone += some
            store = ObjectStore(settings)
            while await delete_removed_objects(database, store):
                pass
            store.close()
            return gone

    return asyncio.run(work())


def age(settings: Settings, tenant: str, days: int) -> None:
    """Let everything in the trash have been there for so many days."""
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [tenant])
        for table in maintenance.WITH_TRASH:
            moved = f"UPDATE {table} SET deleted_at = deleted_at - make_interval(days => %s)"
            owner.execute(f"{moved} WHERE deleted_at IS NOT NULL", [days])


def keys(settings: Settings) -> list[str]:
    store = ObjectStore(settings)
    found = [each.key for each in store.every_object()]
    store.close()
    return found


def test_what_is_in_the_trash_too_long_is_purged_with_what_belongs_to_it(
    admin: Caller, stranger: Caller, settings: Settings
) -> None:
    made, young, others = fill(admin, "Ada"), fill(admin, "Grace"), fill(stranger, "Alan")
    admin.ok("PUT", "/admin/settings", {"trash_days": 30})
    for caller, each in ((admin, made), (stranger, others)):
        caller.ok("DELETE", f"/admin/customers/{each['customer']}")
        age(settings, caller.tenant, 31)
    admin.ok("DELETE", f"/admin/customers/{young['customer']}")
    before = len(keys(settings))
    assert purge(settings) == 6
    assert len(keys(settings)) == before - 1
    assert purge(settings) == 0
    assert {row["id"] for row in admin.ok("GET", "/admin/trash", type="customer")["data"]} == {young["customer"]}
    assert stranger.ok("GET", "/admin/trash")["total"] == 6
    told = admin.audit(action="purge")
    assert {(entry["resource_type"], entry["resource_id"]) for entry in told} == set(made.items())
    assert {(entry["via"], entry["user_id"], str(entry["changes"])) for entry in told} == {("job", None, "{}")}
    assert len({entry["operation_id"] for entry in told}) == 1


def test_what_is_too_much_at_once_is_purged_from_its_leaves(
    admin: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "PRUNED_AT_ONCE", 2)
    made = fill(admin)
    admin.ok("PUT", "/admin/settings", {"trash_days": 7})
    admin.ok("DELETE", f"/admin/customers/{made['customer']}")
    age(settings, admin.tenant, 8)
    assert purge(settings) == 6
    assert admin.ok("GET", "/admin/trash")["total"] == 0


def test_nothing_on_hold_is_purged_and_nothing_waits_for_it(admin: Caller, settings: Settings) -> None:
    held, free = fill(admin, "Ada"), fill(admin, "Grace")
    admin.ok("PUT", "/admin/settings", {"trash_days": 7})
    for each in (held, free):
        admin.ok("DELETE", f"/admin/deals/{each['deal']}")
    age(settings, admin.tenant, 8)
    admin.ok("PATCH", f"/admin/customers/{held['customer']}", {"hold": True})
    assert purge(settings) == 4
    assert {row["id"] for row in admin.ok("GET", "/admin/trash", type="deal")["data"]} == {held["deal"]}
    admin.ok("PATCH", f"/admin/customers/{held['customer']}", {"hold": False})
    assert purge(settings) == 4


def test_what_belongs_to_a_customer_on_hold_too_stays_and_the_others_go(admin: Caller, settings: Settings) -> None:
    first, second, third = (admin.customer(name)["id"] for name in ("Ada", "Grace", "Alan"))
    deal = admin.ok("POST", "/admin/deals", {"title": "Ship", "customer_id": first})["id"]
    note: dict[str, Any] = {"content": "Of both", "customer_id": second}
    both = admin.ok("POST", "/admin/notes", note)["id"]
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        owner.execute("UPDATE notes SET deal_id = %s WHERE id = %s", [deal, both])
    admin.ok("PUT", "/admin/settings", {"trash_days": 7})
    for customer in (first, third):
        admin.ok("DELETE", f"/admin/customers/{customer}")
    age(settings, admin.tenant, 8)
    admin.ok("PATCH", f"/admin/customers/{second}", {"hold": True})
    assert purge(settings) == 1
    left = admin.ok("GET", "/admin/trash")["data"]
    assert {(row["type"], row["id"]) for row in left} == {("customer", first), ("deal", deal), ("note", both)}


def test_the_upkeep_purges_and_deletes_files_by_itself(admin: Caller, settings: Settings) -> None:
    made = fill(admin)
    admin.ok("PUT", "/admin/settings", {"trash_days": 7})
    admin.ok("DELETE", f"/admin/customers/{made['customer']}")
    age(settings, admin.tenant, 8)
    before = len(keys(settings))

    async def work() -> None:
        store = ObjectStore(settings)
        async with Database(settings) as database:
            upkeep = Maintenance(database, 0.01, partial(delete_removed_objects, database, store))
            running = asyncio.create_task(upkeep.run())
            for _ in range(500):
                await asyncio.sleep(0.02)
                if len(await asyncio.to_thread(keys, settings)) < before:
                    break
            running.cancel()
        store.close()

    asyncio.run(work())
    assert len(keys(settings)) == before - 1
    assert admin.ok("GET", "/admin/trash")["total"] == 0


@pytest.mark.parametrize(("field", "days"), [("trash_days", 6), ("audit_days", 364)])
def test_nothing_is_kept_for_too_short(field: str, days: int, admin: Caller) -> None:
    assert admin.ok("GET", "/admin/settings")[field] is None
    assert admin.put("/admin/settings", {field: days}).status_code == 400
    assert admin.ok("PUT", "/admin/settings", {field: days + 1})[field] == days + 1
    assert admin.ok("PUT", "/admin/settings", {field: None})[field] is None


def test_a_country_is_one_of_iso_3166(admin: Caller) -> None:
    assert admin.ok("PUT", "/admin/settings", {"country": "DE"})["country"] == "DE"
    assert admin.put("/admin/settings", {"country": "XX"}).status_code == 400
    assert admin.ok("PUT", "/admin/settings", {"country": None})["country"] is None
