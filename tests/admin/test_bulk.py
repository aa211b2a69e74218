"""Changing many records at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from app.db.roles import enter_tenant
from app.settings import Settings
from tests.callers import Caller, Callers, refused
from tests.laws.routes import UNKNOWN_ID
from tests.processes import wait_until

CUSTOMERS = "/admin/customers/bulk"


def ids_of(records: list[dict[str, Any]]) -> list[int]:
    return [record["id"] for record in records]


def faults(answer: Any, code: str = "INVALID_REQUEST") -> dict[str, str]:
    """The faults of a refusal by their fields."""
    return {fault["field"]: fault["message"] for fault in refused(answer, 400, code)["fields"]}


def test_a_team_lead_hands_over_tags_and_cleans_up_after_a_campaign(admin: Caller, manager: Caller) -> None:
    leads = [admin.customer(f"Lead {number}") for number in range(5)]
    other = admin.customer("Somebody else", status="active")
    tag = admin.tag("Spring")["id"]

    chosen = {"filter": {"status": ["lead"], "search": "lead"}, "expected": 5}
    tagged = manager.ok("POST", CUSTOMERS, chosen | {"action": "add_tags", "values": {"tag_ids": [tag]}})
    assert tagged == {"matched": 5, "changed": 5, "unchanged": 0, "refused": []}
    again = manager.ok("POST", CUSTOMERS, chosen | {"action": "add_tags", "values": {"tag_ids": [tag]}})
    assert (again["changed"], again["unchanged"]) == (0, 5)

    body = {"ids": ids_of(leads), "action": "update", "values": {"status": "prospect", "contacted": True}}
    answer = manager.post(CUSTOMERS, body)
    assert answer.json() == {"matched": 5, "changed": 5, "unchanged": 0, "refused": []}
    entries = admin.audit(resource_type="customer", operation_id=answer.headers["X-Operation-Id"])
    assert [entry["changes"]["status"] for entry in entries] == [{"old": "lead", "new": "prospect"}] * 5
    assert {entry["user_id"] for entry in entries} == {manager.user_id}
    for lead in leads:
        now = admin.ok("GET", f"/admin/customers/{lead['id']}")
        assert (now["status"], now["contacted"], ids_of(now["tags"]), now["version"]) == ("prospect", True, [tag], 3)

    tags = {"filter": {"tags": tag}, "action": "remove_tags", "values": {"tag_ids": [tag]}}
    assert manager.ok("POST", CUSTOMERS, tags)["changed"] == 5
    given = {"filter": {"status": "prospect"}, "action": "reassign", "values": {"assigned_to": manager.user_id}}
    assert manager.ok("POST", CUSTOMERS, given)["changed"] == 5
    assert manager.ok("GET", "/admin/customers", assigned_to="me")["total"] == 5

    assert manager.ok("POST", CUSTOMERS, {"filter": {"assigned_to": "me"}, "action": "trash"})["changed"] == 5
    assert ids_of(admin.ok("GET", "/admin/customers")["data"]) == [other["id"]]
    back = {"filter": {"deleted": "only"}, "action": "restore"}
    assert manager.ok("POST", CUSTOMERS, back) == {"matched": 5, "changed": 5, "unchanged": 0, "refused": []}
    assert admin.ok("GET", "/admin/customers")["total"] == 6


def test_one_that_is_refused_keeps_all_as_they_are_unless_a_part_will_do(admin: Caller) -> None:
    one, taken, three = (admin.customer(name) for name in ("One", "Two", "Three"))
    admin.ok("PATCH", f"/admin/customers/{taken['id']}", {"email": "ada@example.com"})
    body = {
        "ids": [three["id"], UNKNOWN_ID, taken["id"], one["id"], one["id"]],
        "action": "update",
        "values": {"email": "Ada@example.com"},
    }
    data = refused(admin.post(CUSTOMERS, body), 409, "BULK_REFUSED")
    assert [(each["id"], each["code"]) for each in data["refused"]] == [
        (one["id"], "EMAIL_EXISTS"),
        (three["id"], "EMAIL_EXISTS"),
        (UNKNOWN_ID, "CUSTOMER_NOT_FOUND"),
    ]
    assert data["refused"][0]["message"] == "A customer with this email already exists"
    assert admin.ok("GET", f"/admin/customers/{taken['id']}")["email"] == "ada@example.com"
    assert len(admin.audit(resource_type="customer", action="update")) == 1

    done = admin.ok("POST", CUSTOMERS, body | {"partial": True})
    assert (done["matched"], done["changed"], done["unchanged"]) == (4, 1, 0)
    assert [each["code"] for each in done["refused"]] == ["EMAIL_EXISTS", "EMAIL_EXISTS", "CUSTOMER_NOT_FOUND"]
    assert admin.ok("GET", f"/admin/customers/{taken['id']}")["email"] == "Ada@example.com"


def test_a_customer_on_hold_is_refused_and_the_others_go(admin: Caller) -> None:
    held, free = admin.customer("Held", hold=True)["id"], admin.customer("Free")["id"]
    body = {"filter": {}, "action": "trash"}
    data = refused(admin.post(CUSTOMERS, body), 409, "BULK_REFUSED")
    assert [(each["id"], each["code"]) for each in data["refused"]] == [(held, "ON_HOLD")]
    assert admin.ok("POST", CUSTOMERS, body | {"partial": True})["changed"] == 1
    assert admin.get(f"/admin/customers/{free}").status_code == 404


def test_what_a_refused_record_had_written_already_is_undone_too(admin: Caller) -> None:
    customer = admin.customer()["id"]
    path = f"/admin/customers/{customer}/contacts"
    primary = admin.ok("POST", path, {"first_name": "Ada", "is_primary": True, "external_id": "taken"})
    second = admin.ok("POST", path, {"first_name": "Grace"})
    # To make the second one primary, the first one is unmade before the external_id is refused.
    body = {
        "ids": [second["id"], UNKNOWN_ID],
        "action": "update",
        "values": {"is_primary": True, "external_id": "taken"},
        "partial": True,
    }
    done = admin.ok("POST", "/admin/contacts/bulk", body)
    assert [each["code"] for each in done["refused"]] == ["EXTERNAL_ID_EXISTS", "CONTACT_NOT_FOUND"]
    assert admin.ok("GET", f"/admin/contacts/{primary['id']}") == primary


def test_an_expectation_that_does_not_hold_stops_everything(admin: Caller) -> None:
    customer = admin.customer()
    body = {"filter": {"status": "lead"}, "action": "trash", "expected": 2}
    assert refused(admin.post(CUSTOMERS, body), 409, "COUNT_CHANGED") == {"expected": 2, "matched": 1}
    assert refused(admin.post(CUSTOMERS, body | {"filter": {"status": "active"}, "expected": 1}), 409, "COUNT_CHANGED")
    by_id = {"ids": [customer["id"]] * 2, "action": "trash", "expected": 2}
    assert refused(admin.post(CUSTOMERS, by_id), 409, "COUNT_CHANGED") == {"expected": 2, "matched": 1}
    assert admin.ok("GET", "/admin/customers")["total"] == 1


def test_each_wrong_part_of_a_body_is_named(admin: Caller) -> None:
    wrong = {
        "filter": {"colour": "red", "status": ["lead", "bad"], "page": 1, "contacted": [True], "kind": None},
        "action": "update",
        "values": {"status": "bad", "colour": "red", "email": "nobody"},
        "expected": -1,
        "more": 1,
    }
    assert faults(admin.post(CUSTOMERS, wrong)) == {
        "filter.colour": "is not a filter of this list",
        "filter.status": "must be one of lead, prospect, active, inactive, churned",
        "filter.page": "is not a filter of this list",
        "filter.contacted": "must be text, a number, or true or false",
        "filter.kind": "must be text, a number, or true or false, or a list of these",
        "values.status": "must be one of lead, prospect, active, inactive, churned",
        "values.colour": "is not a field of this request",
        "values.email": faults(admin.post("/admin/customers", {"name": "x", "email": "nobody"}), "INVALID_EMAIL")[
            "email"
        ],
        "expected": "must be an integer >= 0",
        "more": "is not a field of this request",
    }
    ids = {"ids": [1]}
    assert faults(admin.post(CUSTOMERS, ids | {"filter": {}, "action": "trash"})) == {
        "ids": "name the records either by ids or by filter"
    }
    assert set(faults(admin.post(CUSTOMERS, {"action": "trash"}))) == {"ids"}
    assert set(faults(admin.post(CUSTOMERS, ids))) == {"action"}
    assert set(faults(admin.post(CUSTOMERS, ids | {"action": ["trash"]}))) == {"action"}
    assert set(faults(admin.post(CUSTOMERS, ids | {"action": "update"}))) == {"values"}
    assert set(faults(admin.post(CUSTOMERS, ids | {"action": "update", "values": 5}))) == {"values"}
    assert set(faults(admin.post(CUSTOMERS, ids | {"action": "add_tags", "values": {}}))) == {"values.tag_ids"}
    assert set(faults(admin.post(CUSTOMERS, ids | {"action": "trash", "values": {"name": "x"}}))) == {"values.name"}
    assert set(faults(admin.post(CUSTOMERS, {"filter": [], "action": "trash"}))) == {"filter"}
    assert set(faults(admin.post(CUSTOMERS, {"filter": {}, "action": "restore"}))) == {"filter.deleted"}
    assert set(faults(admin.post(CUSTOMERS, {"ids": [], "action": "trash"}))) == {"ids"}
    assert set(faults(admin.post("/admin/notes/bulk", ids | {"action": "reassign", "values": {}}))) == {"action"}
    refused(admin.post(CUSTOMERS, ids | {"action": "update", "values": {"id": 5}}), 400, "NO_UPDATES")
    stage = {"filter": {"stage": "bad"}, "action": "trash"}
    assert set(faults(admin.post("/admin/deals/bulk", stage), "INVALID_STAGE")) == {"filter.stage"}


@pytest.mark.parametrize("empty", ["", " ", [], None, [[]], [None], {}])
def test_an_empty_filter_is_not_taken_for_everything(empty: Any, admin: Caller) -> None:
    admin.customer()
    for name in ("status", "search", "tags", "assigned_to", "created_from"):
        body = {"filter": {name: empty}, "action": "trash"}
        assert set(faults(admin.post(CUSTOMERS, body))) == {f"filter.{name}"}
    assert admin.ok("GET", "/admin/customers")["total"] == 1


def test_a_filter_means_what_it_means_in_a_list(admin: Caller) -> None:
    tags = [admin.tag(name)["id"] for name in ("A", "B")]
    for number, owner in enumerate(("smith,john", 'the "boss"', "me", admin.user_id, None)):
        customer = admin.customer(f"Customer {number}", assigned_to=owner, contacted=number % 2 == 0)["id"]
        admin.ok("POST", f"/admin/customers/{customer}/tags", {"tag_ids": tags[: number % 3]})
    same: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"assigned_to": ["smith,john", "me"]}, {"assigned_to": '"smith,john",me'}),
        ({"assigned_to": ['the "boss"']}, {"assigned_to": '"the ""boss"""'}),
        ({"assigned_to": '"me",none'}, {"assigned_to": '"me",none'}),
        ({"tags": tags}, {"tags": ",".join(map(str, tags))}),
        ({"tags": tags[0], "contacted": True}, {"tags": str(tags[0]), "contacted": "true"}),
        ({"search": "customer 2"}, {"search": "customer 2"}),
        ({"created_from": "2020-01-01", "created_to": "2100-01-01"}, {"created_from": "2020-01-01"}),
        ({"created_to": "2020-01-01"}, {"created_to": "2020-01-01"}),
        ({}, {}),
    ]
    for chosen, query in same:
        listed = admin.ok("GET", "/admin/customers", **query)["total"]
        body = {"filter": chosen, "action": "update", "values": {"role": str(query)[:100]}, "expected": listed}
        assert admin.ok("POST", CUSTOMERS, body)["matched"] == listed, chosen
    deal = {"title": "Engine", "customer_id": admin.customer()["id"], "amount": 10.5}
    admin.ok("POST", "/admin/deals", deal)
    for least, found in ((10.5, 1), (10.51, 0), (10, 1)):
        body = {"filter": {"amount_min": least}, "action": "update", "values": {"title": f"{least}"}}
        assert admin.ok("POST", "/admin/deals/bulk", body)["matched"] == found


