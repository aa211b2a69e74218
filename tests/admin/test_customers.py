"""Customers, as a salesperson meets them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from msgspec.structs import replace

from app.settings import Settings
from app.web.cursor import CursorSigner
from tests.callers import Caller, Callers, refused

EVERYTHING = {
    "name": "Grace Hopper",
    "email": "grace@example.com",
    "phone": "+1 555 0100",
    "company": "Harvard Computation Lab",
    "role": "Rear Admiral",
    "status": "prospect",
    "assigned_to": "6f9619ff-8b86-4d11-b42d-00c04fc964ff",
    "contacted": True,
    "next_follow_up_at": "2027-03-01T09:30:00Z",
    "contact_preferences": {"channel": "phone", "hours": [9, 17.5]},
    "notes": "Prefers short messages.",
}


def test_a_new_customer_is_a_lead_with_nothing_else_filled_in(admin: Caller) -> None:
    customer = admin.customer("Ada")
    assert {name: customer[name] for name in EVERYTHING} == dict.fromkeys(EVERYTHING) | {
        "name": "Ada",
        "status": "lead",
        "contacted": False,
    }
    assert customer["tags"] == []
    assert customer["version"] == 1
    assert customer["deleted_at"] is None


def test_a_new_customer_wears_none_of_the_tags_that_others_wear(admin: Caller) -> None:
    admin.ok("POST", f"/admin/customers/{admin.customer()['id']}/tags", {"tag_ids": [admin.tag()["id"]]})
    created = admin.customer("Grace Hopper")
    assert created["tags"] == []
    read = admin.ok("GET", f"/admin/customers/{created['id']}")
    assert created == {name: read[name] for name in created}


def test_every_field_is_stored_as_it_was_sent(admin: Caller) -> None:
    created = admin.ok("POST", "/admin/customers", EVERYTHING)
    read = admin.ok("GET", f"/admin/customers/{created['id']}")
    assert read | created == read
    assert {name: read[name] for name in EVERYTHING} == EVERYTHING


def test_what_was_read_can_be_sent_back(admin: Caller) -> None:
    created = admin.ok("POST", "/admin/customers", EVERYTHING)
    assert admin.ok("PUT", f"/admin/customers/{created['id']}", created) == created


def test_put_and_patch_change_only_what_is_present(admin: Caller) -> None:
    created = admin.ok("POST", "/admin/customers", EVERYTHING)
    path = f"/admin/customers/{created['id']}"
    assert admin.ok("PUT", path, {"phone": "1"}) | {"updated_at": 0} == created | {
        "phone": "1",
        "version": 2,
        "updated_at": 0,
    }
    assert admin.ok("PATCH", path, {"phone": None})["phone"] is None


def test_put_with_nothing_is_fine_and_patch_with_nothing_is_refused(admin: Caller) -> None:
    path = f"/admin/customers/{admin.customer()['id']}"
    assert admin.ok("PUT", path, {})["version"] == 1
    refused(admin.patch(path, {}), 400, "NO_UPDATES")
    refused(admin.patch(path, {"id": 5, "tags": [], "version": 9}), 400, "NO_UPDATES")


def test_equal_values_change_nothing(admin: Caller) -> None:
    created = admin.ok("POST", "/admin/customers", EVERYTHING)
    same = {
        "status": "prospect",
        "assigned_to": EVERYTHING["assigned_to"],
        "contact_preferences": {"hours": [9, 17.5], "channel": "phone"},
    }
    assert admin.ok("PATCH", f"/admin/customers/{created['id']}", same) == created
    assert len(admin.audit(resource_id=created["id"])) == 1


def test_true_and_one_are_different_preferences(admin: Caller) -> None:
    created = admin.customer(contact_preferences={"sms": 1})
    changed = admin.ok("PATCH", f"/admin/customers/{created['id']}", {"contact_preferences": {"sms": True}})
    assert changed["contact_preferences"] == {"sms": True}
    assert changed["version"] == 2


def test_a_field_that_must_have_a_value_is_not_cleared(admin: Caller) -> None:
    path = f"/admin/customers/{admin.customer()['id']}"
    for field in ("name", "status", "contacted"):
        data = refused(admin.patch(path, {field: None}), 400, "INVALID_REQUEST")
        assert [fault["field"] for fault in data["fields"]] == [field]


def test_user_ids_are_integers_where_they_look_like_one_and_text_otherwise(admin: Caller) -> None:
    path = f"/admin/customers/{admin.customer()['id']}"
    shown = {
        42: 42,
        "42": 42,
        "0042": "0042",
        "999999999999999": 999_999_999_999_999,
        "1000000000000000": "1000000000000000",
        "user-1": "user-1",
    }
    for sent, expected in shown.items():
        assert admin.ok("PATCH", path, {"assigned_to": sent})["assigned_to"] == expected


def test_every_bad_field_is_named_at_once_and_nothing_is_written(admin: Caller) -> None:
    bad = {
        "name": " ",
        "email": "nobody",
        "status": "vip",
        "contacted": "yes",
        "assigned_to": 1.5,
        "next_follow_up_at": "2027-03-01T09:30:00",
        "contact_preferences": [],
        "colour": "red",
    }
    data = refused(admin.post("/admin/customers", bad), 400, "INVALID_REQUEST")
    assert {fault["field"] for fault in data["fields"]} == set(bad)
    assert admin.ok("GET", "/admin/customers")["total"] == 0
    assert admin.audit() == []


def test_a_bad_address_alone_has_a_code_of_its_own(admin: Caller) -> None:
    data = refused(admin.post("/admin/customers", {"name": "Ada", "email": "ada@@example.com"}), 400, "INVALID_EMAIL")
    assert data["fields"][0]["field"] == "email"


def test_a_bare_date_means_midnight_utc(admin: Caller) -> None:
    customer = admin.customer(next_follow_up_at="2027-03-01")
    assert customer["next_follow_up_at"] == "2027-03-01T00:00:00Z"


@pytest.mark.parametrize(
    "moment",
    ["2027-03-01T09:30:00", 1_800_000_000, "tomorrow", "0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-02:00"],
)
def test_a_time_without_an_offset_or_off_the_calendar_is_refused(admin: Caller, moment: object) -> None:
    refused(admin.post("/admin/customers", {"name": "Ada", "next_follow_up_at": moment}), 400, "INVALID_REQUEST")


# ── email ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_email_again_names_its_holder(admin: Caller) -> None:
    holder = admin.customer(email="Ada@Example.com")
    other = admin.customer("Other")
    again = {"name": "Again", "email": "aDA@example.COM"}
    assert refused(admin.post("/admin/customers", again), 409, "EMAIL_EXISTS") == {"customer_id": holder["id"]}
    taken = admin.patch(f"/admin/customers/{other['id']}", {"email": "ada@example.com"})
    assert refused(taken, 409, "EMAIL_EXISTS") == {"customer_id": holder["id"]}


def test_an_email_is_free_once_its_holder_is_in_the_trash(admin: Caller) -> None:
    first = admin.customer(email="ada@example.com")
    admin.ok("DELETE", f"/admin/customers/{first['id']}")
    second = admin.customer("Second", email="ada@example.com")
    back = admin.post(f"/admin/customers/{first['id']}/restore")
    assert refused(back, 409, "EMAIL_EXISTS") == {"customer_id": second["id"]}
    admin.ok("DELETE", f"/admin/customers/{second['id']}")
    assert admin.ok("POST", f"/admin/customers/{first['id']}/restore")["deleted_at"] is None


def test_another_organization_may_have_the_same_email(admin: Caller, stranger: Caller) -> None:
    admin.customer(email="ada@example.com")
    assert stranger.customer(email="ada@example.com")["version"] == 1


def test_of_many_at_once_with_one_email_one_is_created(admin: Caller) -> None:
    admin.ok("GET", "/admin/me")
    with ThreadPoolExecutor(10) as pool:
        answers = list(
            pool.map(lambda n: admin.post("/admin/customers", {"name": f"N{n}", "email": "one@example.com"}), range(10))
        )
    created = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    assert len(created) == 1
    for answer in answers:
        if answer.status_code != 201:
            assert refused(answer, 409, "EMAIL_EXISTS") == {"customer_id": created[0]}


# ── trash ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_deleted_customer_is_in_the_trash_and_nowhere_else(admin: Caller) -> None:
    customer = admin.customer("Ada", email="ada@example.com")
    path = f"/admin/customers/{customer['id']}"
    assert admin.ok("DELETE", path) == {"message": "Customer deleted successfully"}
    for response in (admin.get(path), admin.put(path, {"name": "B"}), admin.delete(path), admin.get(f"{path}/tags")):
        refused(response, 404, "CUSTOMER_NOT_FOUND")
    assert admin.ok("GET", "/admin/customers")["total"] == 0
    assert admin.ok("GET", "/admin/customers", search="ada")["total"] == 0
    trash = admin.ok("GET", "/admin/customers", deleted="only")["data"]
    assert [entry["id"] for entry in trash] == [customer["id"]]
    assert admin.ok("GET", "/admin/customers", deleted="include")["total"] == 1
    restored = admin.ok("POST", f"{path}/restore")
    assert restored | {"updated_at": 0, "version": 0} == customer | {"updated_at": 0, "version": 0}
    refused(admin.post(f"{path}/restore"), 409, "NOT_DELETED")


def test_an_agent_does_not_see_the_trash(agent: Caller) -> None:
    for choice in ("only", "include"):
        refused(agent.get("/admin/customers", deleted=choice), 403, "INSUFFICIENT_PERMISSIONS")
    agent.ok("GET", "/admin/customers", deleted="exclude")


# ── own or all ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_agents_customer_is_its_own_and_an_admins_is_nobodys(admin: Caller, agent: Caller) -> None:
    assert agent.customer()["assigned_to"] == agent.user_id
    assert admin.customer()["assigned_to"] is None


def test_an_agent_creates_for_nobody_else(agent: Caller) -> None:
    for other in ("somebody", None):
        refused(agent.post("/admin/customers", {"name": "A", "assigned_to": other}), 403, "INSUFFICIENT_PERMISSIONS")


def test_an_agent_changes_its_own_and_reads_the_others(admin: Caller, agent: Caller) -> None:
    own, other = agent.customer("Own"), admin.customer("Other")
    assert agent.ok("PATCH", f"/admin/customers/{own['id']}", {"status": "active"})["status"] == "active"
    assert agent.ok("GET", f"/admin/customers/{other['id']}")["name"] == "Other"
    refused(agent.patch(f"/admin/customers/{other['id']}", {"status": "active"}), 403, "INSUFFICIENT_PERMISSIONS")
    refused(agent.put(f"/admin/customers/{other['id']}/tags", {"tag_ids": []}), 403, "INSUFFICIENT_PERMISSIONS")


def test_only_managers_and_admins_reassign(manager: Caller, agent: Caller) -> None:
    path = f"/admin/customers/{agent.customer()['id']}"
    refused(agent.patch(path, {"assigned_to": "other"}), 403, "INSUFFICIENT_PERMISSIONS")
    assert agent.ok("PATCH", path, {"assigned_to": agent.user_id})["version"] == 1
    assert manager.ok("PATCH", path, {"assigned_to": "other"})["assigned_to"] == "other"


def test_limited_to_its_own_an_agent_neither_finds_nor_counts_the_others(
    own_scope: TestClient[Litestar], callers: Callers, tenant: str, admin: Caller
) -> None:
    limited = callers.person("agent", tenant, client=own_scope)
    own = limited.customer("Own Ada", email="own@example.com")
    other = admin.customer("Other Ada", email="other@example.com")
    listed = limited.ok("GET", "/admin/customers", search="ada")
    assert ([entry["id"] for entry in listed["data"]], listed["total"]) == ([own["id"]], 1)
    for method, body in (("GET", None), ("PATCH", {"status": "active"}), ("PUT", {})):
        refused(limited.call(method, f"/admin/customers/{other['id']}", json=body), 404, "CUSTOMER_NOT_FOUND")
    # That the address is taken is said; by whom is not.
    assert (
        refused(limited.post("/admin/customers", {"name": "X", "email": "other@example.com"}), 409, "EMAIL_EXISTS")
        == {}
    )


# ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_reads_and_writes_carry_the_version_as_etag(admin: Caller) -> None:
    created = admin.post("/admin/customers", {"name": "Ada"})
    path = f"/admin/customers/{created.json()['id']}"
    assert created.headers["ETag"] == '"1"'
    assert admin.get(path).headers["ETag"] == '"1"'
    assert admin.patch(path, {"name": "B"}).headers["ETag"] == '"2"'


@pytest.mark.parametrize("header", ['"1"', "*", '"7", "1"', ' "1" '])
def test_a_matching_if_match_lets_the_write_through(admin: Caller, header: str) -> None:
    path = f"/admin/customers/{admin.customer()['id']}"
    assert admin.patch(path, {"name": "B"}, headers={"If-Match": header}).status_code == 200


@pytest.mark.parametrize("header", ['"2"', 'W/"1"', "1", '"01"', "", '"1', '""', '"1" "2"'])
def test_any_other_if_match_is_a_conflict_and_writes_nothing(admin: Caller, header: str) -> None:
    path = f"/admin/customers/{admin.customer()['id']}"
    for method, body in (("PATCH", {"name": "B"}), ("PUT", {"name": "B"}), ("DELETE", None)):
        answer = admin.call(method, path, json=body, headers={"If-Match": header})
        assert refused(answer, 412, "VERSION_CONFLICT") == {"current_version": 1}
    assert admin.ok("GET", path)["version"] == 1


def test_of_fifty_with_one_version_one_succeeds(admin: Caller) -> None:
    path = f"/admin/customers/{admin.customer()['id']}"
    with ThreadPoolExecutor(15) as pool:
        answers = list(pool.map(lambda n: admin.patch(path, {"name": f"N{n}"}, headers={"If-Match": '"1"'}), range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 49


# ── lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def names(page: dict[str, list[dict[str, str]]]) -> list[str]:
    return [entry["name"] for entry in page["data"]]


def test_filters_take_several_values_and_narrow_together(admin: Caller) -> None:
    admin.customer("A", status="lead", contacted=True)
    admin.customer("B", status="active", assigned_to="7")
    admin.customer("C", status="churned", contacted=True, assigned_to=admin.user_id)

    def found(**filters: object) -> list[str]:
        return names(admin.ok("GET", "/admin/customers", sort_by="name", sort_order="asc", **filters))

    assert found(status="lead,active") == ["A", "B"]
    assert found(status="lead, active", contacted="true") == ["A"]
    assert found(status="") == ["A", "B", "C"]
    assert found(assigned_to="7") == ["B"]
    assert found(assigned_to="none") == ["A"]
    assert found(assigned_to="me,none") == ["A", "C"]


def test_tags_filter_finds_any_of_them(admin: Caller) -> None:
    vip, partner = admin.tag("VIP")["id"], admin.tag("Partner")["id"]
    for name, tag_ids in (("A", [vip]), ("B", [partner]), ("C", [vip, partner]), ("D", [])):
        admin.ok("PUT", f"/admin/customers/{admin.customer(name)['id']}/tags", {"tag_ids": tag_ids})
    found = admin.ok("GET", "/admin/customers", tags=f"{vip}", sort_by="name", sort_order="asc")
    assert names(found) == ["A", "C"]
    assert admin.ok("GET", "/admin/customers", tags=f"{vip},{partner}")["total"] == 3


def test_a_bare_date_as_an_upper_bound_includes_that_day(admin: Caller) -> None:
    today = datetime.now(UTC).date().isoformat()
    admin.customer("A", next_follow_up_at="2027-03-01T23:59:59.999999Z")
    assert admin.ok("GET", "/admin/customers", created_from=today, created_to=today)["total"] == 1
    assert admin.ok("GET", "/admin/customers", follow_up_to="2027-03-01")["total"] == 1
    assert admin.ok("GET", "/admin/customers", follow_up_to="2027-03-01T00:00:00Z")["total"] == 0
    assert admin.ok("GET", "/admin/customers", follow_up_from="2027-03-02")["total"] == 0


@pytest.mark.parametrize(
    ("stored", "fragment"),
    [
        ("ÖZIL", "özil"),
        ("özil", "ÖZIL"),
        ("100% Ltd", "0% l"),
        ("snake_case", "e_c"),
        (r"back\slash", r"k\s"),
        ("Zoë", "Z"),
    ],
)
def test_search_finds_a_fragment_whatever_its_case(admin: Caller, stored: str, fragment: str) -> None:
    admin.customer(stored)
    admin.customer("Nobody else", company="1000 snakes")
    assert names(admin.ok("GET", "/admin/customers", search=fragment)) == [stored]


def test_search_looks_at_name_email_company_and_phone_but_not_across_them(admin: Caller) -> None:
    admin.customer("Ada", email="mail@example.com", company="Engines", phone="12345")
    for fragment, expected in (
        ("ada", 1),
        ("mail@", 1),
        ("engine", 1),
        ("12345", 1),
        ("adamail", 0),
        ("engines12345", 0),
        ("%", 0),
        ("_", 0),
    ):
        assert admin.ok("GET", "/admin/customers", search=fragment)["total"] == expected, fragment


def test_nulls_come_last_in_either_direction(admin: Caller) -> None:
    for name, company in (("A", "Zoo"), ("B", None), ("C", "alpha")):
        admin.customer(name, company=company)
    assert names(admin.ok("GET", "/admin/customers", sort_by="company", sort_order="asc")) == ["C", "A", "B"]
    assert names(admin.ok("GET", "/admin/customers", sort_by="company", sort_order="desc")) == ["A", "C", "B"]


def test_statuses_sort_in_the_order_of_their_declaration(admin: Caller) -> None:
    statuses = ["churned", "active", "lead", "inactive", "prospect"]
    for status in statuses:
        admin.customer(status, status=status)
    expected = ["lead", "prospect", "active", "inactive", "churned"]
    assert names(admin.ok("GET", "/admin/customers", sort_by="status", sort_order="asc")) == expected


def test_a_page_says_what_it_is(admin: Caller) -> None:
    for number in range(5):
        admin.customer(f"C{number}")
    first = admin.ok("GET", "/admin/customers", page_size=2)
    assert (first["total"], first["page"], first["page_size"], first["total_pages"]) == (5, 1, 2, 3)
    last = admin.ok("GET", "/admin/customers", page_size=2, page=3)
    assert (names(last), last["next_cursor"]) == (["C0"], None)
    past = admin.ok("GET", "/admin/customers", page_size=2, page=9)
    assert (past["data"], past["total"], past["total_pages"]) == ([], 5, 3)
    assert admin.ok("GET", "/admin/customers", page_size=1000)["page_size"] == 100
    empty = admin.ok("GET", "/admin/customers", search="nobody")
    assert (empty["total"], empty["total_pages"], empty["next_cursor"]) == (0, 0, None)


def test_a_cursor_remembers_its_filters_and_order(admin: Caller) -> None:
    for number in range(3):
        admin.customer(f"C{number}", status="active")
    admin.customer("Other")
    walk = {"status": "active", "sort_by": "name", "sort_order": "asc", "page_size": 1}
    first = admin.ok("GET", "/admin/customers", **walk)
    second = admin.ok("GET", "/admin/customers", cursor=first["next_cursor"])
    assert names(second) == ["C1", "C2"]
    assert (second["total"], second["page"], second["total_pages"], second["next_cursor"]) == (None, None, None, None)
    same = admin.ok("GET", "/admin/customers", cursor=first["next_cursor"], **walk)
    assert names(same) == ["C1"]


def test_the_filters_beside_a_cursor_may_be_written_another_way(admin: Caller) -> None:
    for number in range(2):
        admin.customer(f"C{number}")

    def walked(first: dict[str, str], then: dict[str, str]) -> Any:
        cursor = admin.ok("GET", "/admin/customers", page_size=1, **first)["next_cursor"]
        return admin.get("/admin/customers", cursor=cursor, **then)

    for first, then in (
        ({"status": "lead,active"}, {"status": "active,lead"}),
        ({"status": "lead"}, {"status": "lead,lead", "deleted": "exclude"}),
        ({"deleted": "exclude"}, {"deleted": "exclude"}),
        ({"deleted": "include"}, {"deleted": "include"}),
    ):
        assert names(walked(first, then).json()) == ["C0"]
    for first, then in (
        ({"status": "lead,active"}, {"status": "lead"}),
        ({"deleted": "include"}, {"deleted": "exclude"}),
        ({}, {"deleted": "include"}),
    ):
        refused(walked(first, then), 400, "INVALID_CURSOR")


def test_a_cursor_is_worth_nothing_elsewhere(admin: Caller, stranger: Caller) -> None:
    for number in range(2):
        admin.customer(f"C{number}")
    cursor = admin.ok("GET", "/admin/customers", page_size=1)["next_cursor"]
    elsewhere = [
        admin.get("/admin/customers", cursor=cursor, status="lead"),
        admin.get("/admin/customers", cursor=cursor, sort_by="name"),
        admin.get("/admin/customers", cursor=cursor, sort_order="asc"),
        admin.get("/admin/customers", cursor=cursor[:-1] + ("A" if cursor[-1] != "A" else "B")),
        admin.get("/admin/customers", cursor="nonsense"),
        admin.get("/admin/users", cursor=cursor),
        stranger.get("/admin/customers", cursor=cursor),
    ]
    for answer in elsewhere:
        refused(answer, 400, "INVALID_CURSOR")
    refused(admin.get("/admin/customers", cursor=cursor, page=1), 400, "INVALID_REQUEST")


def test_a_cursor_of_an_earlier_release_is_refused(admin: Caller, settings: Settings) -> None:
    for number in range(2):
        admin.customer(f"C{number}")
    signer = CursorSigner(settings.jwt_secrets)
    position = signer.decode(admin.ok("GET", "/admin/customers", page_size=1)["next_cursor"])
    for changed in ({"key": [7, position.key[1]]}, {"filters": {"gone": 1}}, {"sort_by": "gone"}):
        cursor = signer.encode(replace(position, **changed))
        refused(admin.get("/admin/customers", cursor=cursor), 400, "INVALID_CURSOR")


# ── tags of a customer ───────────────────────────────────────────────────────────────────────────────────────────────


def test_tags_are_added_replaced_and_taken_off(admin: Caller) -> None:
    path = f"/admin/customers/{admin.customer()['id']}/tags"
    b, a = admin.tag("b")["id"], admin.tag("A", color="#6366f1")["id"]

    def worn(answer: dict[str, Any]) -> list[str]:
        assert answer["total"] == len(answer["data"])
        return [tag["name"] for tag in answer["data"]]

    assert worn(admin.ok("POST", path, {"tag_ids": [b, a, b]})) == ["A", "b"]
    assert worn(admin.ok("PUT", path, {"tag_ids": [b]})) == ["b"]
    assert admin.ok("POST", f"{path}/{a}") == admin.ok("POST", f"{path}/{a}")
    assert worn(admin.ok("GET", path)) == ["A", "b"]
    assert admin.ok("DELETE", f"{path}/{a}") == admin.ok("DELETE", f"{path}/{a}")
    assert worn(admin.ok("GET", path)) == ["b"]


def test_a_change_of_tags_is_one_version_and_one_audit_entry(admin: Caller) -> None:
    customer = admin.customer()
    path = f"/admin/customers/{customer['id']}"
    a, b, c = (admin.tag(name)["id"] for name in "abc")
    admin.ok("PUT", f"{path}/tags", {"tag_ids": [a, b]})
    answer = admin.put(f"{path}/tags", {"tag_ids": [b, c]}, headers={"If-Match": '"2"'})
    assert answer.headers["ETag"] == '"3"'
    newest = admin.audit(resource_type="customer", resource_id=customer["id"])[0]
    assert newest["changes"] == {"tags": {"old": [a, b], "new": [b, c]}}
    stale = admin.delete(f"{path}/tags/{b}", headers={"If-Match": '"2"'})
    assert refused(stale, 412, "VERSION_CONFLICT") == {"current_version": 3}
    admin.ok("PUT", f"{path}/tags", {"tag_ids": [c, b]})
    assert admin.ok("GET", path)["version"] == 3


def test_an_unknown_tag_is_refused_as_a_reference_and_as_an_address(admin: Caller, stranger: Caller) -> None:
    customer = admin.customer()
    path = f"/admin/customers/{customer['id']}/tags"
    for tag_id in (stranger.tag()["id"], 2**62):
        refused(admin.post(path, {"tag_ids": [tag_id]}), 400, "TAG_NOT_FOUND")
        refused(admin.put(path, {"tag_ids": [tag_id]}), 400, "TAG_NOT_FOUND")
        refused(admin.post(f"{path}/{tag_id}"), 404, "TAG_NOT_FOUND")
        refused(admin.delete(f"{path}/{tag_id}"), 404, "TAG_NOT_FOUND")
    assert admin.ok("GET", f"/admin/customers/{customer['id']}")["version"] == 1
