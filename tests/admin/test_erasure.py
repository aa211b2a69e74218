"""Erasing a customer or a contact, with all that belongs to it, for good."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from msgspec import convert

from app.records.erasure import Receipt
from app.settings import Settings
from tests.admin.test_trash import fill
from tests.callers import Caller, refused
from tests.records.chains import breaks, seal
from tests.records.test_purging import age, purge

CANARY = "Unmistakable-7f3a"
ALL = {"customers": 1, "contacts": 1, "deals": 1, "projects": 1, "activities": 1, "notes": 1, "attachments": 1}


def erase(caller: Caller, path: str, confirm: str, **more: Any) -> Any:
    response = caller.post(f"{path}/erase", {"reason": "Asked for it", "confirm": confirm}, **more)
    assert response.status_code == 200, response.text
    return response.json()


def found(settings: Settings, tenant: str, word: str) -> set[str]:
    """The tables that have this word of small letters and digits, or its bytes, anywhere."""
    is_in = "SELECT EXISTS (SELECT FROM {0} WHERE strpos({0}::text, %s) + strpos({0}::text, %s) > 0)"
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [tenant])
        tables = [name for (name,) in owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        words = [word, word.encode().hex()]
        return {name for name in tables if owner.execute(is_in.format(name), words).fetchone() == (True,)}


def test_a_customer_is_erased_with_everything_that_belongs_to_it(admin: Caller, settings: Settings) -> None:
    name = f"ada{uuid4().hex}"
    made, other = fill(admin, name), fill(admin, "Grace")
    path = f"/admin/customers/{made['customer']}"
    admin.ok("DELETE", f"/admin/notes/{made['note']}")
    refused(admin.post(f"{path}/erase", {"reason": "why", "confirm": "Adam"}), 400, "INVALID_REQUEST")
    assert {"audit_entries", "contacts", "customers", "deals", "projects"} <= found(settings, admin.tenant, name)
    erased = erase(admin, path, name)
    assert erased["erased"] == ALL
    receipt = convert(erased["receipt"], Receipt)
    assert receipt.is_genuine(settings)
    assert (receipt.organization, receipt.type, receipt.id) == (admin.tenant, "customer", made["customer"])
    assert (receipt.reason, str(receipt.erased_by.id)) == ("Asked for it", admin.user_id)
    refused(admin.get(path), 404, "CUSTOMER_NOT_FOUND")
    assert admin.ok("GET", "/admin/trash")["total"] == 0
    for plural in ("customers", "contacts", "deals", "activities", "notes"):
        assert admin.ok("GET", f"/admin/{plural}", deleted="include")["total"] == 1
    assert admin.ok("GET", f"/admin/customers/{other['customer']}")["contacts_count"] == 1
    about = admin.ok("GET", f"/admin/audit/{receipt.entry_id}")
    assert about["action"] == "erase"
    assert about["new_values"]["reason"] == "Asked for it"
    for entry in admin.audit(resource_type="customer", resource_id=made["customer"]):
        assert entry["action"] == "erase" or entry["changes"] == {}
    seal(settings)
    assert breaks(settings, admin.tenant) == []
    assert found(settings, admin.tenant, name) == set()


def test_what_is_in_the_trash_is_erased_too_and_a_dry_run_erases_nothing(admin: Caller) -> None:
    made = fill(admin)
    path = f"/admin/customers/{made['customer']}"
    admin.ok("DELETE", path)
    tried = erase(admin, path, "Ada", headers={"Dry-Run": "true"})
    assert tried["result"] == {"erased": ALL, "receipt": None}
    assert {(each["resource_type"], each["resource_id"]) for each in tried["changes"] if each["action"] == "erase"} == {
        *made.items()
    }
    assert admin.ok("GET", "/admin/trash")["total"] == len(ALL)
    assert erase(admin, path, "Ada")["erased"] == ALL
    assert admin.ok("GET", "/admin/trash")["total"] == 0


def test_a_contact_is_erased_and_its_deals_stay(admin: Caller) -> None:
    customer = admin.customer()["id"]
    contact = admin.ok("POST", f"/admin/customers/{customer}/contacts", {"first_name": "Grace", "last_name": "Hopper"})
    fields = {"customer_id": customer, "contact_id": contact["id"]}
    deal = admin.ok("POST", "/admin/deals", {"title": "Ship", **fields})
    call = admin.ok("POST", "/admin/activities", {"title": "Call", "type": "call", **fields})
    assert erase(admin, f"/admin/contacts/{contact['id']}", "Grace  Hopper ")["erased"] == {"contacts": 1}
    assert admin.ok("GET", f"/admin/deals/{deal['id']}")["contact_id"] is None
    assert admin.ok("GET", f"/admin/activities/{call['id']}")["contact_id"] is None
    changes = admin.audit(resource_type="deal", resource_id=deal["id"])[0]["changes"]
    assert changes == {"contact_id": {"old": contact["id"], "new": None}}


def test_only_admins_erase_and_nothing_on_hold(admin: Caller, manager: Caller, stranger: Caller) -> None:
    made = fill(admin)
    wanted = {"reason": "why", "confirm": "Ada"}
    path = f"/admin/customers/{made['customer']}"
    refused(manager.post(f"{path}/erase", wanted), 403, "INSUFFICIENT_PERMISSIONS")
    refused(stranger.post(f"{path}/erase", wanted), 404, "CUSTOMER_NOT_FOUND")
    admin.ok("PATCH", path, {"hold": True})
    refused(admin.post(f"{path}/erase", wanted), 409, "ON_HOLD")
    contact = f"/admin/contacts/{made['contact']}"
    refused(admin.post(f"{contact}/erase", wanted | {"confirm": "Ada Contact"}), 409, "ON_HOLD")
    admin.ok("PATCH", path, {"hold": False})
    erase(admin, path, "Ada")


def test_a_kept_answer_that_mentions_it_is_emptied_and_its_key_stays(admin: Caller) -> None:
    key = {"Idempotency-Key": "first"}
    customer = admin.post("/admin/customers", {"name": "Ada"}, headers=key).json()["id"]
    again = {"Idempotency-Key": "second"}
    same = {"assigned_to": None}
    admin.call("POST", f"/admin/customers/{customer}/reassign", json=same, headers=again)
    other = {"Idempotency-Key": "other"}
    kept = admin.post("/admin/customers", {"name": "Grace"}, headers=other).json()
    erase(admin, f"/admin/customers/{customer}", "Ada")
    refused(admin.post("/admin/customers", {"name": "Ada"}, headers=key), 410, "ANSWER_ERASED")
    reassigned = admin.call("POST", f"/admin/customers/{customer}/reassign", json=same, headers=again)
    refused(reassigned, 410, "ANSWER_ERASED")
    assert admin.post("/admin/customers", {"name": "Grace"}, headers=other).json() == kept
    assert admin.ok("GET", "/admin/customers")["total"] == 1


def test_a_kept_answer_of_the_console_that_mentions_it_is_emptied(admin: Caller, settings: Settings) -> None:
    """Its ids are texts. The activity that was answered belongs to another customer by then."""
    mentioned, other = admin.customer(CANARY)["id"], admin.customer("Grace")["id"]
    headers = {"Idempotency-Key": "call"}
    body = {"type": "call", "subject": "Call", "customer_id": str(mentioned)}
    made = admin.post("/console/admin/activities", body, headers=headers)
    assert (made.status_code, CANARY in made.text, f'"id":"{mentioned}"' in made.text) == (201, True, True), made.text
    admin.ok("PATCH", f"/admin/activities/{made.json()['id']}", {"customer_id": other})
    erase(admin, f"/admin/customers/{mentioned}", CANARY)
    refused(admin.post("/console/admin/activities", body, headers=headers), 410, "ANSWER_ERASED")
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        kept = owner.execute("SELECT body, mentions FROM idempotency_keys WHERE key = 'call'").fetchall()
    assert kept == [(None, None)]


@pytest.mark.parametrize("purged", [False, True])
def test_of_those_who_erase_it_at_the_same_time_one_does(purged: bool, admin: Caller, settings: Settings) -> None:
    path = f"/admin/customers/{admin.customer('Ada')['id']}"
    if purged:
        admin.ok("PUT", "/admin/settings", {"trash_days": 7})
        admin.ok("DELETE", path)
        age(settings, admin.tenant, 8)
        assert purge(settings) == 1
    wanted = {"reason": "why", "confirm": "Ada"}
    with ThreadPoolExecutor() as pool, psycopg.connect(settings.migration_dsn) as owner:
        # They all have read the record before the first one erases it.
        owner.execute("SELECT pg_advisory_xact_lock(hashtextextended('crm_erase_record ' || %s, 0))", [admin.tenant])
        started = [pool.submit(admin.post, f"{path}/erase", wanted) for _ in range(3)]
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        deadline = monotonic() + 10
        while owner.execute(waiting).fetchone() != (3,) and monotonic() < deadline:
            sleep(0.01)
        owner.rollback()
        answers = [each.result() for each in started]
    assert sorted(each.status_code for each in answers) == [200, 404, 404]
    assert {each.json()["code"] for each in answers if each.status_code == 404} == {"CUSTOMER_NOT_FOUND"}
    assert len(admin.audit(resource_type="customer", action="erase")) == (1 if purged else 2)


def test_what_was_deleted_for_good_before_is_erased_from_the_log(admin: Caller, settings: Settings) -> None:
    made = fill(admin)
    admin.ok("DELETE", f"/admin/activities/{made['activity']}")
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        owner.execute("""SELECT set_config('crm.actor', '{"removal": "purge"}', false)""")
        owner.execute("DELETE FROM notes")
    erase(admin, f"/admin/customers/{made['customer']}", "Ada")
    told = admin.audit(resource_type="note")
    assert told
    assert {str(entry["changes"]) for entry in told} == {"{}"}


def test_a_customer_that_was_purged_is_erased_from_the_log(admin: Caller, settings: Settings) -> None:
    made = fill(admin)
    path = f"/admin/customers/{made['customer']}"
    admin.ok("PUT", "/admin/settings", {"trash_days": 7})
    admin.ok("DELETE", path)
    age(settings, admin.tenant, 8)
    assert purge(settings) == len(ALL)
    refused(admin.post(f"{path}/erase", {"reason": "why", "confirm": "Adam"}), 400, "INVALID_REQUEST")
    erased = erase(admin, path, "Ada")
    assert erased["erased"] == {}
    for kind in made:
        assert {str(entry["changes"]) for entry in admin.audit(resource_type=kind) if entry["action"] != "erase"} == {
            "{}"
        }
    refused(admin.post(f"{path}/erase", {"reason": "why", "confirm": "Ada"}), 404, "CUSTOMER_NOT_FOUND")


def test_what_an_erasure_changed_is_not_taken_back(admin: Caller) -> None:
    customer = admin.customer()["id"]
    contact = admin.ok("POST", f"/admin/customers/{customer}/contacts", {"last_name": "Hopper"})["id"]
    fields = {"title": "Ship", "customer_id": customer, "contact_id": contact}
    deal = f"/admin/deals/{admin.ok('POST', '/admin/deals', fields)['id']}"
    done = admin.post(f"/admin/contacts/{contact}/erase", {"reason": "why", "confirm": "Hopper"})
    assert done.is_success
    undo = admin.post(f"/admin/operations/{done.headers['X-Operation-Id']}/undo", {})
    refused(undo, 410, "HISTORY_CUT")
    entry = admin.ok("GET", f"{deal}/versions")["data"][0]
    assert not admin.post(f"{deal}/undo", {"entry_id": entry["id"]}).is_success
    assert admin.ok("GET", deal)["contact_id"] is None