def test_undoing_its_operation_takes_back_a_bulk_change(admin: Caller) -> None:
    before = [admin.customer(f"Lead {number}", status=status) for number, status in enumerate(("lead", "active"))]
    body = {"filter": {}, "action": "update", "values": {"status": "churned"}}
    operation = admin.post(CUSTOMERS, body).headers["X-Operation-Id"]
    admin.ok("POST", f"/admin/operations/{operation}/undo", {})
    for customer in before:
        now = admin.ok("GET", f"/admin/customers/{customer['id']}")
        assert (now["status"], now["version"]) == (customer["status"], 3)
    operation = admin.post(CUSTOMERS, {"ids": ids_of(before), "action": "trash"}).headers["X-Operation-Id"]
    assert admin.ok("GET", "/admin/customers")["total"] == 0
    admin.ok("POST", f"/admin/operations/{operation}/undo", {})
    assert admin.ok("GET", "/admin/customers")["total"] == 2


@pytest.mark.parametrize(("records", "changes"), [(6, 3), pytest.param(30, 12, marks=pytest.mark.slow)])
def test_bulk_changes_at_the_same_time_wait_for_each_other_in_one_order(
    records: int, changes: int, admin: Caller
) -> None:
    ids = ids_of([admin.customer(f"Customer {number}") for number in range(records)])

    def change(number: int) -> Any:
        chosen: dict[str, Any] = {"filter": {}} if number % 3 == 0 else {"ids": ids if number % 3 == 1 else ids[::-1]}
        return admin.post(CUSTOMERS, chosen | {"action": "update", "values": {"role": f"Role {number}"}})

    with ThreadPoolExecutor(6) as pool:
        assert [answer.json().get("changed") for answer in pool.map(change, range(changes))] == [records] * changes
    assert {admin.ok("GET", f"/admin/customers/{each}")["version"] for each in ids} == {changes + 1}
    assert len({admin.ok("GET", f"/admin/customers/{each}")["role"] for each in ids}) == 1


