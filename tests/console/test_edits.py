"""An edit through the console loses nothing that the console does not know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.callers import Caller, refused
from tests.laws.routes import CONSOLE, Operation

STAGES = "/admin/pipeline-stages"


def console(caller: Caller, method: str, path: str, json: Any = None, **params: Any) -> Any:
    return caller.ok(method, f"/console/admin{path}", json, **params)


def entries(caller: Caller, kind: str) -> list[dict[str, Any]]:
    return [entry["changes"] for entry in caller.audit(resource_type=kind, action="update")]


def send_back(caller: Caller, path: str, **changes: Any) -> dict[str, Any]:
    """What an edit form does: all that was shown comes back, times cut, one field changed."""
    shown = console(caller, "GET", path)
    for name, length in (("follow_up_at", 10), ("expected_close_date", 10), ("due_at", 16)):
        if name in shown:
            shown[name] = shown[name][:length]
    answer: dict[str, Any] = console(caller, "PUT", path, shown | changes)
    return answer


def test_a_churned_customer_whose_phone_is_edited_stays_churned(admin: Caller) -> None:
    made = admin.customer(
        status="churned",
        role="CTO",
        notes="Left for a rival.",
        contacted=True,
        next_follow_up_at="2099-05-06T14:30:12.345678Z",
        contact_preferences={"days": [1, 2.50]},
        assigned_to="7",
    )
    path = f"/customers/{made['id']}"
    assert console(admin, "GET", path)["status"] == "inactive"
    send_back(admin, path, phone="+44 1")
    after = admin.ok("GET", f"/admin{path}")
    changed = {name for name in made if made[name] != after[name]}
    assert changed == {"phone", "version", "updated_at"}
    assert entries(admin, "customer") == [{"phone": {"old": None, "new": "+44 1"}}]


def test_a_status_that_is_meant_is_changed(admin: Caller) -> None:
    prospect = admin.customer(status="prospect")
    path = f"/customers/{prospect['id']}"
    assert send_back(admin, path, status="active")["status"] == "active"
    assert admin.ok("GET", f"/admin{path}")["status"] == "active"


def test_a_status_finds_all_that_are_shown_as_it(admin: Caller) -> None:
    for status in ("lead", "prospect", "active", "inactive", "churned"):
        admin.customer(name=status, status=status)

    def named(**filters: str) -> set[str]:
        return {each["name"] for each in console(admin, "GET", "/customers", **filters)["data"]}

    assert named(status="lead") == {"lead", "prospect"}
    assert named(status="inactive") == {"inactive", "churned"}
    assert named(status="active") == {"active"}


def test_a_deal_in_a_tenants_own_stage_keeps_it_through_an_edit(admin: Caller) -> None:
    admin.ok("POST", STAGES, {"name": "demo", "display_name": "Demo", "order": 3, "probability": 35})
    deal = admin.ok("POST", "/admin/deals", {"title": "Engine", "customer_id": admin.customer()["id"], "stage": "demo"})
    path = f"/deals/{deal['id']}"
    assert console(admin, "GET", path)["stage"] == "qualified"
    send_back(admin, path, name="Engine No. 2")
    assert console(admin, "PATCH", f"{path}/stage", {"stage": "qualified"})["stage"] == "qualified"
    after = admin.ok("GET", f"/admin{path}")
    assert (after["stage"], after["title"], len(after["stage_history"])) == ("demo", "Engine No. 2", 1)
    assert [each["id"] for each in console(admin, "GET", "/deals", stage="qualified")["data"]] == [str(deal["id"])]
    assert console(admin, "GET", "/deals", stage="proposal")["data"] == []


def test_stages_are_known_by_their_origin_and_own_ones_by_their_place(admin: Caller) -> None:
    stages = {stage["name"]: stage["id"] for stage in admin.ok("GET", STAGES)["data"]}
    admin.ok("PUT", f"{STAGES}/{stages['proposal']}", {"name": "offer_sent"})
    for name, kind, order in (("first_of_all", "open", 1), ("signed", "won", 9), ("ghosted", "lost", 9)):
        admin.ok("POST", STAGES, {"name": name, "display_name": name, "kind": kind, "order": order})
    customer = admin.customer()["id"]
    shown = {}
    for stage in admin.ok("GET", STAGES)["data"]:
        body = {"title": "Engine", "customer_id": customer, "stage": stage["name"], "amount": 1}
        deal = admin.ok("POST", "/admin/deals", body)
        shown[stage["name"]] = console(admin, "GET", f"/deals/{deal['id']}")["stage"]
    assert shown == {
        "first_of_all": "lead",
        "prospecting": "lead",
        "qualification": "qualified",
        "offer_sent": "proposal",
        "negotiation": "negotiation",
        "closed_won": "won",
        "signed": "won",
        "closed_lost": "lost",
        "ghosted": "lost",
    }
    figures = console(admin, "GET", "/reports/overview")["deals_by_stage"]
    assert {each["stage"]: each["count"] for each in figures} == {
        "lead": 2,
        "qualified": 1,
        "proposal": 1,
        "negotiation": 1,
        "won": 2,
        "lost": 2,
    }


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("lead", "prospecting"),
        ("qualified", "qualification"),
        ("proposal", "proposal"),
        ("negotiation", "negotiation"),
        ("won", "closed_won"),
        ("lost", "closed_lost"),
    ],
)
def test_a_stage_that_is_sent_is_the_built_in_one(admin: Caller, sent: str, stored: str) -> None:
    body = {"name": "Engine", "customer_id": str(admin.customer()["id"]), "stage": sent, "amount": 5}
    deal = console(admin, "POST", "/deals", body)
    assert deal["stage"] == sent
    assert admin.ok("GET", f"/admin/deals/{deal['id']}")["stage"] == stored


def test_won_is_the_first_active_stage_of_its_kind_and_a_stage_that_is_gone_is_said(admin: Caller) -> None:
    stages = {stage["name"]: stage["id"] for stage in admin.ok("GET", STAGES)["data"]}
    admin.ok("POST", STAGES, {"name": "signed", "display_name": "Signed", "kind": "won", "order": 9})
    admin.ok("PATCH", f"{STAGES}/{stages['closed_won']}", {"is_active": False})
    admin.ok("PATCH", f"{STAGES}/{stages['proposal']}", {"is_active": False})
    body = {"name": "Engine", "customer_id": admin.customer()["id"], "stage": "won", "amount": 5}
    deal = console(admin, "POST", "/deals", body)
    assert admin.ok("GET", f"/admin/deals/{deal['id']}")["stage"] == "signed"
    answer = admin.post("/console/admin/deals", body | {"stage": "proposal"})
    assert refused(answer, 400, "INVALID_STAGE")["fields"][0]["field"] == "stage"


def test_who_may_not_change_a_deal_is_told_so_before_the_stage_is_looked_at(admin: Caller, agent: Caller) -> None:
    stages = {stage["name"]: stage["id"] for stage in admin.ok("GET", STAGES)["data"]}
    admin.ok("PATCH", f"{STAGES}/{stages['proposal']}", {"is_active": False})
    deal = admin.ok("POST", "/admin/deals", {"title": "Engine", "customer_id": admin.customer()["id"]})
    path = f"/console/admin/deals/{deal['id']}/stage"
    refused(agent.patch(path, {"stage": "proposal"}), 403, "INSUFFICIENT_PERMISSIONS")
    refused(admin.patch(path, {"stage": "proposal"}, headers={"If-Match": '"9"'}), 412, "VERSION_CONFLICT")


def test_a_probability_that_is_sent_along_with_a_move_is_kept(admin: Caller) -> None:
    body = {"title": "Engine", "customer_id": admin.customer()["id"], "probability": 35}
    path = f"/deals/{admin.ok('POST', '/admin/deals', body)['id']}"
    assert send_back(admin, path, stage="proposal")["probability"] == 35
    assert console(admin, "PATCH", f"{path}/stage", {"stage": "negotiation"})["probability"] == 75


def test_the_figures_of_a_renamed_stage_stay_where_they_were(admin: Caller, variant: Any) -> None:
    body = {"title": "Engine", "customer_id": admin.customer()["id"], "stage": "closed_won", "amount": 5}
    admin.ok("POST", "/admin/deals", body)
    before = console(admin, "GET", "/reports/overview")["deals_by_stage"]
    stages = {stage["name"]: stage["id"] for stage in admin.ok("GET", STAGES)["data"]}
    # By another process, whose writes do not drop what this one keeps.
    other = Caller(variant(), admin.headers["Authorization"].split()[1], user_id=admin.user_id, tenant=admin.tenant)
    other.ok("PUT", f"{STAGES}/{stages['closed_won']}", {"name": "signed"})
    assert console(admin, "GET", "/reports/overview")["deals_by_stage"] == before


def test_a_close_date_keeps_its_time_and_can_be_moved(admin: Caller) -> None:
    body = {"title": "Engine", "customer_id": admin.customer()["id"], "expected_close_date": "2026-12-25T16:45:30Z"}
    path = f"/deals/{admin.ok('POST', '/admin/deals', body)['id']}"
    send_back(admin, path, amount=10)
    assert admin.ok("GET", f"/admin{path}")["expected_close_date"] == "2026-12-25T16:45:30Z"
    assert send_back(admin, path, expected_close_date="2026-12-26")["expected_close_date"] == "2026-12-26T12:00:00Z"
    assert admin.ok("GET", f"/admin{path}")["expected_close_date"] == "2026-12-26T00:00:00Z"


def test_a_follow_up_at_half_past_two_keeps_its_time_and_its_day_can_be_moved(admin: Caller) -> None:
    path = f"/customers/{admin.customer(next_follow_up_at='2099-05-06T14:30:00Z')['id']}"
    assert send_back(admin, path, name="Ada King")["follow_up_at"] == "2099-05-06T14:30:00Z"
    assert send_back(admin, path, follow_up_at="2099-05-07")["follow_up_at"] == "2099-05-07T12:00:00Z"
    assert admin.ok("GET", f"/admin{path}")["next_follow_up_at"] == "2099-05-07T00:00:00Z"


DAYS = [
    ("customers", "follow_up_at", "next_follow_up_at", {"name": "Ada"}),
    ("deals", "expected_close_date", "expected_close_date", {"name": "Engine"}),
    ("activities", "due_at", "due_date", {"type": "task", "subject": "Offer"}),
]


@pytest.mark.parametrize(("kind", "shown", "stored", "body"), DAYS)
def test_a_whole_day_is_shown_at_noon_and_comes_back_as_the_day(
    kind: str, shown: str, stored: str, body: dict[str, Any], admin: Caller
) -> None:
    more = {"customer_id": admin.customer()["id"]} if kind == "deals" else {}
    record = console(admin, "POST", f"/{kind}", body | more | {shown: "2099-12-25"})
    path = f"/{kind}/{record['id']}"
    assert record[shown] == "2099-12-25T12:00:00Z"
    # As it was shown, cut to the minute, cut to the day, and as toISOString() writes it.
    for sent in ("2099-12-25T12:00:00Z", "2099-12-25T12:00:00.000Z", "2099-12-25"):
        console(admin, "PUT", path, {shown: sent})
    send_back(admin, path)
    before = admin.ok("GET", f"/admin{path}")
    assert (before["version"], before[stored]) == (1, "2099-12-25T00:00:00Z")
    for sent in ("2099-12-26T12:00:00Z", "2099-12-27"):
        assert console(admin, "PUT", path, {shown: sent})[shown] == f"{sent[:10]}T12:00:00Z"
        assert admin.ok("GET", f"/admin{path}")[stored] == f"{sent[:10]}T00:00:00Z"
    assert console(admin, "PUT", path, {shown: "2099-12-28T15:30:00Z"})[shown] == "2099-12-28T15:30:00Z"


def test_a_whole_day_of_an_activity_stays_one_until_it_gets_an_hour(admin: Caller) -> None:
    body = {"title": "Fair", "type": "meeting", "due_date": "2099-12-25"}
    path = f"/activities/{admin.ok('POST', '/admin/activities', body)['id']}"
    assert send_back(admin, path, due_at="2099-12-26T12:00")["due_at"] == "2099-12-26T12:00:00Z"
    assert admin.ok("GET", f"/admin{path}")["all_day"] is True
    assert console(admin, "PUT", path, {"due_at": "2099-12-26T15:30"})["due_at"] == "2099-12-26T15:30:00Z"
    assert admin.ok("GET", f"/admin{path}")["all_day"] is False
    # At noon it is a meeting at noon, now that it has an hour.
    assert console(admin, "PUT", path, {"due_at": "2099-12-26T12:00"})["due_at"] == "2099-12-26T12:00:00Z"
    after = admin.ok("GET", f"/admin{path}")
    assert (after["due_date"], after["all_day"]) == ("2099-12-26T12:00:00Z", False)
    assert console(admin, "PUT", path, {"due_at": "2099-12-27"})["due_at"] == "2099-12-27T12:00:00Z"
    assert admin.ok("GET", f"/admin{path}")["all_day"] is True


@pytest.mark.parametrize("zone", ["Pacific/Honolulu", "UTC", "Pacific/Auckland"])
def test_a_filter_by_days_finds_whole_days_by_their_date(zone: str, admin: Caller) -> None:
    admin.ok("PUT", "/admin/settings", {"timezone": zone})
    customer = admin.customer()["id"]
    for day in ("2099-12-24", "2099-12-25", "2099-12-26"):
        console(admin, "POST", "/activities", {"type": "task", "subject": day, "due_at": day})
        body = {"name": day, "customer_id": customer, "expected_close_date": day}
        console(admin, "POST", "/deals", body)
    only = {"date_from": "2099-12-25", "date_to": "2099-12-25"}
    assert [each["subject"] for each in console(admin, "GET", "/activities", **only)["data"]] == ["2099-12-25"]
    assert [each["subject"] for each in console(admin, "GET", "/me/activities", **only)["data"]] == ["2099-12-25"]
    assert [each["name"] for each in console(admin, "GET", "/deals", **only)["data"]] == ["2099-12-25"]


def test_activities_come_open_ones_first_by_due_date_then_closed_ones_newest_first(admin: Caller) -> None:
    customer = admin.customer()["id"]
    for title, more in {
        "done long ago": {"status": "completed", "completed_at": "2020-01-01T10:00:00Z"},
        "without a date": {},
        "in a year": {"due_date": "2099-01-01T10:00:00Z"},
        "done lately": {"status": "completed", "completed_at": "2021-01-01T10:00:00Z", "due_date": "1999-01-01"},
        "overdue": {"due_date": "2020-01-01T10:00:00Z"},
        "cancelled just now": {"status": "cancelled", "due_date": "2030-01-01"},
    }.items():
        admin.ok("POST", "/admin/activities", {"title": title, "type": "call", "customer_id": customer} | more)
    expected = ["overdue", "in a year", "without a date", "cancelled just now", "done lately", "done long ago"]
    for path, filters in (("/activities", {}), ("/me/activities", {}), ("/activities", {"customer_id": customer})):
        assert [each["subject"] for each in console(admin, "GET", path, **filters)["data"]] == expected
    pages = [console(admin, "GET", "/activities", limit=2, page=page)["data"] for page in (1, 2, 3)]
    assert [each["subject"] for page in pages for each in page] == expected


def test_an_activity_needs_no_link(admin: Caller) -> None:
    body = {"type": "task", "subject": "Buy ink", "description": "", "customer_id": "", "deal_id": "", "due_at": ""}
    made = console(admin, "POST", "/activities", body)
    assert not {"customer", "customer_id", "deal", "deal_id", "due_at"} & made.keys()
    assert send_back(admin, f"/activities/{made['id']}", subject="Buy paper")["subject"] == "Buy paper"


def test_a_late_task_can_be_renamed(admin: Caller, settings: Any) -> None:
    body = {"title": "Offer", "type": "task", "customer_id": admin.customer()["id"]}
    due = datetime.now(UTC) + timedelta(hours=1)
    task = admin.ok("POST", "/admin/activities", body | {"due_date": due.isoformat()})
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [admin.tenant])
        owner.execute(
            "UPDATE activities SET due_date = now() - interval '1 day' - interval '7 seconds' WHERE id = %s",
            [task["id"]],
        )
    path = f"/activities/{task['id']}"
    before = admin.ok("GET", f"/admin{path}")
    assert before["status"] == "overdue"
    assert send_back(admin, path, subject="Better offer")["subject"] == "Better offer"
    # As toISOString() writes it, to the millisecond.
    exact = before["due_date"][:23] + "Z"
    assert console(admin, "PUT", path, {"due_at": exact})["due_at"] == before["due_date"]
    after = admin.ok("GET", f"/admin{path}")
    assert {name for name in before if before[name] != after[name]} == {"title", "version", "updated_at"}
    answer = admin.put(f"/console/admin{path}", {"due_at": "2020-01-01T10:00"})
    assert refused(answer, 400, "DUE_DATE_IN_PAST")["fields"][0]["field"] == "due_at"


def test_a_cancelled_activity_stays_cancelled_with_its_due_date(admin: Caller) -> None:
    body = {"title": "Call", "type": "call", "customer_id": admin.customer()["id"], "status": "cancelled"}
    made = admin.ok("POST", "/admin/activities", body | {"due_date": "2020-01-01T10:00:30Z", "outcome": "moved away"})
    shown = console(admin, "GET", f"/activities/{made['id']}")
    assert shown["due_at"] == made["due_date"]
    assert "completed_at" not in shown
    send_back(admin, f"/activities/{made['id']}", description="Never reached")
    after = admin.ok("GET", f"/admin/activities/{made['id']}")
    assert {name for name in made if made[name] != after[name]} == {"description", "version", "updated_at"}


def test_a_due_date_without_a_zone_is_utc(admin: Caller) -> None:
    body = {"type": "call", "subject": "Ring", "description": "", "customer_id": str(admin.customer()["id"])}
    for sent in ("2099-12-31T10:30", "2099-12-31T10:30:00", "2099-12-31T12:30:00+02:00", "2099-12-31T10:30:00Z"):
        assert console(admin, "POST", "/activities", body | {"due_at": sent})["due_at"] == "2099-12-31T10:30:00Z"
    answer = admin.post("/console/admin/activities", body | {"due_at": "2099-02-30T10:30"})
    assert refused(answer, 400, "INVALID_REQUEST")["fields"][0]["field"] == "due_at"


def test_an_emptied_description_is_cleared_and_other_empty_fields_are_left_alone(admin: Caller) -> None:
    customer, other = admin.customer(phone="1"), admin.customer("Grace")
    body = {"type": "call", "subject": "Ring", "description": "about the engine", "customer_id": customer["id"]}
    path = f"/activities/{console(admin, 'POST', '/activities', body)['id']}"
    console(admin, "PUT", path, {"description": "", "customer_id": "", "deal_id": "", "due_at": ""})
    after = admin.ok("GET", f"/admin{path}")
    assert (after["description"], after["customer_id"]) == (None, customer["id"])
    assert console(admin, "PUT", path, {"customer_id": str(other["id"])})["customer_id"] == str(other["id"])
    assert console(admin, "PUT", f"/customers/{customer['id']}", {"phone": "", "company": ""})["phone"] == "1"
    assert refused(admin.post("/console/admin/customers", {"name": ""}), 400, "INVALID_REQUEST")["fields"] == [
        {"field": "name", "message": "is required"}
    ]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("Grace Brewster Hopper", "Grace Brewster", "Hopper"),
        ("Madonna", "Madonna", None),
        ("  Ada   Lovelace ", "Ada", "Lovelace"),
    ],
)
def test_a_contacts_name_is_split_at_its_last_blank(admin: Caller, name: str, first: str, last: str | None) -> None:
    path = f"/customers/{admin.customer()['id']}/contacts"
    made = console(admin, "POST", path, {"name": name, "is_primary": False})
    contact = admin.ok("GET", f"/admin/contacts/{made['id']}")
    assert (contact["first_name"], contact["last_name"]) == (first, last)


def test_a_contact_whose_last_name_has_a_blank_keeps_it(admin: Caller) -> None:
    customer = admin.customer()["id"]
    body = {"first_name": "Ludwig", "last_name": "van Beethoven", "notes": "Speak up."}
    contact = admin.ok("POST", f"/admin/customers/{customer}/contacts", body)
    path = f"/contacts/{contact['id']}"
    assert send_back(admin, path, title="Composer")["name"] == "Ludwig van Beethoven"
    after = admin.ok("GET", f"/admin{path}")
    assert {name for name in contact if contact[name] != after[name]} == {"position", "version", "updated_at"}
    admin.ok("PUT", f"/admin{path}", {"first_name": "f" * 100, "last_name": "x" * 50 + " " + "y" * 49})
    assert send_back(admin, path, phone="1")["phone"] == "1"
    answer = admin.put(f"/console/admin{path}", {"name": "x" * 101})
    assert refused(answer, 400, "INVALID_REQUEST")["fields"][0]["field"] == "name"


def test_the_bodys_customer_must_be_the_paths(admin: Caller) -> None:
    mine, other = admin.customer()["id"], admin.customer()["id"]
    body = {"name": "Grace Hopper", "is_primary": True, "customer_id": str(other)}
    answer = admin.post(f"/console/admin/customers/{mine}/contacts", body)
    assert refused(answer, 400, "INVALID_REQUEST")["fields"][0]["field"] == "customer_id"


def test_a_preference_that_changes_its_type_is_changed(admin: Caller) -> None:
    path = f"/customers/{admin.customer(contact_preferences={'email': True})['id']}"
    assert console(admin, "PUT", path, {"contact_preferences": {"email": 1}})["contact_preferences"] == {"email": 1}
    assert admin.ok("GET", f"/admin{path}")["version"] == 2


@pytest.mark.parametrize("unknown", ["colour", "description"])
def test_an_unknown_field_is_named_even_where_it_is_empty(admin: Caller, unknown: str) -> None:
    answer = admin.post("/console/admin/customers", {"name": "Ada", unknown: ""})
    assert refused(answer, 400, "INVALID_REQUEST")["fields"][0]["field"] == unknown


def test_owner_and_assigned_to_are_one_field(admin: Caller) -> None:
    path = f"/customers/{admin.customer(assigned_to='7')['id']}"
    assert send_back(admin, path, owner_id="8")["assigned_to"] == "8"
    assert send_back(admin, path, assigned_to=9)["owner_id"] == "9"
    answer = admin.put(f"/console/admin{path}", {"owner_id": "1", "assigned_to": "2"})
    assert refused(answer, 400, "INVALID_REQUEST")["fields"][0]["field"] == "assigned_to"
    assert console(admin, "GET", path)["owner_id"] == "9"


def test_ids_come_as_texts_or_numbers_and_nothing_else(admin: Caller) -> None:
    customer = admin.customer()["id"]
    for sent in (customer, str(customer)):
        deal = console(admin, "POST", "/deals", {"name": "Engine", "customer_id": sent})
        assert deal["customer_id"] == str(customer)
    for bad in ("abc", "1.5", 0, -1, "9" * 19, 2**63, True, [1], " 1", "01"):
        answer = admin.post("/console/admin/deals", {"name": "Engine", "customer_id": bad})
        assert refused(answer, 400, "INVALID_REQUEST")["fields"][0]["field"] == "customer_id", bad


@pytest.mark.slow
def test_lists_are_as_long_as_the_deals_page_wants_them(admin: Caller) -> None:
    for number in range(105):
        admin.customer(f"Customer {number}")
    page = console(admin, "GET", "/customers", limit=1000)
    assert (len(page["data"]), page["total"], page["limit"], page["total_pages"]) == (105, 105, 1000, 1)
    page = console(admin, "GET", "/customers", page=11, limit=10)
    assert (len(page["data"]), page["total"], page["page"], page["total_pages"]) == (5, 105, 11, 11)
    assert console(admin, "GET", "/customers", limit=5000)["limit"] == 1000
    customer = page["data"][0]["id"]
    for number in range(101):
        admin.ok("POST", f"/admin/customers/{customer}/contacts", {"first_name": f"Contact {number}"})
    assert len(console(admin, "GET", f"/customers/{customer}/contacts")) == 101


def test_my_activities_come_in_every_status_and_only_mine(admin: Caller, agent: Caller) -> None:
    customer = admin.customer()["id"]
    body = {"title": "Call", "type": "call", "customer_id": customer, "assigned_to": agent.user_id}
    for status in ("scheduled", "completed", "cancelled"):
        admin.ok("POST", "/admin/activities", body | {"status": status})
    admin.ok("POST", "/admin/activities", body | {"assigned_to": None})
    mine = console(agent, "GET", "/me/activities", limit=1000)["data"]
    assert len(mine) == 3
    assert {each["owner_id"] for each in mine} == {agent.user_id}
    assert len(console(agent, "GET", "/me/activities", status="cancelled")["data"]) == 1


def test_people_are_shown_by_the_names_of_their_tokens(callers: Any, tenant: str) -> None:
    joan = callers.person("admin", tenant, user_id="42", name="Joan Clarke", email="joan@example.com")
    customer = joan.customer()["id"]
    body = {"type": "call", "subject": "Ring", "customer_id": customer}
    activity = console(joan, "POST", "/activities", body)
    person = {"id": "42", "name": "Joan Clarke", "email": "joan@example.com"}
    assert activity["owner"] == person
    assert console(joan, "POST", "/notes", {"content": "Hm.", "customer_id": customer})["author"] == person
    joan.ok("PUT", f"/admin/activities/{activity['id']}", {"assigned_to": "nobody-ever-seen"})
    assert console(joan, "GET", f"/activities/{activity['id']}")["owner"] == {
        "id": "nobody-ever-seen",
        "name": "nobody-ever-seen",
    }


@pytest.mark.parametrize(
    ("name", "email", "shown"), [(None, "joan@x.example", "joan"), (" ", "joan@x.example", "joan")]
)
def test_nobody_is_nameless(callers: Any, tenant: str, name: str | None, email: str, shown: str) -> None:
    joan = callers.person("admin", tenant, name=name, email=email)
    customer = joan.customer()["id"]
    body = {"title": "Engine", "customer_id": customer, "stage": "closed_won", "amount": 5}
    joan.ok("POST", "/admin/deals", body)
    joan.ok("POST", "/admin/deals", body | {"owner_id": "nobody-ever-seen"})
    assert console(joan, "POST", "/activities", {"type": "call", "subject": "Ring"})["owner"]["name"] == "joan"
    assert console(joan, "POST", "/notes", {"content": "Hm.", "customer_id": customer})["author"]["name"] in {
        shown,
        email,
    }
    performers = {each["id"]: each["name"] for each in console(joan, "GET", "/reports/overview")["top_performers"]}
    assert performers == {joan.user_id: "joan", "nobody-ever-seen": "nobody-ever-seen"}


def test_refusals_speak_the_dialect_too(admin: Caller, agent: Caller) -> None:
    holder = admin.customer(email="ada@example.com")["id"]
    answer = admin.post("/console/admin/customers", {"name": "Ada", "email": "ADA@example.com"})
    assert refused(answer, 409, "EMAIL_EXISTS") == {"customer_id": str(holder)}
    contact = admin.ok("POST", f"/admin/customers/{holder}/contacts", {"first_name": "Grace"})["id"]
    deal = admin.ok("POST", "/admin/deals", {"title": "E", "customer_id": holder, "contact_id": contact})["id"]
    answer = admin.delete(f"/console/admin/contacts/{contact}")
    assert refused(answer, 409, "CONTACT_HAS_DEALS") == {"deal_ids": [str(deal)]}
    refused(agent.put(f"/console/admin/customers/{holder}", {"phone": "1"}), 403, "INSUFFICIENT_PERMISSIONS")
    refused(agent.patch(f"/console/admin/deals/{deal}/stage", {"stage": "won"}), 403, "INSUFFICIENT_PERMISSIONS")
    refused(admin.patch(f"/console/admin/deals/{deal}/stage", {"stage": "won"}), 400, "WON_NEEDS_AMOUNT")
    refused(admin.patch(f"/console/admin/deals/{deal}/stage", {"stage": "closed_won"}), 400, "INVALID_STAGE")


@pytest.mark.parametrize("form", [o for o in CONSOLE if o.body() is not None], ids=str)
def test_a_field_of_admin_that_the_console_calls_otherwise_is_named_as_it_was_sent(
    form: Operation, admin: Caller
) -> None:
    for sent in ("title", "due_date", "next_follow_up_at", "assigned_to", "position"):
        answer = admin.call(form.method, form.url(), json={sent: []})
        assert sent in [fault["field"] for fault in refused(answer, 400, "INVALID_REQUEST")["fields"]]


def test_a_rule_of_admin_names_the_consoles_field(admin: Caller) -> None:
    body = {"type": "task", "subject": "Offer", "customer_id": admin.customer()["id"], "due_at": "2020-01-01T10:00"}
    data = refused(admin.post("/console/admin/activities", body), 400, "DUE_DATE_IN_PAST")
    assert [fault["field"] for fault in data["fields"]] == ["due_at"]


def test_versions_and_idempotency_keys_work_as_under_admin(admin: Caller) -> None:
    headers = {"Idempotency-Key": "once"}
    first = admin.post("/console/admin/customers", {"name": "Ada"}, headers=headers)
    again = admin.post("/console/admin/customers", {"name": "Ada"}, headers=headers)
    assert (first.status_code, again.status_code, first.content) == (201, 201, again.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    path = f"/console/admin/customers/{first.json()['id']}"
    answer = admin.put(path, {"name": "Ada King"}, headers={"If-Match": '"7"'})
    assert refused(answer, 412, "VERSION_CONFLICT") == {"current_version": 1}
    assert admin.put(path, {"name": "Ada King"}, headers={"If-Match": first.headers["ETag"]}).headers["ETag"] == '"2"'


def test_the_dialect_can_be_switched_off(variant: Any, callers: Any, tenant: str) -> None:
    client = variant(console_dialect=False)
    admin = callers.person("admin", tenant, client=client)
    refused(admin.get("/console/admin/customers"), 404, "NOT_FOUND")
    assert admin.get("/admin/customers").status_code == 200
