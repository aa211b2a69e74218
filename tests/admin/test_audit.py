"""The audit log, as an admin reads it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from app.settings import Settings
from tests.callers import Caller, Callers, refused


def test_a_change_tells_who_did_what_in_which_request(callers: Callers, tenant: str) -> None:
    admin = callers.person("admin", tenant, user_id="77", name="Ada Admin")
    customer = admin.customer("Ada")
    answer = admin.patch(
        f"/admin/customers/{customer['id']}",
        {"status": "active", "assigned_to": 12, "next_follow_up_at": "2027-03-01T10:00:00+01:00"},
        headers={"X-Request-ID": "request-7", "User-Agent": "console/1"},
    )
    assert answer.headers["X-Request-ID"] == "request-7"
    (entry,) = admin.audit(request_id="request-7")
    assert entry == admin.ok("GET", f"/admin/audit/{entry['id']}")
    assert entry | {"id": 0, "created_at": 0, "ip_address": 0} == {
        "id": 0,
        "created_at": 0,
        "ip_address": 0,
        "resource_type": "customer",
        "resource_id": customer["id"],
        "action": "update",
        "user_id": 77,
        "user_name": "Ada Admin",
        "user_role": "admin",
        "changes": {
            "status": {"old": "lead", "new": "active"},
            "assigned_to": {"old": None, "new": 12},
            "next_follow_up_at": {"old": None, "new": "2027-03-01T09:00:00Z"},
        },
        "old_values": {"status": "lead", "assigned_to": None, "next_follow_up_at": None},
        "new_values": {"status": "active", "assigned_to": 12, "next_follow_up_at": "2027-03-01T09:00:00Z"},
        "user_agent": "console/1",
        "request_id": "request-7",
        "version": 2,
        "operation_id": answer.headers["X-Operation-Id"],
        "via": "api",
        "sequence": None,
        "hash": None,
    }


def test_a_record_s_whole_life_is_in_the_log(admin: Caller) -> None:
    customer = admin.customer("Ada", email="ada@example.com", contact_preferences={"rate": 0.10})
    path = f"/admin/customers/{customer['id']}"
    admin.ok("PATCH", path, {"name": "Ada L"})
    admin.ok("DELETE", path)
    admin.ok("POST", f"{path}/restore")
    restore, delete, update, create = admin.audit(resource_type="customer", resource_id=customer["id"])
    assert [entry["action"] for entry in (create, update, delete, restore)] == ["create", "update", "delete", "restore"]
    shown = {name: value for name, value in customer.items() if name not in {"version", "updated_at"}}
    assert create["old_values"] is None
    assert create["new_values"] == shown
    assert create["changes"]["email"] == {"old": None, "new": "ada@example.com"}
    assert "phone" not in create["changes"]
    assert delete["old_values"] == shown | {"name": "Ada L"}
    assert set(delete["changes"]) == set(restore["changes"]) == {"deleted_at"}
    assert restore["changes"]["deleted_at"] == {"old": delete["changes"]["deleted_at"]["new"], "new": None}


def test_only_admins_read_it(manager: Caller, agent: Caller) -> None:
    for caller in (manager, agent):
        refused(caller.get("/admin/audit"), 403, "INSUFFICIENT_PERMISSIONS")
        refused(caller.get("/admin/audit/1"), 403, "INSUFFICIENT_PERMISSIONS")


def test_it_is_filtered_by_person_action_and_time(admin: Caller, manager: Caller) -> None:
    customer = admin.customer("Ada")
    manager.ok("PATCH", f"/admin/customers/{customer['id']}", {"name": "B"})
    assert [entry["action"] for entry in admin.audit(user_id=manager.user_id)] == ["update"]
    assert [entry["action"] for entry in admin.audit(user_id="me")] == ["create"]
    assert [entry["action"] for entry in admin.audit(action="update,delete")] == ["update"]
    assert admin.audit(**{"from": "2099-01-01"}) == []
    assert len(admin.audit(to="2099-01-01")) == 2


def test_fifty_concurrent_writes_leave_one_entry_each(admin: Caller) -> None:
    shared = admin.customer("Shared")
    before = len(admin.audit())

    def write(number: int) -> int:
        if number % 2:
            return admin.post("/admin/customers", {"name": f"N{number}"}).status_code
        return admin.patch(f"/admin/customers/{shared['id']}", {"name": f"N{number}"}).status_code

    with ThreadPoolExecutor(15) as pool:
        assert set(pool.map(write, range(50))) == {200, 201}
    entries = admin.audit()
    assert len(entries) == before + 50
    assert len({(entry["resource_id"], entry["request_id"]) for entry in entries}) == before + 50
    assert admin.ok("GET", f"/admin/customers/{shared['id']}")["version"] == 26


def test_settings_are_audited_when_somebody_changes_them_not_when_they_appear(admin: Caller) -> None:
    admin.ok("GET", "/admin/settings")
    assert admin.audit() == []
    admin.ok("PUT", "/admin/settings", {"default_currency": "EUR"})
    (entry,) = admin.audit()
    assert (entry["resource_type"], entry["changes"]) == (
        "settings",
        {"default_currency": {"old": "USD", "new": "EUR"}},
    )


@pytest.mark.parametrize("amount", ["0", "1500", "10.5", "0.0001", "999999999999999.9999"])
def test_an_amount_is_audited_as_the_deal_shows_it(admin: Caller, amount: str) -> None:
    body = f'{{"title": "D", "customer_id": {admin.customer()["id"]}, "currency": "CLF", "amount": {amount}}}'
    made = admin.call("POST", "/admin/deals", content=body, headers={"Content-Type": "application/json"})
    told = admin.get("/admin/audit", resource_type="deal")
    for text in (made.text, told.text):
        assert f'"amount":{amount},' in text


def test_a_time_that_no_calendar_has_is_shown_as_it_was_written(admin: Caller, settings: Settings) -> None:
    """Records may have had such times once; their entries stay."""
    admin.ok("GET", "/admin/me")
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [admin.tenant])
        owner.execute(
            "INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action, new_values)"
            " VALUES (%s, 'customer', 1, 'create', jsonb_build_object('created_at', timestamptz '0044-03-15 BC',"
            " 'deleted_at', timestamptz 'infinity', 'next_follow_up_at', timestamptz '20000-01-01 00:00+00'))",
            [admin.tenant],
        )
    (entry,) = admin.audit()
    assert entry["new_values"]["deleted_at"] == "infinity"
    assert entry["new_values"]["created_at"].endswith("BC")
    assert entry["new_values"]["next_follow_up_at"].startswith("20000-01-01")
