"""Merging customers and contacts, and taking it back."""

from __future__ import annotations

from typing import Any

from tests.callers import Caller, refused


def contact(caller: Caller, customer: int, name: str, **fields: Any) -> int:
    made = caller.ok("POST", f"/admin/customers/{customer}/contacts", {"first_name": name, **fields})
    return int(made["id"])


def merge(caller: Caller, kind: str, kept: int, *others: int, **fields: str) -> Any:
    """The answer, with the operation."""
    answer = caller.post(f"/admin/{kind}/{kept}/merge", {"from": [*others], **({"fields": fields} if fields else {})})
    assert answer.is_success, answer.text
    return answer


def undo(caller: Caller, answer: Any, since: str = "refuse") -> Any:
    operation = answer.headers["X-Operation-Id"]
    return caller.ok("POST", f"/admin/operations/{operation}/undo", {"changed_since": since})


class World:
    """Two customers, the second with something of each kind."""

    def __init__(self, admin: Caller) -> None:
        self.admin = admin
        self.vip, self.new = admin.tag("VIP")["id"], admin.tag("New")["id"]
        self.kept = admin.customer("Ada Lovelace")["id"]
        self.other = admin.customer(
            "A. Lovelace", email="ada@example.com", phone="030 12345", external_id="erp-17", notes="Likes cogs."
        )["id"]
        admin.ok("POST", f"/admin/customers/{self.kept}/tags", {"tag_ids": [self.vip]})
        admin.ok("POST", f"/admin/customers/{self.other}/tags", {"tag_ids": [self.new]})
        self.contact = contact(admin, self.other, "Grace", is_primary=True)
        links = {"customer_id": self.other}
        named = {**links, "contact_id": self.contact}
        self.deal = admin.ok("POST", "/admin/deals", {"title": "Engine", **named})["id"]
        self.bare_deal = admin.ok("POST", "/admin/deals", {"title": "Cogs", **links})["id"]
        self.activity = admin.ok("POST", "/admin/activities", {"title": "Call", "type": "call", **named})["id"]
        self.project = admin.ok("POST", "/admin/projects", {"name": "Move", **links})["id"]
        self.note = admin.ok("POST", "/admin/notes", {"content": "Hm.", **links})["id"]
        self.file = admin.attach(f"/admin/customers/{self.other}").json()["id"]

    def owners(self) -> list[int]:
        """The customers of all that belonged to the second one."""
        return [self.admin.ok("GET", path)["customer_id"] for path in self.paths()]

    def paths(self) -> list[str]:
        return [
            *(f"/admin/contacts/{self.contact}", f"/admin/deals/{self.deal}", f"/admin/deals/{self.bare_deal}"),
            f"/admin/projects/{self.project}",
            *(f"/admin/activities/{self.activity}", f"/admin/notes/{self.note}", f"/admin/attachments/{self.file}"),
        ]


def test_what_belonged_to_the_others_comes_over_and_empty_fields_are_filled(admin: Caller, manager: Caller) -> None:
    world = World(admin)
    merged = merge(manager, "customers", world.kept, world.other).json()
    assert world.owners() == [world.kept] * 7
    filled = {name: merged[name] for name in ("name", "email", "phone", "external_id", "notes")}
    assert filled == {
        "name": "Ada Lovelace",
        "email": "ada@example.com",
        "phone": "030 12345",
        "external_id": "erp-17",
        "notes": "Likes cogs.",
    }
    assert [tag["name"] for tag in merged["tags"]] == ["New", "VIP"]
    assert admin.ok("GET", f"/admin/contacts/{world.contact}")["is_primary"]
    (trashed,) = admin.ok("GET", "/admin/customers", deleted="only")["data"]
    assert (trashed["id"], trashed["merged_into"]) == (world.other, world.kept)


def test_a_field_can_be_chosen(admin: Caller) -> None:
    world = World(admin)
    merged = merge(
        admin, "customers", world.kept, world.other, name=f"from:{world.other}", status=f"from:{world.other}"
    )
    assert merged.json()["name"] == "A. Lovelace"
    body = {"from": [admin.customer()["id"]], "fields": {"hold": "from:1", "name": "from:2"}}
    faults = refused(admin.post(f"/admin/customers/{world.kept}/merge", body), 400, "INVALID_REQUEST")["fields"]
    assert [fault["field"] for fault in faults] == ["fields.hold", "fields.name"]


