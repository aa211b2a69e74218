"""A customer goes to somebody else, with what is open on it."""

from __future__ import annotations

from typing import Any

from tests.callers import Caller, refused


def owners(admin: Caller, customer: int) -> dict[str, Any]:
    """Who has which deal and activity of a customer, by title."""
    deals = admin.ok("GET", "/admin/deals", customer_id=customer)["data"]
    ids = ",".join(str(each["id"]) for each in deals) or "0"
    mine = admin.ok("GET", "/admin/activities", customer_id=customer)["data"]
    of_deals = admin.ok("GET", "/admin/activities", deal_id=ids)["data"] if deals else []
    found = {each["title"]: each["owner_id"] for each in deals}
    return found | {each["title"]: each["assigned_to"] for each in mine + of_deals}


def fill(admin: Caller, owner: str | None) -> int:
    customer = int(admin.customer("Firm", assigned_to=owner)["id"])
    for title, whose, stage in (
        ("open", owner, "proposal"),
        ("won", owner, "closed_won"),
        ("theirs", "other", "proposal"),
    ):
        body = {"title": title, "customer_id": customer, "owner_id": whose, "stage": stage, "amount": 5}
        made = admin.ok("POST", "/admin/deals", body)
        if title == "open":
            links = {"type": "call", "deal_id": made["id"], "assigned_to": owner}
            admin.ok("POST", "/admin/activities", links | {"title": "of the deal"})
    for title, whose, status in (
        ("to do", owner, "scheduled"),
        ("done", owner, "completed"),
        ("off", owner, "cancelled"),
        ("their to do", "other", "scheduled"),
    ):
        body = {"title": title, "type": "call", "customer_id": customer, "assigned_to": whose, "status": status}
        admin.ok("POST", "/admin/activities", body)
    trashed = admin.ok("POST", "/admin/deals", {"title": "gone", "customer_id": customer, "owner_id": owner})
    admin.ok("DELETE", f"/admin/deals/{trashed['id']}")
    return customer


KEPT = {"won": "old", "theirs": "other", "done": "old", "off": "old", "their to do": "other"}


def test_what_is_open_and_the_present_owners_goes_along(manager: Caller, admin: Caller) -> None:
    customer = fill(admin, "old")
    other = fill(admin, "old")
    answer = manager.post(f"/admin/customers/{customer}/reassign", {"assigned_to": "new"})
    done = answer.json()
    assert (answer.status_code, done["deals"], done["activities"]) == (200, 1, 2)
    assert (done["customer"]["assigned_to"], answer.headers["ETag"]) == ("new", '"2"')
    moved = {"open": "new", "to do": "new", "of the deal": "new"}
    assert owners(admin, customer) == KEPT | moved
    assert set(owners(admin, other).values()) == {"old", "other"}
    entries = admin.audit(action="update")
    assert sorted(entry["resource_type"] for entry in entries) == ["activity", "activity", "customer", "deal"]
    assert all(list(entry["changes"].values()) == [{"old": "old", "new": "new"}] for entry in entries)
    again = manager.ok("POST", f"/admin/customers/{customer}/reassign", {"assigned_to": "new"})
    assert (again["deals"], again["activities"], again["customer"]["version"]) == (0, 0, 2)


def test_of_a_customer_without_an_owner_what_has_none_goes_along(admin: Caller) -> None:
    customer = fill(admin, None)
    done = admin.ok("POST", f"/admin/customers/{customer}/reassign", {"assigned_to": "new"})
    assert (done["deals"], done["activities"]) == (1, 2)
    back = admin.ok("POST", f"/admin/customers/{customer}/reassign", {"assigned_to": None})
    assert (back["customer"]["assigned_to"], back["deals"], back["activities"]) == (None, 1, 2)


def test_what_goes_along_can_be_chosen(admin: Caller) -> None:
    customer = fill(admin, "old")
    only = {"assigned_to": "new", "open_deals": False}
    done = admin.ok("POST", f"/admin/customers/{customer}/reassign", only)
    assert (done["deals"], done["activities"]) == (0, 2)
    customer = fill(admin, "old")
    only = {"assigned_to": "new", "open_activities": False}
    done = admin.ok("POST", f"/admin/customers/{customer}/reassign", only)
    assert (done["deals"], done["activities"]) == (1, 0)


def test_it_is_for_managers_and_replayed_under_its_key(admin: Caller, agent: Caller) -> None:
    customer = agent.customer()["id"]
    path, body = f"/admin/customers/{customer}/reassign", {"assigned_to": "new"}
    refused(agent.post(path, body), 403, "INSUFFICIENT_PERMISSIONS")
    refused(admin.post("/admin/customers/4611686018427387904/reassign", body), 404, "CUSTOMER_NOT_FOUND")
    for wrong in ({}, {"assigned_to": ""}, body | {"open_deals": "yes"}, body | {"open_notes": True}):
        refused(admin.post(path, wrong), 400, "INVALID_REQUEST")
    refused(admin.post(path, body, headers={"If-Match": '"7"'}), 412, "VERSION_CONFLICT")
    first = admin.post(path, body, headers={"Idempotency-Key": "k"})
    again = admin.post(path, body, headers={"Idempotency-Key": "k"})
    assert (first.json(), again.headers["Idempotency-Replayed"]) == (again.json(), "true")
