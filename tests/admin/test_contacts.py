"""Contacts: the people at a customer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.callers import Caller, refused


def contact(caller: Caller, customer_id: int, first_name: str = "Grace", **fields: object) -> dict[str, object]:
    made: dict[str, object] = caller.ok(
        "POST", f"/admin/customers/{customer_id}/contacts", {"first_name": first_name, **fields}
    )
    return made


def test_the_primary_contact_comes_first_then_the_oldest(admin: Caller) -> None:
    customer = admin.customer()["id"]
    for name in ("One", "Two", "Three"):
        contact(admin, customer, name, is_primary=name == "Two")
    listed = admin.ok("GET", f"/admin/customers/{customer}/contacts")
    assert [entry["first_name"] for entry in listed["data"]] == ["Two", "One", "Three"]


def test_a_new_primary_contact_takes_the_place_of_the_one_before(admin: Caller) -> None:
    customer = admin.customer()["id"]
    first = contact(admin, customer, "First", is_primary=True)
    second = contact(admin, customer, "Second", is_primary=True)
    assert admin.ok("GET", f"/admin/contacts/{first['id']}")["is_primary"] is False
    admin.ok("PATCH", f"/admin/contacts/{first['id']}", {"is_primary": True})
    assert admin.ok("GET", f"/admin/contacts/{second['id']}")["is_primary"] is False
    assert admin.ok("GET", f"/admin/customers/{customer}")["primary_contact"]["id"] == first["id"]


def test_of_many_made_primary_at_once_one_is(admin: Caller) -> None:
    customer = admin.customer()["id"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: contact(admin, customer, f"C{number}", is_primary=True), range(8)))
    listed = admin.ok("GET", f"/admin/customers/{customer}/contacts")["data"]
    assert [entry["is_primary"] for entry in listed] == [True] + [False] * 7


def test_a_contact_that_deals_refer_to_stays(admin: Caller) -> None:
    customer = admin.customer()["id"]
    path = f"/admin/contacts/{(one := contact(admin, customer))['id']}"
    deal = admin.ok("POST", "/admin/deals", {"title": "D", "customer_id": customer, "contact_id": one["id"]})
    assert refused(admin.delete(path), 409, "CONTACT_HAS_DEALS") == {"deal_ids": [deal["id"]]}
    admin.ok("DELETE", f"/admin/deals/{deal['id']}")
    admin.ok("DELETE", path)
    refused(admin.get(path), 404, "CONTACT_NOT_FOUND")
    assert admin.ok("POST", f"{path}/restore")["deleted_at"] is None


def test_a_restored_primary_contact_gives_way_to_the_new_one(admin: Caller) -> None:
    customer = admin.customer()["id"]
    old = contact(admin, customer, "Old", is_primary=True)
    admin.ok("DELETE", f"/admin/contacts/{old['id']}")
    contact(admin, customer, "New", is_primary=True)
    assert admin.ok("POST", f"/admin/contacts/{old['id']}/restore")["is_primary"] is False


def test_contacts_are_found_across_customers(admin: Caller) -> None:
    mine, other = admin.customer("Mine", assigned_to="7")["id"], admin.customer("Other")["id"]
    contact(admin, mine, "Grace", last_name="Hopper", email="grace@example.com", phone="+1 555 77")
    contact(admin, other, "Linus")

    def found(**filters: object) -> list[str]:
        return [entry["first_name"] for entry in admin.ok("GET", "/admin/contacts", **filters)["data"]]

    assert found() == ["Linus", "Grace"]
    assert found(assigned_to="7") == ["Grace"]
    assert found(assigned_to="none") == ["Linus"]
    assert found(customer_id=f"{mine},{other}") == ["Linus", "Grace"]
    for fragment in ("GRACE H", "grace@", "555 77"):
        assert found(search=fragment) == ["Grace"]


def test_a_contact_can_not_be_moved_to_another_customer(admin: Caller) -> None:
    one, two = admin.customer("One")["id"], admin.customer("Two")["id"]
    made = contact(admin, one)
    refused(admin.patch(f"/admin/contacts/{made['id']}", {"customer_id": two}), 400, "INVALID_REQUEST")
    body = {"first_name": "X", "customer_id": two}
    refused(admin.post(f"/admin/customers/{one}/contacts", body), 400, "INVALID_REQUEST")


def test_an_agent_adds_and_changes_contacts_of_its_own_customers(admin: Caller, agent: Caller) -> None:
    own, other = agent.customer()["id"], admin.customer()["id"]
    made = contact(agent, own)
    agent.ok("PATCH", f"/admin/contacts/{made['id']}", {"phone": "1"})
    refused(agent.post(f"/admin/customers/{other}/contacts", {"first_name": "X"}), 403, "INSUFFICIENT_PERMISSIONS")
    foreign = contact(admin, other)
    refused(agent.patch(f"/admin/contacts/{foreign['id']}", {"phone": "1"}), 403, "INSUFFICIENT_PERMISSIONS")


def test_a_contact_has_a_first_name_a_last_name_or_both(admin: Caller) -> None:
    customer = admin.customer()["id"]
    url = f"/admin/customers/{customer}/contacts"
    for body in (
        *({}, {"email": "a@example.com"}, {"first_name": None}, {"first_name": "", "last_name": "  "}),
        *({"first_name": "\u200b"}, {"last_name": "\u2800"}, {"first_name": "\xad", "last_name": "\ufe0f"}),
    ):
        fields = refused(admin.post(url, body), 400, "INVALID_REQUEST")["fields"]
        assert [fault["field"] for fault in fields] == ["first_name", "last_name"]
        assert all("at least one visible character" in fault["message"] for fault in fields)
    made = admin.ok("POST", url, {"last_name": "Hopper"})
    assert (made["first_name"], made["last_name"]) == ("", "Hopper")
    path = f"/admin/contacts/{made['id']}"
    assert admin.ok("PUT", path, made)["version"] == 1
    for last_name in (None, "", "\u200b"):
        refused(admin.patch(path, {"last_name": last_name}), 400, "INVALID_REQUEST")
    refused(admin.patch(path, {"first_name": None, "last_name": None}), 400, "INVALID_REQUEST")
    named = admin.ok("PATCH", path, {"first_name": "Grace", "last_name": None})
    assert (named["first_name"], named["last_name"]) == ("Grace", None)
    assert admin.ok("PATCH", path, {"first_name": None, "last_name": "Hopper"})["first_name"] == ""
    assert admin.ok("GET", "/admin/contacts", search="hopp")["total"] == 1
    deal = admin.ok("POST", "/admin/deals", {"title": "D", "customer_id": customer, "contact_id": made["id"]})
    assert (deal["contact"]["first_name"], deal["contact"]["last_name"]) == ("", "Hopper")
    shown = admin.ok("GET", f"/console/admin/customers/{customer}/contacts")
    assert [each["name"] for each in shown] == ["Hopper"]


def test_a_deal_and_an_activity_come_back_only_after_their_contact(admin: Caller) -> None:
    customer = admin.customer()["id"]
    made = contact(admin, customer)
    links = {"title": "X", "customer_id": customer, "contact_id": made["id"]}
    paths = [
        f"/admin/{kind}/{admin.ok('POST', f'/admin/{kind}', body)['id']}"
        for kind, body in (("deals", links), ("activities", links | {"type": "call"}))
    ]
    for path in (*paths, f"/admin/contacts/{made['id']}"):
        admin.ok("DELETE", path)
    for path in paths:
        data = refused(admin.post(f"{path}/restore"), 409, "PARENT_DELETED")
        assert data == {"parent": {"type": "contact", "id": made["id"]}}
    admin.ok("POST", f"/admin/contacts/{made['id']}/restore")
    for path in paths:
        admin.ok("POST", f"{path}/restore")