def test_a_merged_id_says_where_to_go(admin: Caller, agent: Caller, stranger: Caller) -> None:
    first, second, third = (admin.customer(name)["id"] for name in ("Ada", "Ada", "Ada"))
    merge(admin, "customers", second, first)
    merge(admin, "customers", third, second)
    path = f"/admin/customers/{first}"
    for caller in (admin, agent):
        for method, body in (("GET", None), ("PATCH", {"name": "Ada"})):
            assert refused(caller.call(method, path, json=body), 410, "MERGED") == {"merged_into": third}
    assert refused(admin.delete(path), 410, "MERGED") == {"merged_into": third}
    assert refused(admin.get(f"{path}/timeline"), 410, "MERGED") == {"merged_into": third}
    refused(stranger.get(path), 404, "CUSTOMER_NOT_FOUND")
    batch = {"requests": [{"method": "PATCH", "path": path, "body": {"name": "A"}}]}
    assert refused(admin.post("/admin/batch", batch), 410, "MERGED")["merged_into"] == third
    admin.ok("DELETE", f"/admin/customers/{third}")
    refused(admin.get(path), 404, "CUSTOMER_NOT_FOUND")


def test_a_merged_external_id_goes_on_finding_the_kept_one(admin: Caller) -> None:
    kept = admin.customer("Ada", external_id="crm-1")["id"]
    other = admin.customer("Ada", external_id="erp-2")["id"]
    merge(admin, "customers", kept, other)
    for external_id in ("crm-1", "erp-2", "erp-2,none"):
        found = admin.ok("GET", "/admin/customers", external_id=external_id)
        assert [row["id"] for row in found["data"]] == [kept]
        assert found["total"] == 1


def test_a_merge_is_one_event_and_shows_in_the_log(admin: Caller) -> None:
    world = World(admin)
    answer = merge(admin, "customers", world.kept, world.other)
    entries = admin.audit(operation_id=answer.headers["X-Operation-Id"])
    (merged,) = [entry for entry in entries if entry["action"] == "merge"]
    assert (merged["resource_type"], merged["resource_id"]) == ("customer", world.kept)
    assert merged["changes"]["merged_ids"] == {"old": None, "new": [world.other]}


def test_a_merge_is_taken_apart(admin: Caller) -> None:
    world = World(admin)
    before = [admin.ok("GET", f"/admin/customers/{each}") for each in (world.kept, world.other)]
    answer = merge(admin, "customers", world.kept, world.other)
    undone = undo(admin, answer)
    assert undone["kept"] == []
    assert world.owners() == [world.other] * 7
    passing = {"version", "updated_at", "recent_timeline", "upcoming_activities", "recent_activities", "open_deals"}
    passing |= {"contacts", "primary_contact"}
    for was in before:
        now = admin.ok("GET", f"/admin/customers/{was['id']}")
        assert {name: now[name] for name in now.keys() - passing} == {name: was[name] for name in was.keys() - passing}
    assert [entry["action"] for entry in admin.audit(action="merge")] == ["merge"]


def test_what_came_since_stays_with_the_kept_one(admin: Caller) -> None:
    world = World(admin)
    answer = merge(admin, "customers", world.kept, world.other)
    admin.ok("PATCH", f"/admin/customers/{world.kept}", {"phone": "030 99999"})
    body = {"title": "Newer", "customer_id": world.kept, "contact_id": world.contact}
    newer = admin.ok("POST", "/admin/deals", body)["id"]
    admin.ok("DELETE", f"/admin/notes/{world.note}")
    operation = answer.headers["X-Operation-Id"]
    refused(admin.post(f"/admin/operations/{operation}/undo", {}), 409, "CHANGED_SINCE")
    kept = undo(admin, answer, "keep")["kept"]
    told = {(each["resource_type"], each["resource_id"], each["field"]) for each in kept}
    assert ("customer", world.kept, "phone") in told
    assert ("contact", world.contact, "customer_id") in told
    assert admin.ok("GET", f"/admin/customers/{world.kept}")["phone"] == "030 99999"
    assert admin.ok("GET", f"/admin/deals/{newer}")["contact"]["id"] == world.contact
    # The contact that the new deal names stays, and with it the older deal that names it.
    assert admin.ok("GET", f"/admin/deals/{world.deal}")["customer_id"] == world.kept
    assert admin.ok("GET", f"/admin/deals/{world.bare_deal}")["customer_id"] == world.other
    assert admin.ok("GET", f"/admin/customers/{world.other}")["email"] == "ada@example.com"


