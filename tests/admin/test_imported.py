"""What clients bring along: keys of their own, and when a record was made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.callers import Caller, refused

KINDS = {
    "customers": {"name": "Ada"},
    "contacts": {"first_name": "Grace"},
    "deals": {"title": "D"},
    "activities": {"title": "A", "type": "call"},
    "notes": {"content": "N"},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
OLD = "2019-05-06T07:08:09Z"


def url(caller: Caller, kind: str) -> str:
    return f"/admin/customers/{caller.customer()['id']}/contacts" if kind == "contacts" else f"/admin/{kind}"


def body(caller: Caller, kind: str, **fields: Any) -> dict[str, Any]:
    links = {"customer_id": caller.customer()["id"]} if kind in {"deals", "notes"} else {}
    return KINDS[kind] | links | fields


def make(caller: Caller, kind: str, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = caller.ok("POST", url(caller, kind), body(caller, kind, **fields))
    return made


@every_kind
def test_a_key_is_of_one_live_record_of_its_type(admin: Caller, stranger: Caller, kind: str) -> None:
    key = f"{kind[:-1]}_id" if kind != "activities" else "activity_id"
    first, second = make(admin, kind, external_id="ERP 1"), make(admin, kind)
    assert (first["external_id"], second["external_id"]) == ("ERP 1", None)
    taken = {key: first["id"]}
    path = f"/admin/{kind}/{second['id']}"
    assert (
        refused(admin.post(url(admin, kind), body(admin, kind, external_id="ERP 1")), 409, "EXTERNAL_ID_EXISTS")
        == taken
    )
    assert refused(admin.patch(path, {"external_id": "ERP 1"}), 409, "EXTERNAL_ID_EXISTS") == taken
    # Compared as it is, and by type and tenant.
    for other in ("erp 1", " ERP 1", "ERP 1 "):
        assert admin.ok("PATCH", path, {"external_id": other})["external_id"] == other
    make(stranger, kind, external_id="ERP 1")
    for other_kind in KINDS.keys() - {kind}:
        make(admin, other_kind, external_id="ERP 1")
    assert admin.ok("PUT", f"/admin/{kind}/{first['id']}", first)["version"] == 1
    admin.ok("DELETE", f"/admin/{kind}/{first['id']}")
    admin.ok("PATCH", path, {"external_id": "ERP 1"})
    refused(admin.post(f"/admin/{kind}/{first['id']}/restore"), 409, "EXTERNAL_ID_EXISTS")
    assert admin.ok("PATCH", path, {"external_id": ""})["external_id"] is None
    assert admin.ok("POST", f"/admin/{kind}/{first['id']}/restore")["external_id"] == "ERP 1"


@every_kind
def test_records_are_found_by_their_keys(admin: Caller, kind: str) -> None:
    made = {key: make(admin, kind, external_id=key)["id"] for key in ("a", "A", "b,c")}

    def found(value: str) -> set[int]:
        return {row["id"] for row in admin.ok("GET", f"/admin/{kind}", external_id=value)["data"]}

    assert found("a") == {made["a"]}
    assert found('A,"b,c"') == {made["A"], made["b,c"]}
    assert found("B") == set()


@pytest.mark.parametrize("kind", ["contacts", "deals", "activities", "notes"])
def test_what_comes_back_with_a_customer_can_run_into_a_key_too(admin: Caller, kind: str) -> None:
    customer = admin.customer()["id"]
    path = f"/admin/customers/{customer}/contacts" if kind == "contacts" else f"/admin/{kind}"
    admin.ok(
        "POST", path, KINDS[kind] | {"external_id": "1"} | ({} if kind == "contacts" else {"customer_id": customer})
    )
    admin.ok("DELETE", f"/admin/customers/{customer}")
    holder = make(admin, kind, external_id="1")["id"]
    answer = admin.post(f"/admin/customers/{customer}/restore")
    name = "activity" if kind == "activities" else kind[:-1]
    assert refused(answer, 409, "EXTERNAL_ID_EXISTS") == {"type": name, f"{name}_id": holder}
    assert f"Another {name} " in answer.json()["message"]


@every_kind
def test_managers_bring_history_along_and_agents_do_not(manager: Caller, agent: Caller, kind: str) -> None:
    made = make(manager, kind, created_at=OLD)
    assert made["created_at"] == OLD
    assert made["updated_at"] > OLD
    assert (
        manager.ok("PATCH", f"/admin/{kind}/{made['id']}", {"external_id": "1", "created_at": "2018-01-01"})[
            "created_at"
        ]
        == OLD
    )
    assert make(agent, kind, created_at=OLD)["created_at"] > OLD
    assert make(manager, kind, created_at=None)["created_at"] > OLD
    late = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    for wrong in (late, "9999-12-31", "soon"):
        data = refused(manager.post(url(manager, kind), body(manager, kind, created_at=wrong)), 400, "INVALID_REQUEST")
        assert [fault["field"] for fault in data["fields"]] == ["created_at"]


def test_history_stands_where_it_belongs(admin: Caller) -> None:
    customer = admin.customer("Old", created_at=OLD)["id"]
    made = admin.ok("POST", "/admin/deals", {"title": "D", "customer_id": customer, "created_at": OLD})
    assert made["stage_entered_at"] == OLD
    admin.ok("PATCH", f"/admin/deals/{made['id']}", {"stage": "proposal"})
    shown = admin.ok("GET", f"/admin/deals/{made['id']}")
    first, second = shown["stage_history"]
    assert (first["entered_at"], first["left_at"]) == (OLD, second["entered_at"])
    events = admin.ok("GET", f"/admin/deals/{made['id']}/timeline")["data"]
    assert [(event["type"], event["at"]) for event in events][-1] == ("created", OLD)
    told = admin.ok("GET", f"/admin/customers/{customer}/timeline")["data"]
    assert sorted(event["type"] for event in told if event["at"] == OLD) == ["created", "deal_created"]
    (entry,) = admin.audit(resource_type="customer", resource_id=customer)
    assert entry["new_values"]["created_at"] == OLD
    assert entry["created_at"] > OLD
    assert admin.ok("GET", "/admin/customers", created_to="2019-05-06")["total"] == 1


def test_a_customer_is_a_person_or_an_organization(admin: Caller) -> None:
    ada = admin.customer("Ada", kind="person")
    firm = admin.customer("Firm", kind="organization", industry=" Machinery ", website="https://Example.com/a?b=c")
    assert (firm["industry"], firm["website"]) == ("Machinery", "https://Example.com/a?b=c")
    assert admin.customer("Nobody")["kind"] is None
    for kinds, names in (("person", ["Ada"]), ("organization,person", ["Firm", "Ada"])):
        assert [each["name"] for each in admin.ok("GET", "/admin/customers", kind=kinds)["data"]] == names
    refused(admin.post("/admin/customers", {"name": "X", "kind": "robot"}), 400, "INVALID_REQUEST")
    assert admin.ok("PATCH", f"/admin/customers/{ada['id']}", {"kind": None})["kind"] is None


@pytest.mark.parametrize(
    ("website", "fine"),
    [
        ("http://example.com", True), ("HTTPS://EXAMPLE.COM:8443/", True), ("https://bücher.example/ä", True),
        ("https://[::1]/", True), ("", True), ("example.com", False), ("javascript:alert(1)", False),
        ("ftp://example.com", False), ("https://", False), ("https:///path", False), ("https://a b.com", False),
        ("https://example.com:port", False), ("https://[::1", False), ("https://" + "a" * 250, False),
    ],
)  # fmt: skip
def test_a_website_is_an_address_that_a_browser_opens(admin: Caller, website: str, fine: bool) -> None:
    answer = admin.post("/admin/customers", {"name": "X", "website": website})
    if fine:
        assert answer.json()["website"] == (website or None)
    else:
        refused(answer, 400, "INVALID_REQUEST")
