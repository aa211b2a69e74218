"""What belongs to what: shown with the record, trashed and restored with it, and never mixed up."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from tests.callers import Caller, Callers, refused
from tests.processes import wait_until


def deal(caller: Caller, customer: int, **fields: Any) -> int:
    return int(
        caller.ok("POST", "/admin/deals", {"title": f"Deal of {customer}", "customer_id": customer, **fields})["id"]
    )


def activity(caller: Caller, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = caller.ok("POST", "/admin/activities", {"title": "Call", "type": "call", **fields})
    return made


def test_each_record_shows_what_it_belongs_to_itself_and_nothing_else(admin: Caller) -> None:
    customers = [admin.customer(f"Customer {number}")["id"] for number in range(3)]
    deals = [deal(admin, customer) for customer in customers]
    of_deal = [activity(admin, deal_id=one) for one in deals]
    of_customer = [activity(admin, customer_id=one) for one in customers]
    for made, one in zip(of_deal, deals, strict=True):
        assert (made["deal"]["id"], made["customer"]) == (one, None)
    for made, one in zip(of_customer, customers, strict=True):
        assert (made["deal"], made["customer"]["id"]) == (None, one)
    for path, link in (("activities", "deal_id"), ("notes", "activity_id")):
        note = admin.ok("POST", "/admin/notes", {"content": "X", "activity_id": of_customer[0]["id"]})
        assert (note["deal"], note["customer"]) == (None, None)
        for entry in admin.ok("GET", f"/admin/{path}", page_size=100)["data"]:
            assert (entry["deal"] or {}).get("id") == entry["deal_id"], link
            assert (entry["customer"] or {}).get("id") == entry["customer_id"], link
    page = admin.ok("GET", f"/admin/deals/{deals[1]}")
    assert [(entry["id"], entry["deal"]["id"]) for entry in page["activities"]] == [(of_deal[1]["id"], deals[1])]
    told = admin.ok("GET", f"/admin/customers/{customers[0]}/timeline")["data"]
    recent = admin.ok("GET", f"/admin/customers/{customers[0]}")["recent_timeline"]
    for event in (event for event in (*told, *recent) if event["type"] in {"activity", "note"}):
        kind = "activities" if event["type"] == "activity" else "notes"
        (shown,) = [
            entry
            for entry in admin.ok("GET", f"/admin/{kind}", page_size=100)["data"]
            if entry["id"] == event["data"]["id"]
        ]
        assert {name: shown[name] for name in event["data"]} == event["data"]
    assert sorted(event["type"] for event in told) == [
        "activity",
        "activity",
        "created",
        "deal_created",
        "note",
        "note",
    ]


def test_limited_to_its_own_an_agent_still_reads_every_own_record_whole(
    own_scope: TestClient[Litestar], callers: Callers, tenant: str, admin: Caller
) -> None:
    limited = callers.person("agent", tenant, client=own_scope)
    hidden = [admin.customer(f"Hidden {number}")["id"] for number in range(2)]
    contact = admin.ok(
        "POST", f"/admin/customers/{hidden[0]}/contacts", {"first_name": "Kay", "email": "kay@example.com"}
    )
    foreign = deal(admin, hidden[1])
    own = deal(admin, hidden[0], owner_id=limited.user_id, contact_id=contact["id"])
    for link in ({"deal_id": own}, {"deal_id": foreign}, {"customer_id": hidden[1]}):
        activity(admin, assigned_to=limited.user_id, **link)
    read = limited.ok("GET", f"/admin/deals/{own}")
    assert read["customer"]["name"] == "Hidden 0"
    assert read["contact"] == {
        "id": contact["id"],
        "first_name": "Kay",
        "last_name": None,
        "email": None,
        "phone": None,
    }
    shown = [(entry["deal"] or entry["customer"]) for entry in limited.ok("GET", "/admin/activities")["data"]]
    assert [entry["id"] for entry in shown] == [own, foreign, hidden[1]]
    assert shown[1]["title"] == f"Deal of {hidden[1]}"


def test_what_belongs_to_two_comes_back_only_when_both_are_there(admin: Caller) -> None:
    one, two = admin.customer("One")["id"], admin.customer("Two")["id"]
    both = activity(admin, customer_id=one, deal_id=deal(admin, two))
    admin.ok("DELETE", f"/admin/customers/{one}")
    admin.ok("DELETE", f"/admin/customers/{two}")
    admin.ok("POST", f"/admin/customers/{one}/restore")
    refused(admin.get(f"/admin/activities/{both['id']}"), 404, "ACTIVITY_NOT_FOUND")
    refused(admin.post(f"/admin/activities/{both['id']}/restore"), 409, "PARENT_DELETED")
    admin.ok("POST", f"/admin/customers/{two}/restore")
    assert admin.ok("POST", f"/admin/activities/{both['id']}/restore")["deal"]["id"] == both["deal_id"]


def test_a_trashed_contact_is_shown_nowhere_and_comes_back_before_what_names_it(admin: Caller) -> None:
    customer = admin.customer()["id"]
    contact = admin.ok("POST", f"/admin/customers/{customer}/contacts", {"first_name": "Kay"})["id"]
    path = f"/admin/activities/{activity(admin, customer_id=customer, contact_id=contact)['id']}"
    admin.ok("DELETE", f"/admin/contacts/{contact}")
    assert admin.ok("GET", path)["contact"] is None
    admin.ok("DELETE", path)
    refused(admin.post(f"{path}/restore"), 409, "PARENT_DELETED")
    admin.ok("POST", f"/admin/contacts/{contact}/restore")
    assert admin.ok("POST", f"{path}/restore")["contact"]["id"] == contact


def test_moves_at_the_same_time_follow_each_other_in_the_history(admin: Caller) -> None:
    path = f"/admin/deals/{deal(admin, admin.customer()['id'])}"
    names = ["qualification", "proposal", "negotiation", "prospecting"] * 3
    with ThreadPoolExecutor(12) as pool:
        assert {a.status_code for a in pool.map(lambda name: admin.patch(path, {"stage": name}), names)} == {200}
    history = admin.ok("GET", path)["stage_history"]
    for move, following in itertools.pairwise(history):
        assert move["left_at"] == following["entered_at"]
        assert move["entered_at"] <= move["left_at"]
        assert move["seconds"] >= 0
        assert move["to_stage"] == following["from_stage"]


def test_primary_contacts_restored_while_a_new_one_comes_leave_one_primary(admin: Caller) -> None:
    contacts = f"/admin/customers/{admin.customer()['id']}/contacts"
    old = [admin.ok("POST", contacts, {"first_name": f"Old {n}", "is_primary": True})["id"] for n in range(4)]
    for one in old:
        admin.ok("PATCH", f"/admin/contacts/{one}", {"is_primary": True})
        admin.ok("DELETE", f"/admin/contacts/{one}")
    calls = [(f"/admin/contacts/{one}/restore", None) for one in old] + [
        (contacts, {"first_name": "New", "is_primary": True})
    ]
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda call: admin.post(*call), calls))
    assert {answer.status_code for answer in answers} == {200, 201}, [answer.text for answer in answers]
    assert sum(entry["is_primary"] for entry in admin.ok("GET", contacts)["data"]) == 1


@pytest.mark.parametrize("amount", ["NaN", "sNaN", "Infinity", "-1", "1_000", " 5", "1e400", "1e200000", "0x1", "1,5"])
def test_an_amount_in_a_query_is_a_plain_number(admin: Caller, amount: str) -> None:
    data = refused(admin.get("/admin/deals", amount_max=amount), 400, "INVALID_REQUEST")
    assert [fault["field"] for fault in data["fields"]] == ["amount_max"]


def test_a_won_deal_keeps_an_amount(admin: Caller) -> None:
    path = f"/admin/deals/{deal(admin, admin.customer()['id'], amount=5, stage='closed_won')}"
    refused(admin.patch(path, {"amount": 0}), 400, "WON_NEEDS_AMOUNT")
    assert admin.ok("PATCH", path, {"amount": 6})["amount"] == 6


def held_up(connection: psycopg.Connection) -> bool:
    """Whether anybody waits for what this transaction holds."""
    waiting = "SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    return bool(connection.execute(waiting).fetchall())


def test_what_is_being_trashed_takes_nothing_new(admin: Caller, service_connection: psycopg.Connection) -> None:
    customer = admin.customer()["id"]
    with ThreadPoolExecutor() as pool, service_connection.transaction():
        service_connection.execute("SELECT set_config('crm.tenant', %s, true)", [admin.tenant])
        service_connection.execute("UPDATE customers SET deleted_at = now() WHERE id = %s", [customer])
        new = pool.submit(admin.post, "/admin/deals", {"title": "Too late", "customer_id": customer})
        wait_until(lambda: held_up(service_connection), "the new deal waiting for the customer")
        assert not new.done()
    refused(new.result(), 400, "CUSTOMER_NOT_FOUND")
