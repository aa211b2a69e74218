"""Customers on hold: nothing of them is deleted."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from app.records.resources import RESOURCES
from app.settings import Settings
from tests.admin.test_trash import fill
from tests.callers import Caller, refused

PATHS = {resource.kind: f"/admin/{resource.table.name}" for resource in RESOURCES if resource.has_trash}


@pytest.mark.parametrize("kind", PATHS)
def test_nothing_of_a_customer_on_hold_goes_into_the_trash(kind: str, admin: Caller) -> None:
    held, other = fill(admin, "Ada"), fill(admin, "Grace")
    path = f"/admin/customers/{held['customer']}"
    assert admin.ok("PATCH", path, {"hold": True})["hold"] is True
    assert [row["id"] for row in admin.ok("GET", "/admin/customers", hold="true")["data"]] == [held["customer"]]
    assert [row["id"] for row in admin.ok("GET", "/admin/customers", hold="false")["data"]] == [other["customer"]]
    refused(admin.delete(f"{PATHS[kind]}/{held[kind]}"), 409, "ON_HOLD")
    admin.ok("GET", f"{PATHS[kind]}/{held[kind]}")
    admin.ok("DELETE", f"{PATHS[kind]}/{other[kind]}")
    admin.ok("PATCH", path, {"hold": False})
    admin.ok("DELETE", f"{PATHS[kind]}/{held[kind]}")


@pytest.mark.parametrize("kind", PATHS)
def test_the_database_itself_keeps_what_is_on_hold(kind: str, admin: Caller, settings: Settings) -> None:
    made = fill(admin)
    admin.ok("PATCH", f"/admin/customers/{made['customer']}", {"hold": True})
    table = PATHS[kind].removeprefix("/admin/")
    # What others refer to is kept by its foreign keys already.
    deleting = [f"DELETE FROM {table}"] if kind in {"note", "attachment"} else []
    for statement in (f"UPDATE {table} SET deleted_at = now()", *deleting):
        with psycopg.connect(settings.migration_dsn) as owner:
            owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
            with pytest.raises(errors.CheckViolation, match="on hold"):
                owner.execute(statement)


def test_what_is_in_the_trash_already_is_not_deleted_for_good(admin: Caller, settings: Settings) -> None:
    made = fill(admin)
    admin.ok("DELETE", f"/admin/deals/{made['deal']}")
    admin.ok("PATCH", f"/admin/customers/{made['customer']}", {"hold": True})
    alone = admin.customer("Grace", hold=True)["id"]
    for statement in ("DELETE FROM notes", f"DELETE FROM customers WHERE id = {alone}"):
        with psycopg.connect(settings.migration_dsn) as owner:
            owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
            with pytest.raises(errors.CheckViolation, match="on hold"):
                owner.execute(statement)


def test_nothing_is_moved_away_from_a_customer_on_hold(admin: Caller, agent: Caller) -> None:
    made, free = fill(admin), admin.customer("Grace")["id"]
    deal, activity = f"/admin/deals/{made['deal']}", f"/admin/activities/{made['activity']}"
    mine, other = (agent.ok("POST", "/admin/customers", {"name": name})["id"] for name in ("Alan", "Edith"))
    note = f"/admin/notes/{agent.ok('POST', '/admin/notes', {'content': 'Mine', 'customer_id': mine})['id']}"
    for customer in (made["customer"], mine):
        admin.ok("PATCH", f"/admin/customers/{customer}", {"hold": True})
    refused(admin.patch(deal, {"customer_id": free}), 409, "ON_HOLD")
    refused(admin.patch(activity, {"deal_id": None}), 409, "ON_HOLD")
    refused(admin.patch(activity, {"deal_id": None, "customer_id": free}), 409, "ON_HOLD")
    refused(agent.patch(note, {"customer_id": other}), 409, "ON_HOLD")
    body = {"ids": [made["note"]], "action": "update", "values": {"activity_id": None, "customer_id": free}}
    data = refused(admin.post("/admin/notes/bulk", body), 409, "BULK_REFUSED")
    assert [each["code"] for each in data["refused"]] == ["ON_HOLD"]
    # It may be moved to where it is kept as well.
    admin.ok("PATCH", activity, {"deal_id": None, "customer_id": made["customer"]})
    admin.ok("PATCH", deal, {"customer_id": mine})
    admin.ok("PATCH", f"/admin/customers/{mine}", {"hold": False})
    admin.ok("PATCH", deal, {"customer_id": free})
    agent.ok("PATCH", note, {"customer_id": other})


@pytest.mark.parametrize("table", ["contacts", "deals", "activities", "notes", "attachments"])
def test_the_database_itself_keeps_it_with_the_customer(table: str, admin: Caller, settings: Settings) -> None:
    made = fill(admin)
    away = f"UPDATE {table} SET customer_id = {admin.customer()['id']}"
    links = {"activities": "deal_id", "notes": "activity_id", "attachments": "activity_id"}
    away += f", {links[table]} = NULL" if table in links else ""
    admin.ok("PATCH", f"/admin/customers/{made['customer']}", {"hold": True})
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        with pytest.raises(errors.CheckViolation, match="on hold"):
            owner.execute(away)


def test_only_admins_put_a_customer_on_hold(admin: Caller, manager: Caller) -> None:
    refused(manager.post("/admin/customers", {"name": "Ada", "hold": True}), 403, "INSUFFICIENT_PERMISSIONS")
    path = f"/admin/customers/{admin.customer(hold=True)['id']}"
    shown = manager.ok("GET", path)
    assert shown["hold"] is True
    refused(manager.patch(path, {"hold": False}), 403, "INSUFFICIENT_PERMISSIONS")
    assert manager.ok("PUT", path, shown | {"name": "Grace"})["name"] == "Grace"
    assert admin.audit(resource_type="customer")[0]["changes"].keys() == {"name"}
    admin.ok("PATCH", path, {"hold": False})
    assert admin.audit(resource_type="customer")[0]["changes"] == {"hold": {"old": True, "new": False}}


def test_only_admins_take_back_that_a_customer_was_put_on_hold(admin: Caller, manager: Caller) -> None:
    path = f"/admin/customers/{admin.customer()['id']}"
    admin.ok("PATCH", path, {"hold": True})
    (entry, _) = admin.ok("GET", f"{path}/versions")["data"]
    refused(manager.post(f"{path}/undo", {"entry_id": entry["id"]}), 403, "INSUFFICIENT_PERMISSIONS")
    admin.ok("POST", f"{path}/undo", {"entry_id": entry["id"]})
    assert manager.ok("GET", path)["hold"] is False


def test_a_bulk_deletion_says_which_are_on_hold(admin: Caller) -> None:
    held, free = admin.customer(hold=True)["id"], admin.customer()["id"]
    wanted = {"ids": [held, free], "action": "trash", "partial": True}
    done = admin.ok("POST", "/admin/customers/bulk", wanted)
    assert [(each["id"], each["code"]) for each in done["refused"]] == [(held, "ON_HOLD")]
    assert done["changed"] == 1
    assert admin.ok("GET", f"/admin/customers/{held}")["hold"] is True
