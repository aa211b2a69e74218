"""What is in a person's calendar, and when."""

from __future__ import annotations

from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from tests.callers import Caller, Callers, refused

RANGE = {"from": "2030-05-06", "to": "2030-05-12"}


def plan(caller: Caller, title: str, due_date: str, **fields: Any) -> dict[str, Any]:
    body = {"title": title, "type": "meeting", "due_date": due_date, **fields}
    planned: dict[str, Any] = caller.ok("POST", "/admin/activities", body)
    return planned


def calendar(caller: Caller, **query: Any) -> list[dict[str, Any]]:
    answer = caller.ok("GET", "/admin/me/calendar", **RANGE | query)
    entries: list[dict[str, Any]] = answer["data"]
    assert answer["total"] == len(entries)
    return entries


def titles(caller: Caller, **query: Any) -> list[str]:
    return [entry["title"] for entry in calendar(caller, **query)]


def test_activities_follow_ups_and_closings_are_in_it_by_time(agent: Caller) -> None:
    customer = agent.customer("Ada", next_follow_up_at="2030-05-07")
    meeting = plan(agent, "Visit", "2030-05-07T09:30:00Z", duration=45, customer_id=customer["id"])
    deal = {"title": "Engine", "customer_id": customer["id"], "expected_close_date": "2030-05-10T15:00:00Z"}
    deal = agent.ok("POST", "/admin/deals", deal)
    follow_up, visit, closing = calendar(agent)
    assert visit == {
        "kind": "activity",
        "title": "Visit",
        "starts_at": "2030-05-07T09:30:00Z",
        "ends_at": "2030-05-07T10:15:00Z",
        "all_day": False,
        "status": "scheduled",
        "activity_type": "meeting",
        "user_id": agent.user_id,
        "record": {"type": "activity", "id": meeting["id"]},
        "customer": {"id": customer["id"], "name": "Ada"},
    }
    assert follow_up["kind"] == "follow_up"
    assert follow_up["title"] == "Ada"
    assert follow_up["record"] == {"type": "customer", "id": customer["id"]}
    assert (follow_up["all_day"], follow_up["starts_at"]) == (True, "2030-05-07T00:00:00Z")
    assert follow_up["ends_at"] == "2030-05-08T00:00:00Z"
    assert closing["kind"] == "closing"
    assert closing["record"] == {"type": "deal", "id": deal["id"]}
    assert closing["ends_at"] == closing["starts_at"] == "2030-05-10T15:00:00Z"
    agent.ok("PATCH", f"/admin/activities/{meeting['id']}", {"status": "cancelled"})
    assert [entry["status"] for entry in calendar(agent)] == ["scheduled", "cancelled", "scheduled"]


def test_a_deal_that_is_closed_is_there_when_it_was_closed(admin: Caller) -> None:
    customer = admin.customer()["id"]
    for stage in ("closed_won", "closed_lost"):
        body = {"title": stage, "customer_id": customer, "amount": 5, "expected_close_date": "2020-03-01"}
        deal = admin.ok("POST", "/admin/deals", body)
        move = {"stage": stage, "actual_close_date": "2020-02-03"}
        admin.ok("PATCH", f"/admin/deals/{deal['id']}", move)
    admin.ok("POST", "/admin/deals", body | {"title": "Open"})
    found = calendar(admin, **{"from": "2020-02-01", "to": "2020-03-31"})
    assert [(each["title"], each["status"]) for each in found] == [
        ("closed_won", "completed"),
        ("closed_lost", "cancelled"),
        ("Open", "overdue"),
    ]


def test_a_project_is_due_for_its_owner_and_for_who_works_on_it(manager: Caller, callers: Callers) -> None:
    owner, helper, other = (callers.person("agent", manager.tenant) for _ in range(3))
    for person in (owner, helper, other):
        person.ok("GET", "/admin/me")
    project = {"name": "Mill", "due_date": "2030-05-09", "owner_id": owner.user_id, "assignees": [helper.user_id]}
    project = manager.ok("POST", "/admin/projects", project)
    (entry,) = calendar(owner)
    assert calendar(helper) == [entry]
    assert calendar(manager, user_id=f"{owner.user_id},{helper.user_id}") == [entry]
    assert calendar(other) == calendar(manager) == []
    assert (entry["kind"], entry["title"], entry["status"]) == ("project", "Mill", "scheduled")
    assert (entry["starts_at"], entry["ends_at"]) == ("2030-05-09T00:00:00Z", "2030-05-10T00:00:00Z")
    manager.ok("PATCH", f"/admin/projects/{project['id']}", {"status": "cancelled"})
    assert [each["status"] for each in calendar(owner)] == ["cancelled"]