def test_what_no_longer_matches_when_it_is_locked_is_left_alone(admin: Caller, settings: Settings) -> None:
    ids = ids_of([admin.customer(f"Customer {number}") for number in range(2)])
    body = {"filter": {"status": "lead"}, "action": "update", "values": {"role": "Seen as a lead"}}
    with psycopg.connect(settings.migration_dsn) as other, ThreadPoolExecutor(1) as pool:
        enter_tenant(other, admin.tenant, {"user_id": "somebody"})
        other.execute("UPDATE customers SET status = 'churned' WHERE id = %s", [ids[0]])
        pending = pool.submit(admin.post, CUSTOMERS, body)
        wait_until(lambda: waiting(settings), "the bulk change to wait for the row")
        other.commit()
        done = pending.result().json()
    assert (done["matched"], done["changed"]) == (1, 1)
    assert admin.ok("GET", f"/admin/customers/{ids[0]}")["role"] is None


def waiting(settings: Settings) -> bool:
    """Whether a statement waits for a lock."""
    with psycopg.connect(settings.migration_dsn) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE NOT granted AND datname = current_database()"
        ).fetchone()
        return bool(found and found[0])


@pytest.mark.slow
def test_up_to_a_thousand_are_changed_at_once_and_up_to_ten_thousand_are_named(admin: Caller, manager: Caller) -> None:
    assert set(faults(admin.post(CUSTOMERS, {"ids": list(range(1, 10_002)), "action": "trash"}))) == {"ids"}
    body = {"ids": list(range(1, 1001)), "action": "update", "values": {"status": "lead"}}
    data = refused(admin.post(CUSTOMERS, body), 409, "BULK_REFUSED")
    assert (len(data["refused"]), data["more"]) == (100, 900)
    assert len(manager.ok("POST", CUSTOMERS, body | {"partial": True})["refused"]) == 1000


