"""Work to do, and what is to be remembered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.callers import Caller, refused

NOW = datetime.now(UTC)
YESTERDAY, TOMORROW = (NOW - timedelta(days=1)).isoformat(), (NOW + timedelta(days=1)).isoformat()


def activity(caller: Caller, title: str = "Call", **fields: object) -> dict[str, object]:
    links = {"customer_id", "deal_id"} & fields.keys()
    customer = {} if links else {"customer_id": caller.customer()["id"]}
    made: dict[str, object] = caller.ok(
        "POST", "/admin/activities", {"title": title, "type": "call", **customer, **fields}
    )
    return made


def test_overdue_is_a_status_of_its_own_everywhere_and_stored_nowhere(admin: Caller) -> None:
    late, soon = activity(admin, "Late", due_date=YESTERDAY), activity(admin, "Soon", due_date=TOMORROW)
    activity(admin, "Whenever")
    activity(admin, "Done", due_date=YESTERDAY, status="completed")
    activity(admin, "Off", due_date=YESTERDAY, status="cancelled")
    assert (late["status"], soon["status"]) == ("overdue", "scheduled")

    def found(**filters: object) -> list[str]:
        return sorted(entry["title"] for entry in admin.ok("GET", "/admin/activities", **filters)["data"])

    assert found(status="overdue") == ["Late"]
    assert found(status="scheduled") == ["Soon", "Whenever"]
    assert found(status="scheduled,overdue") == ["Late", "Soon", "Whenever"]
    assert found(status="overdue,completed") == ["Done", "Late"]
    by_status = admin.ok("GET", "/admin/activities", sort_by="status", sort_order="asc")["data"]
    assert [entry["status"] for entry in by_status] == ["scheduled", "scheduled", "completed", "cancelled", "overdue"]
    figures = admin.ok("GET", "/admin/reports/overview")["activities"]
    assert (figures["scheduled"], figures["overdue"], figures["total"]) == (2, 1, 5)
    path = f"/admin/activities/{late['id']}"
    assert admin.ok("PUT", path, late)["version"] == 1
    renamed = admin.ok("PATCH", path, {"status": "overdue", "title": "Later"})
    assert (renamed["status"], renamed["version"]) == ("overdue", 2)


def test_lists_are_by_due_date_with_the_undated_last(admin: Caller) -> None:
    for title, due in (("C", None), ("B", TOMORROW), ("A", YESTERDAY)):
        activity(admin, title, due_date=due)
    assert [entry["title"] for entry in admin.ok("GET", "/admin/activities")["data"]] == ["A", "B", "C"]


def test_an_agenda_is_what_is_open_by_due_date_and_then_what_was_closed_the_latest_first(admin: Caller) -> None:
    old, new = "2026-01-02T00:00:00Z", "2026-03-04T00:00:00Z"
    activity(admin, "done early", status="completed", completed_at=old, due_date=TOMORROW)
    activity(admin, "done late", status="completed", completed_at=new, due_date=YESTERDAY)
    activity(admin, "whenever")
    activity(admin, "off", status="cancelled")
    activity(admin, "soon", due_date=TOMORROW)
    activity(admin, "late", due_date=YESTERDAY)
    wanted = ["late", "soon", "whenever", "off", "done late", "done early"]
    for order in ("asc", "desc"):
        found, page = [], admin.ok("GET", "/admin/activities", sort_by="agenda", sort_order=order, page_size=2)
        found += page["data"]
        while page["next_cursor"]:
            page = admin.ok("GET", "/admin/activities", cursor=page["next_cursor"], page_size=2)
            found += page["data"]
        assert [each["title"] for each in found] == wanted
        pages = [
            admin.ok("GET", "/admin/activities", sort_by="agenda", sort_order=order, page_size=2, page=number)
            for number in (1, 2, 3)
        ]
        assert [each["title"] for page in pages for each in page["data"]] == wanted


@pytest.mark.parametrize("kind", ["call", "email", "meeting", "task", "note"])
def test_only_a_task_can_not_be_due_in_the_past(admin: Caller, kind: str) -> None:
    body = {"title": "X", "type": kind, "customer_id": admin.customer()["id"], "due_date": YESTERDAY}
    if kind == "task":
        refused(admin.post("/admin/activities", body), 400, "DUE_DATE_IN_PAST")
        made = activity(admin, type=kind, due_date=TOMORROW)
        refused(admin.patch(f"/admin/activities/{made['id']}", {"due_date": YESTERDAY}), 400, "DUE_DATE_IN_PAST")
        assert admin.post("/admin/activities", body | {"status": "completed"}).status_code == 201
    else:
        assert admin.post("/admin/activities", body).status_code == 201


def test_completing_sets_the_time_and_un_completing_clears_it(admin: Caller) -> None:
    path = f"/admin/activities/{activity(admin, due_date=TOMORROW)['id']}"
    assert admin.ok("PATCH", path, {"status": "completed"})["completed_at"] is not None
    assert admin.ok("PATCH", path, {"status": "completed"})["version"] == 2
    assert admin.ok("PATCH", path, {"status": "scheduled"})["completed_at"] is None
    given = admin.ok("PATCH", path, {"status": "completed", "completed_at": "2026-01-02T03:04:05Z"})
    assert given["completed_at"] == "2026-01-02T03:04:05Z"
    refused(admin.patch(path, {"completed_at": TOMORROW}), 400, "INVALID_REQUEST")


def test_a_to_do_of_ones_own_needs_no_link_and_a_note_needs_one(admin: Caller) -> None:
    own = admin.ok("POST", "/admin/activities", {"title": "X", "type": "call"})
    assert (own["customer_id"], own["deal_id"], own["assigned_to"]) == (None, None, admin.user_id)
    assert [each["id"] for each in admin.ok("GET", "/admin/me/activities")["data"]] == [own["id"]]
    contact = admin.ok("POST", f"/admin/customers/{admin.customer()['id']}/contacts", {"first_name": "Grace"})
    assert admin.ok("PATCH", f"/admin/activities/{own['id']}", {"contact_id": contact["id"]})["contact"] is not None
    refused(admin.post("/admin/notes", {"content": "X"}), 400, "MISSING_LINK")
    made = activity(admin)
    assert admin.ok("PATCH", f"/admin/activities/{made['id']}", {"customer_id": None})["customer"] is None
    note = admin.ok("POST", "/admin/notes", {"content": "X", "activity_id": made["id"]})
    refused(admin.patch(f"/admin/notes/{note['id']}", {"activity_id": None}), 400, "MISSING_LINK")


def test_a_filter_finds_the_same_in_its_own_order(admin: Caller) -> None:
    kinds = ["call", "email", "meeting", "task", "note"]
    made = [activity(admin, kind, type=kind)["id"] for kind in kinds]
    for wanted in [*([kind] for kind in kinds), ["note", "email"], ["task", "call", "meeting"]]:
        found = admin.ok("GET", "/admin/activities", type=",".join(wanted), sort_by="type", sort_order="asc")
        assert [each["type"] for each in found["data"]] == sorted(wanted, key=kinds.index)
        assert found["total"] == len(wanted)
    assert [each["id"] for each in admin.ok("GET", "/admin/tasks", sort_by="type")["data"]] == [made[3]]


@pytest.mark.parametrize("zone", ["Etc/GMT+12", "Pacific/Kiritimati"])
def test_what_is_due_today_wherever_that_is_is_not_overdue(admin: Caller, zone: str) -> None:
    admin.ok("PUT", "/admin/settings", {"timezone": zone})
    today = datetime.now(ZoneInfo(zone)).date()
    made = [activity(admin, due_date=str(today + timedelta(days=day)))["id"] for day in (-1, 0, 1)]
    someday = activity(admin)["id"]
    found = admin.ok("GET", "/admin/activities", status="scheduled")
    assert [each["id"] for each in found["data"]] == [*made[1:], someday]
    assert found["total"] == 3


@pytest.mark.parametrize(
    ("field", "code"),
    [("customer_id", "CUSTOMER_NOT_FOUND"), ("deal_id", "DEAL_NOT_FOUND"), ("contact_id", "CONTACT_NOT_FOUND")],
)
def test_an_unknown_reference_is_named(admin: Caller, field: str, code: str) -> None:
    body = {"title": "X", "type": "call", "customer_id": admin.customer()["id"]} | {field: 2**60}
    refused(admin.post("/admin/activities", body), 400, code)
    if field != "contact_id":
        refused(admin.post("/admin/notes", {"content": "X", field: 2**60}), 400, code)


def test_my_activities_are_mine_and_to_be_done(agent: Caller, admin: Caller) -> None:
    for title, status in (("Todo", "scheduled"), ("Done", "completed")):
        activity(agent, title, status=status)
    activity(agent, "Late", due_date=YESTERDAY)
    activity(admin, "Not mine")
    mine = agent.ok("GET", "/admin/me/activities")
    assert {entry["title"] for entry in mine["data"]} == {"Todo", "Late"}
    assert [entry["title"] for entry in agent.ok("GET", "/admin/me/activities", status="completed")["data"]] == ["Done"]
    refused(agent.get("/admin/me/activities", assigned_to="me"), 400, "INVALID_REQUEST")


def test_an_activity_is_its_creators_and_an_agents_for_nobody_else(agent: Caller, admin: Caller) -> None:
    assert activity(agent)["assigned_to"] == agent.user_id
    assert activity(admin, assigned_to=None)["assigned_to"] is None
    customer = agent.customer()["id"]
    for other in (admin.user_id, None):
        body = {"title": "X", "type": "call", "customer_id": customer, "assigned_to": other}
        refused(agent.post("/admin/activities", body), 403, "INSUFFICIENT_PERMISSIONS")
    foreign = activity(admin, customer_id=customer)
    refused(agent.patch(f"/admin/activities/{foreign['id']}", {"title": "Y"}), 403, "INSUFFICIENT_PERMISSIONS")


def test_a_note_is_its_authors(agent: Caller, manager: Caller) -> None:
    customer = agent.customer()["id"]
    own = agent.ok("POST", f"/admin/customers/{customer}/notes", {"content": "Mine"})
    other = manager.ok("POST", f"/admin/customers/{customer}/notes", {"content": "Theirs", "author_id": "forged"})
    assert (own["author_id"], other["author_id"]) == (agent.user_id, manager.user_id)
    for method, body in (("PATCH", {"content": "X"}), ("DELETE", None)):
        refused(agent.call(method, f"/admin/notes/{other['id']}", json=body), 403, "INSUFFICIENT_PERMISSIONS")
    agent.ok("PATCH", f"/admin/notes/{own['id']}", {"content": "Still mine"})
    agent.ok("DELETE", f"/admin/notes/{own['id']}")
    refused(agent.post(f"/admin/notes/{own['id']}/restore"), 403, "INSUFFICIENT_PERMISSIONS")
    assert manager.ok("POST", f"/admin/notes/{own['id']}/restore")["content"] == "Still mine"


def test_notes_are_found_by_their_text_and_author(admin: Caller, manager: Caller) -> None:
    customer = admin.customer()["id"]
    for caller, content in ((admin, "Likes TEA"), (manager, "Likes coffee, 100%")):
        caller.ok("POST", "/admin/notes", {"content": content, "customer_id": customer})

    def found(**filters: object) -> list[str]:
        return [entry["content"] for entry in admin.ok("GET", "/admin/notes", **filters)["data"]]

    assert found(search="tea") == ["Likes TEA"]
    assert found(search="0%") == ["Likes coffee, 100%"]
    assert found(author_id="me") == ["Likes TEA"]
    assert found(customer_id=customer) == ["Likes coffee, 100%", "Likes TEA"]


def test_what_was_trashed_before_stays_in_the_trash_when_its_customer_comes_back(admin: Caller) -> None:
    customer = admin.customer()["id"]
    early, late = activity(admin, "Early", customer_id=customer), activity(admin, "Late", customer_id=customer)
    note = admin.ok("POST", "/admin/notes", {"content": "On late", "activity_id": late["id"]})
    admin.ok("DELETE", f"/admin/activities/{early['id']}")
    admin.ok("DELETE", f"/admin/customers/{customer}")
    refused(admin.get(f"/admin/notes/{note['id']}"), 404, "NOTE_NOT_FOUND")
    refused(admin.post(f"/admin/activities/{late['id']}/restore"), 409, "PARENT_DELETED")
    admin.ok("POST", f"/admin/customers/{customer}/restore")
    refused(admin.get(f"/admin/activities/{early['id']}"), 404, "ACTIVITY_NOT_FOUND")
    assert admin.ok("GET", f"/admin/activities/{late['id']}")["title"] == "Late"
    assert admin.ok("GET", f"/admin/notes/{note['id']}")["content"] == "On late"
    refused(admin.post(f"/admin/activities/{late['id']}/restore"), 409, "NOT_DELETED")
