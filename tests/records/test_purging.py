"""What has been in the trash for longer than its organization keeps it is deleted for good."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from app.db.database import Database
from app.jobs.metrics import OLDEST
from app.jobs.queue import tend
from app.records import maintenance
from app.records.maintenance import Sealing, Step, Upkeep, purge_trash, take_turn
from app.settings import Settings
from app.storage.objects import ObjectStore
from app.storage.removed import delete_removed_objects
from tests.admin.test_trash import fill
from tests.callers import Caller
from tests.records.chains import forget_turns


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
        for table in maintenance.TABLES_WITH_TRASH:
            owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            owner.execute(
                f"UPDATE {table} SET deleted_at = deleted_at - age, updated_at = updated_at - age"
                " FROM make_interval(days => %s) AS age WHERE deleted_at IS NOT NULL",
                [days],
            )
            owner.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def keys(settings: Settings, tenant: str) -> list[str]:
    store = ObjectStore(settings)
    # Objects that other tests have left to be deleted go in the same sweep.
    found = [each.key for each in store.every_object() if each.key.startswith(f"{tenant}/")]
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
    before = len(keys(settings, admin.tenant))
    assert purge(settings) == len(made)
    assert len(keys(settings, admin.tenant)) == before - 1
    assert purge(settings) == 0
    assert {row["id"] for row in admin.ok("GET", "/admin/trash", type="customer")["data"]} == {young["customer"]}
    assert stranger.ok("GET", "/admin/trash")["total"] == len(others)
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
    assert purge(settings) == len(made)
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


def test_what_somebody_is_restoring_is_not_purged(admin: Caller, settings: Settings) -> None:
    made, other = fill(admin), admin.customer()["id"]
    admin.ok("PUT", "/admin/settings", {"trash_days": 7})
    for customer in (made["customer"], other):
        admin.ok("DELETE", f"/admin/customers/{customer}")
    age(settings, admin.tenant, 8)
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        owner.execute("UPDATE customers SET deleted_at = NULL WHERE id = %s", [made["customer"]])
        assert purge(settings) == 1
    assert purge(settings) == 0
    assert admin.ok("GET", "/admin/trash")["total"] == 0
    assert admin.ok("GET", f"/admin/notes/{made['note']}")["id"] == made["note"]


def test_what_is_live_stays_with_what_it_belongs_to(admin: Caller, settings: Settings) -> None:
    made, other = fill(admin), admin.customer()["id"]
    admin.ok("PUT", "/admin/settings", {"trash_days": 7})
    for customer in (made["customer"], other):
        admin.ok("DELETE", f"/admin/customers/{customer}")
    age(settings, admin.tenant, 8)
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        owner.execute("UPDATE notes SET deleted_at = NULL WHERE id = %s", [made["note"]])
    purge(settings)
    assert admin.ok("GET", f"/admin/notes/{made['note']}")["id"] == made["note"]
    left = {row["type"]: row["id"] for row in admin.ok("GET", "/admin/trash")["data"]}
    assert left == {kind: made[kind] for kind in ("customer", "deal", "activity")}


def test_what_an_undo_puts_back_into_the_trash_has_its_days_again(admin: Caller, settings: Settings) -> None:
    made = fill(admin)
    path = f"/admin/customers/{made['customer']}"
    admin.ok("PUT", "/admin/settings", {"trash_days": 7})
    admin.ok("DELETE", path)
    age(settings, admin.tenant, 8)
    admin.ok("POST", f"{path}/restore")
    (restored,) = admin.audit(resource_type="customer", action="restore")
    admin.ok("POST", f"{path}/undo", {"entry_id": restored["id"]})
    assert admin.ok("GET", "/admin/trash")["total"] == len(made)
    assert purge(settings) == 0
    age(settings, admin.tenant, 8)
    assert purge(settings) == len(made)


@pytest.mark.slow
def test_a_large_trash_of_a_customer_on_hold_is_passed_over_quickly(admin: Caller, settings: Settings) -> None:
    made, free = fill(admin), admin.customer()["id"]
    admin.ok("PUT", "/admin/settings", {"trash_days": 7})
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        owner.execute(
            "INSERT INTO notes (tenant_id, content, author_id, activity_id)"
            " SELECT %s, 'Old', 'u', %s FROM generate_series(1, 10000)",
            [admin.tenant, made["activity"]],
        )
    admin.ok("DELETE", f"/admin/activities/{made['activity']}")
    admin.ok("DELETE", f"/admin/customers/{free}")
    age(settings, admin.tenant, 8)
    admin.ok("PATCH", f"/admin/customers/{made['customer']}", {"hold": True})
    began = time.monotonic()
    assert purge(settings) == 1
    assert time.monotonic() - began < 2


def test_a_step_that_fails_does_not_stop_the_others(
    admin: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Database) -> int:
        raise RuntimeError("broken")

    forget_turns(settings)
    monkeypatch.setattr(maintenance, "LOOK_EVERY_SECONDS", 0.0)
    for step in ("prune", "cut", "seal"):
        monkeypatch.setattr(maintenance, step, fail)
    made = fill(admin)
    admin.ok("PUT", "/admin/settings", {"trash_days": 7})
    admin.ok("DELETE", f"/admin/customers/{made['customer']}")
    age(settings, admin.tenant, 8)
    turns = 0
    enough, purged = asyncio.Event(), asyncio.Event()

    async def done() -> None:
        purged.set()

    async def look() -> None:
        nonlocal turns
        turns += 1
        if turns == 3:
            enough.set()

    async def work() -> None:
        async with Database(settings) as database:
            upkeep = asyncio.create_task(Upkeep(database, {"last": Step(done)}).run())
            await purged.wait()
            sealing = asyncio.create_task(Sealing(database, 0.01, {"look": look}).run())
            await enough.wait()
            for running in (upkeep, sealing):
                running.cancel()

    with capture_logs() as logged:
        asyncio.run(asyncio.wait_for(work(), 20))
    assert admin.ok("GET", "/admin/trash")["total"] == 0
    assert [each["step"] for each in logged if "step" in each] == ["prune", "cut", "seal"]
    purge(settings)  # the file


def test_the_upkeep_purges_and_deletes_files_by_itself(admin: Caller, settings: Settings) -> None:
    made = fill(admin)
    admin.ok("PUT", "/admin/settings", {"trash_days": 7})
    admin.ok("DELETE", f"/admin/customers/{made['customer']}")
    age(settings, admin.tenant, 8)
    before = len(keys(settings, admin.tenant))
    forget_turns(settings)

    async def work() -> None:
        store = ObjectStore(settings)
        async with Database(settings) as database:
            upkeep = Upkeep(database, {"objects": Step(partial(delete_removed_objects, database, store), 1)})
            running = asyncio.create_task(upkeep.run())
            for _ in range(500):
                await asyncio.sleep(0.02)
                if len(await asyncio.to_thread(keys, settings, admin.tenant)) < before:
                    break
            running.cancel()
        store.close()

    asyncio.run(work())
    assert len(keys(settings, admin.tenant)) == before - 1
    assert admin.ok("GET", "/admin/trash")["total"] == 0


def test_the_upkeep_of_a_minute_is_done_by_one_worker_of_many(settings: Settings) -> None:
    async def turns() -> list[bool]:
        async with Database(settings) as database:
            return await asyncio.gather(*(take_turn(database) for _ in range(10)))

    forget_turns(settings)
    # A minute may begin meanwhile.
    assert sum(asyncio.run(turns())) in {1, 2}
    assert sum(asyncio.run(turns())) in {0, 1}


def test_upkeep_that_nobody_does_shows_as_waiting(settings: Settings) -> None:
    async def look() -> float:
        async with Database(settings) as database:
            await tend(database)
            return next(sample.value for metric in OLDEST.collect() for sample in metric.samples)

    forget_turns(settings, "1 hour")
    assert asyncio.run(look()) >= 3500


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