def test_an_agent_changes_its_own_and_nothing_of_others(admin: Caller, agent: Caller) -> None:
    mine, others = agent.customer("Mine"), admin.customer("Others")
    body = {"filter": {}, "action": "update", "values": {"status": "active"}}
    data = refused(agent.post(CUSTOMERS, body), 409, "BULK_REFUSED")
    assert [(each["id"], each["code"]) for each in data["refused"]] == [(others["id"], "INSUFFICIENT_PERMISSIONS")]
    assert agent.ok("POST", CUSTOMERS, body | {"partial": True})["changed"] == 1
    assert admin.ok("GET", f"/admin/customers/{mine['id']}")["status"] == "active"
    assert admin.ok("GET", f"/admin/customers/{others['id']}") | {"stage": 0}
    for action, more in (("trash", {}), ("restore", {}), ("reassign", {"values": {"assigned_to": None}})):
        answer = agent.post(CUSTOMERS, {"ids": [mine["id"]], "action": action, **more})
        refused(answer, 403, "INSUFFICIENT_PERMISSIONS")
    refused(agent.post(CUSTOMERS, body | {"filter": {"deleted": "only"}}), 403, "INSUFFICIENT_PERMISSIONS")
    note = agent.ok("POST", "/admin/notes", {"content": "Mine", "customer_id": others["id"]})["id"]
    assert agent.ok("POST", "/admin/notes/bulk", {"ids": [note], "action": "trash"})["changed"] == 1
    refused(agent.post("/admin/notes/bulk", {"ids": [note], "action": "restore"}), 403, "INSUFFICIENT_PERMISSIONS")