def test_a_merge_is_tried_without_a_trace(admin: Caller) -> None:
    world = World(admin)
    body = {"from": [world.other]}
    tried = admin.post(f"/admin/customers/{world.kept}/merge", body, headers={"Dry-Run": "true"}).json()
    assert {change["action"] for change in tried["changes"]} == {"update", "delete", "merge"}
    assert world.owners() == [world.other] * 7


def test_what_can_not_be_merged_is_said(admin: Caller, agent: Caller) -> None:
    kept, other = admin.customer("Ada")["id"], admin.customer("Ada", hold=True)["id"]
    path = f"/admin/customers/{kept}/merge"
    refused(agent.post(path, {"from": [other]}), 403, "INSUFFICIENT_PERMISSIONS")
    refused(admin.post(path, {"from": [kept]}), 400, "INVALID_REQUEST")
    refused(admin.post(path, {"from": [2**62]}), 400, "CUSTOMER_NOT_FOUND")
    refused(admin.post(path, {"from": [other]}), 409, "ON_HOLD")
    refused(admin.post(path, {"from": [other]}, headers={"If-Match": '"7"'}), 412, "VERSION_CONFLICT")
    refused(admin.post("/admin/customers/4611686018427387904/merge", {"from": [other]}), 404, "CUSTOMER_NOT_FOUND")


def test_contacts_are_merged_with_what_names_them(admin: Caller) -> None:
    customer = admin.customer("Engines")["id"]
    kept, other = (
        contact(admin, customer, "Ada"),
        contact(admin, customer, "Ada", last_name="Lovelace", is_primary=True),
    )
    links = {"customer_id": customer, "contact_id": other}
    deal = admin.ok("POST", "/admin/deals", {"title": "Engine", **links})["id"]
    activity = admin.ok("POST", "/admin/activities", {"title": "Call", "type": "call", **links})["id"]
    answer = merge(admin, "contacts", kept, other)
    assert (answer.json()["last_name"], answer.json()["is_primary"]) == ("Lovelace", True)

    def named() -> list[int]:
        return [
            admin.ok("GET", path)["contact_id"] for path in (f"/admin/deals/{deal}", f"/admin/activities/{activity}")
        ]

    assert named() == [kept, kept]
    assert refused(admin.get(f"/admin/contacts/{other}"), 410, "MERGED") == {"merged_into": kept}
    assert undo(admin, answer)["kept"] == []
    assert named() == [other, other]
    assert admin.ok("GET", f"/admin/contacts/{other}")["is_primary"]


def test_a_contact_that_deals_of_another_customer_name_is_not_merged(admin: Caller) -> None:
    here, there = admin.customer("Here")["id"], admin.customer("There")["id"]
    kept, other = contact(admin, here, "Ada"), contact(admin, there, "Ada")
    deal = admin.ok("POST", "/admin/deals", {"title": "Engine", "customer_id": there, "contact_id": other})["id"]
    path = f"/admin/contacts/{kept}/merge"
    assert refused(admin.post(path, {"from": [other]}), 409, "DIFFERENT_CUSTOMERS") == {"contact_ids": [other]}
    admin.ok("PATCH", f"/admin/deals/{deal}", {"contact_id": None})
    merge(admin, "contacts", kept, other)


def test_an_erasure_reaches_what_was_merged(admin: Caller) -> None:
    kept, other = admin.customer("Ada")["id"], admin.customer("Augusta", email="augusta@example.com")["id"]
    merge(admin, "customers", kept, other)
    erased = admin.ok("POST", f"/admin/customers/{kept}/erase", {"reason": "Asked for", "confirm": "Ada"})
    assert erased["erased"]["customers"] == 2
    assert "Augusta" not in str(admin.audit())


def test_a_merged_record_can_be_restored_alone(admin: Caller) -> None:
    kept, other = admin.customer("Ada")["id"], admin.customer("Ada")["id"]
    merge(admin, "customers", kept, other)
    assert admin.ok("POST", f"/admin/customers/{other}/restore")["merged_into"] is None
    assert admin.ok("GET", f"/admin/customers/{other}")["id"] == other