def test_what_goes_into_the_trash_leaves_the_calendar(admin: Caller) -> None:
    customer = admin.customer("Ada", next_follow_up_at="2030-05-07", assigned_to=admin.user_id)
    plan(admin, "Visit", "2030-05-08T09:00:00Z", customer_id=customer["id"])
    assert titles(admin) == ["Ada", "Visit"]
    admin.ok("DELETE", f"/admin/customers/{customer['id']}")
    assert titles(admin) == []


def test_an_entry_is_found_while_it_lasts(agent: Caller) -> None:
    plan(agent, "Over midnight", "2030-05-05T23:30:00Z", duration=60)
    plan(agent, "Until midnight", "2030-05-05T23:00:00Z", duration=60)
    plan(agent, "At the end", "2030-05-12T23:59:00Z", duration=60)
    plan(agent, "The day after", "2030-05-13T00:00:00Z", all_day=False)
    plan(agent, "For ever", "2030-05-01T00:00:00Z", all_day=False, duration=2**31 - 1)
    assert titles(agent) == ["For ever", "Over midnight", "At the end"]
    plan(agent, "The end of time", "9999-12-31T00:00:00Z", all_day=False, duration=2**31 - 1)
    (last,) = calendar(agent, **{"from": "9999-12-30", "to": "9999-12-31"})
    assert last["ends_at"] == "9999-12-31T23:59:59.999999Z"


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati"])
def test_days_are_those_of_the_organization_and_whole_days_stay_whole(admin: Caller, zone: str) -> None:
    admin.ok("PUT", "/admin/settings", {"timezone": zone})
    for day in (5, 6, 7):
        plan(admin, f"Day {day}", f"2030-05-0{day}")
    # 20:00 of May 6th in New York; the afternoon of May 7th in Kiritimati.
    plan(admin, "Call", "2030-05-07T00:00:00Z", all_day=False)
    one_day = {"from": "2030-05-06", "to": "2030-05-06"}
    assert titles(admin, **one_day) == (["Day 6", "Call"] if zone == "America/New_York" else ["Day 6"])


def test_other_peoples_calendars_are_for_managers(manager: Caller, callers: Callers) -> None:
    agents = [callers.person("agent", manager.tenant) for _ in range(3)]
    for number, agent in enumerate(agents):
        plan(agent, f"Visit {number}", f"2030-05-0{7 + number}T09:00:00Z")
    people = ",".join(agent.user_id for agent in agents[:2])
    assert titles(manager, user_id=people) == ["Visit 0", "Visit 1"]
    assert titles(manager, user_id=f"me,{agents[2].user_id}") == ["Visit 2"]
    assert titles(manager) == []
    assert titles(agents[0], user_id="me") == titles(agents[0], user_id=agents[0].user_id) == ["Visit 0"]
    others = agents[0].get("/admin/me/calendar", **RANGE, user_id=people)
    refused(others, 403, "INSUFFICIENT_PERMISSIONS")


def test_who_sees_only_their_own_sees_the_same_calendar(own_scope: TestClient[Litestar], callers: Callers) -> None:
    tenant = callers.person("manager", "own-calendar", client=own_scope)
    agent = callers.person("agent", tenant.tenant, client=own_scope)
    theirs = tenant.customer("Grace")
    plan(tenant, "Visit", "2030-05-07T09:00:00Z", assigned_to=agent.user_id, customer_id=theirs["id"])
    plan(tenant, "Not theirs", "2030-05-07T09:00:00Z")
    (visit,) = calendar(agent)
    assert visit["customer"] == {"id": theirs["id"], "name": "Grace"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "2030-05-12", "to": "2030-05-11"}, "to"),
        ({"from": "2030-01-01", "to": "2030-04-03"}, "to"),
        ({"user_id": "none"}, "user_id"),
        ({"user_id": ",".join(str(number) for number in range(1, 52))}, "user_id"),
        ({"from": ""}, "from"),
    ],
)
def test_a_range_or_person_that_makes_no_sense_is_refused(manager: Caller, query: dict[str, str], field: str) -> None:
    data = refused(manager.get("/admin/me/calendar", **RANGE | query), 400, "INVALID_REQUEST")
    assert [fault["field"] for fault in data["fields"]] == [field]


def test_ninety_two_days_are_allowed_also_where_clocks_change(admin: Caller) -> None:
    admin.ok("PUT", "/admin/settings", {"timezone": "Europe/Berlin"})
    assert calendar(admin, **{"from": "2030-08-01", "to": "2030-10-31"}) == []
    assert calendar(admin, **{"from": "0002-01-01", "to": "0002-01-31"}) == []