def test_what_an_agent_may_not_see_is_unknown(admin: Caller, callers: Callers, tenant: str, own_scope: Any) -> None:
    agent = callers.person("agent", tenant, client=own_scope)
    hidden, mine = admin.customer("Hidden"), agent.customer("Mine")
    body = {"action": "update", "values": {"status": "active"}}
    assert agent.ok("POST", CUSTOMERS, body | {"filter": {}})["matched"] == 1
    data = refused(agent.post(CUSTOMERS, body | {"ids": [hidden["id"], mine["id"]]}), 409, "BULK_REFUSED")
    assert [(each["id"], each["code"]) for each in data["refused"]] == [(hidden["id"], "CUSTOMER_NOT_FOUND")]


def test_another_organization_is_never_touched(admin: Caller, stranger: Caller) -> None:
    foreign = stranger.customer("Foreign")
    body = {"ids": [foreign["id"]], "action": "trash"}
    data = refused(admin.post(CUSTOMERS, body), 409, "BULK_REFUSED")
    assert [each["code"] for each in data["refused"]] == ["CUSTOMER_NOT_FOUND"]
    assert admin.ok("POST", CUSTOMERS, {"filter": {}, "action": "trash"})["matched"] == 0
    assert stranger.ok("GET", f"/admin/customers/{foreign['id']}")["version"] == 1


def test_a_header_with_one_version_does_not_count_for_many(admin: Caller) -> None:
    customer = admin.customer()["id"]
    body = {"ids": [customer], "action": "update", "values": {"status": "active"}}
    assert admin.post(CUSTOMERS, body, headers={"If-Match": '"7"'}).json()["changed"] == 1


def test_a_bulk_change_is_repeated_once_and_tried_without_a_trace(admin: Caller) -> None:
    customer = admin.customer()
    body = {"filter": {"status": "lead"}, "action": "update", "values": {"status": "active"}}
    tried = admin.post(CUSTOMERS, body, headers={"Dry-Run": "true"}).json()
    assert tried["result"] == {"matched": 1, "changed": 1, "unchanged": 0, "refused": []}
    (change,) = tried["changes"]
    assert (change["resource_id"], change["changes"]) == (customer["id"], {"status": {"old": "lead", "new": "active"}})
    assert admin.ok("GET", f"/admin/customers/{customer['id']}")["version"] == 1
    refused(admin.post(CUSTOMERS, body | {"expected": 9}, headers={"Dry-Run": "true"}), 409, "COUNT_CHANGED")
    first, again = (admin.post(CUSTOMERS, body, headers={"Idempotency-Key": "once"}) for _ in range(2))
    assert first.content == again.content
    assert again.headers["Idempotency-Replayed"] == "true"
    assert admin.ok("GET", f"/admin/customers/{customer['id']}")["version"] == 2


def test_a_refused_bulk_change_leaves_its_idempotency_key_unused(admin: Caller) -> None:
    admin.customer("One", email="ada@example.com")
    other = admin.customer("Two")["id"]
    body = {"ids": [other], "action": "update", "values": {"email": "ada@example.com"}, "partial": False}
    key = {"Idempotency-Key": "once"}
    refused(admin.post(CUSTOMERS, body, headers=key), 409, "BULK_REFUSED")
    done = admin.post(CUSTOMERS, body | {"partial": True}, headers=key)
    assert (done.status_code, done.json()["refused"][0]["code"]) == (200, "EMAIL_EXISTS")
    assert admin.post(CUSTOMERS, body | {"partial": True}, headers=key).headers["Idempotency-Replayed"] == "true"
