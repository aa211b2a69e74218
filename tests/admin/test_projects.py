"""What can be done with projects and their tasks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from tests.callers import Caller, Callers, refused

TODAY = datetime.now(UTC).date()


def project(caller: Caller, name: str = "New website", **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = caller.ok("POST", "/admin/projects", {"name": name, **fields})
    return made


def task(caller: Caller, project_id: int, title: str = "Draw it", **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = caller.ok("POST", f"/admin/projects/{project_id}/tasks", {"title": title, **fields})
    return made


def read(caller: Caller, project_id: int) -> dict[str, Any]:
    found: dict[str, Any] = caller.ok("GET", f"/admin/projects/{project_id}")
    return found


def test_a_project_has_a_whole_life(admin: Caller, agent: Caller, stranger: Caller) -> None:
    customer = admin.customer("Ada")["id"]
    made = project(admin, "Neue Küche", customer_id=customer, due_date="2031-05-01")
    path = f"/admin/projects/{made['id']}"
    assert (made["status"], made["owner_id"], made["customer"]["name"]) == ("planned", admin.user_id, "Ada")
    assert (made["assignees"], made["due_date"], made["completed_at"]) == ([], "2031-05-01T00:00:00Z", None)
    assert (made["tasks_total"], made["last_activity_at"]) == (0, None)
    (found,) = admin.ok("GET", "/admin/projects", search="kuche", status="planned")["data"]
    assert found == made
    (found,) = admin.ok("GET", "/admin/search", q="kuche")["data"]
    assert (found["type"], found["title"], found["subtitle"]) == ("project", "Neue Küche", "Ada · planned")
    refused(stranger.get(path), 404, "PROJECT_NOT_FOUND")
    refused(agent.patch(path, {"status": "on_hold"}), 403, "INSUFFICIENT_PERMISSIONS")
    assert admin.ok("PATCH", path, {"status": "in_progress"})["version"] == 2
    admin.ok("DELETE", f"/admin/customers/{customer}")
    refused(admin.get(path), 404, "PROJECT_NOT_FOUND")
    refused(admin.post(f"{path}/restore"), 409, "PARENT_DELETED")
    admin.ok("POST", f"/admin/customers/{customer}/restore")
    assert admin.ok("GET", "/admin/projects")["total"] == 1
    told = admin.audit(resource_type="project")
    assert [entry["action"] for entry in told] == ["restore", "delete", "update", "create"]
    assert told[2]["changes"] == {"status": {"old": "planned", "new": "in_progress"}}


def test_a_project_counts_its_tasks_and_shows_those_due_first(admin: Caller) -> None:
    made = project(admin)
    due = [(TODAY + timedelta(days=days)).isoformat() for days in (9, 2)]
    late, soon = (task(admin, made["id"], title, due_date=day) for title, day in zip("AB", due, strict=True))
    someday = task(admin, made["id"], "C")
    done = task(admin, made["id"], "D", status="completed")
    admin.ok("POST", "/admin/activities", {"title": "Kick-off", "type": "meeting", "project_id": made["id"]})
    shown = read(admin, made["id"])
    assert [each["id"] for each in shown["tasks"]] == [soon["id"], late["id"], someday["id"], done["id"]]
    assert shown["tasks"][0] == soon
    assert soon["project"] == {"id": made["id"], "name": "New website"}
    assert (shown["tasks_total"], shown["tasks_completed"], shown["tasks_overdue"]) == (4, 1, 0)
    assert shown["last_activity_at"] >= done["created_at"]
    (listed,) = admin.ok("GET", "/admin/projects")["data"]
    assert listed == {name: value for name, value in shown.items() if name != "tasks"}
    assert admin.ok("GET", f"/admin/projects/{made['id']}/tasks", status="scheduled")["total"] == 3
    admin.ok("POST", "/admin/activities", {"title": "Alone", "type": "task"})
    assert admin.ok("GET", "/admin/tasks")["total"] == 5
    assert admin.ok("GET", "/admin/tasks", project_id=made["id"])["total"] == 4
    assert admin.ok("GET", "/admin/activities", project_id=made["id"])["total"] == 5


def test_a_task_of_a_project_is_a_task_of_this_one(admin: Caller) -> None:
    made, other = project(admin), project(admin, "Other")
    path = f"/admin/projects/{made['id']}/tasks"
    assert admin.ok("POST", path, {"title": "A", "type": "task", "project_id": made["id"]})["type"] == "task"
    sent = {"title": "A", "type": "call", "project_id": other["id"]}
    wrong = refused(admin.post(path, sent), 400, "INVALID_REQUEST")["fields"]
    assert [fault["field"] for fault in wrong] == ["type", "project_id"]
    refused(admin.post("/admin/projects/999999/tasks", {"title": "A"}), 404, "PROJECT_NOT_FOUND")
    refused(admin.get("/admin/projects/999999/tasks"), 404, "PROJECT_NOT_FOUND")
    sent = {"title": "A", "type": "task", "project_id": 999999}
    refused(admin.post("/admin/activities", sent), 400, "PROJECT_NOT_FOUND")


def test_a_project_with_open_tasks_is_not_completed_unless_they_are(admin: Caller) -> None:
    made = project(admin)
    path = f"/admin/projects/{made['id']}"
    opened, cancelled = task(admin, made["id"]), task(admin, made["id"], status="cancelled")
    admin.ok("POST", "/admin/activities", {"title": "Talk", "type": "call", "project_id": made["id"]})
    assert refused(admin.patch(path, {"status": "completed"}), 409, "OPEN_TASKS") == {"open_tasks": 1}
    answer = admin.patch(path, {"status": "completed", "complete_tasks": True})
    done = answer.json()
    assert (done["status"], done["tasks_completed"], done["completed_at"] is not None) == ("completed", 1, True)
    assert admin.ok("GET", f"/admin/activities/{cancelled['id']}")["version"] == 1
    # Both go back together, and are done again together.
    for status, wanted in (("planned", "scheduled"), ("completed", "completed")):
        operation = answer.headers["x-operation-id"]
        answer = admin.post(f"/admin/operations/{operation}/undo", {"changed_since": "refuse"})
        assert answer.status_code == 200, answer.text
        assert (read(admin, made["id"])["status"], read(admin, made["id"])["completed_at"] is None) == (
            status,
            status == "planned",
        )
        assert admin.ok("GET", f"/admin/activities/{opened['id']}")["status"] == wanted
    assert admin.ok("PATCH", path, {"status": "on_hold"})["completed_at"] is None


def test_tasks_of_a_completed_project_are_completed_with_it_once_more(admin: Caller) -> None:
    made = project(admin, status="completed")
    path = f"/admin/projects/{made['id']}"
    late = task(admin, made["id"])
    refused(admin.patch(path, {"complete_tasks": True}), 400, "NO_UPDATES")
    bulk = {"ids": [made["id"]], "action": "update", "values": {"complete_tasks": True}}
    refused(admin.post("/admin/projects/bulk", bulk), 400, "NO_UPDATES")
    assert admin.ok("PATCH", path, {"status": "completed"})["tasks_completed"] == 0
    done = admin.ok("PATCH", path, {"status": "completed", "complete_tasks": True})
    assert (done["tasks_completed"], done["version"]) == (1, made["version"])
    assert admin.ok("GET", f"/admin/activities/{late['id']}")["status"] == "completed"


def test_a_project_is_not_due_before_it_starts(admin: Caller) -> None:
    path = "/admin/projects"
    body = {"name": "A", "start_date": "2031-05-02", "due_date": "2031-05-01"}
    assert refused(admin.post(path, body), 400, "INVALID_REQUEST")["fields"][0]["field"] == "due_date"
    made = project(admin, start_date="2031-05-01", due_date="2031-05-01")
    wrong = refused(admin.patch(f"{path}/{made['id']}", {"start_date": "2031-05-02"}), 400, "INVALID_REQUEST")
    assert wrong["fields"] == [{"field": "start_date", "message": "can't be after the due_date"}]
    moved = admin.ok("PATCH", f"{path}/{made['id']}", {"start_date": "2031-06-02", "due_date": "2031-06-03"})
    assert moved["due_date"] == "2031-06-03T00:00:00Z"


def test_a_completion_is_not_put_back_over_tasks_that_are_open_by_now(admin: Caller) -> None:
    made = project(admin, status="completed")
    path = f"/admin/projects/{made['id']}"
    admin.ok("PATCH", path, {"status": "in_progress"})
    task(admin, made["id"])
    entry = admin.ok("GET", f"{path}/versions")["data"][0]["id"]
    refused(admin.post(f"{path}/undo", {"entry_id": entry}), 409, "OPEN_TASKS")


def test_an_agent_completes_only_tasks_of_its_own_with_a_project(admin: Caller, agent: Caller) -> None:
    made = project(agent)
    path = f"/admin/projects/{made['id']}"
    task(agent, made["id"])
    others = task(admin, made["id"])
    body = {"status": "completed", "complete_tasks": True}
    refused(agent.patch(path, body), 403, "INSUFFICIENT_PERMISSIONS")
    admin.ok("PATCH", f"/admin/activities/{others['id']}", {"status": "completed"})
    assert agent.ok("PATCH", path, body)["tasks_completed"] == 2


def test_an_assignee_may_change_a_project_and_others_may_not(admin: Caller, agent: Caller) -> None:
    made = project(admin, assignees=[agent.user_id, "7", 7, "x;y"])
    path = f"/admin/projects/{made['id']}"
    assert made["assignees"] == [agent.user_id, 7, "x;y"]
    assert agent.ok("PATCH", path, {"status": "in_progress"})["status"] == "in_progress"
    refused(agent.patch(path, {"owner_id": agent.user_id}), 403, "INSUFFICIENT_PERMISSIONS")
    assert [each["id"] for each in agent.ok("GET", "/admin/projects", assignee="me")["data"]] == [made["id"]]
    assert admin.ok("GET", "/admin/projects", assignee="7,8")["total"] == 1
    assert admin.ok("GET", "/admin/projects", assignee="none")["total"] == 0
    assert agent.ok("PATCH", path, {"assignees": []})["assignees"] == []
    refused(agent.patch(path, {"status": "planned"}), 403, "INSUFFICIENT_PERMISSIONS")
    assert admin.ok("GET", "/admin/projects", assignee="none")["total"] == 1
    (entry, *_) = admin.ok("GET", f"{path}/versions")["data"]
    assert entry["changes"]["assignees"]["old"] == [agent.user_id, 7, "x;y"]
    refused(admin.patch(path, {"assignees": list(range(1, 52))}), 400, "INVALID_REQUEST")


def test_days_are_whole_and_of_the_organization(admin: Caller) -> None:
    admin.ok("PUT", "/admin/settings", {"timezone": "America/New_York"})
    made = project(admin, due_date="2031-05-02T01:00:00Z", start_date="2031-04-30")
    assert (made["start_date"], made["due_date"]) == ("2031-04-30T00:00:00Z", "2031-05-01T00:00:00Z")
    assert admin.ok("GET", "/admin/projects", due_from="2031-05-01", due_to="2031-05-01")["total"] == 1
    assert admin.ok("GET", "/admin/projects", due_from="2031-05-02")["total"] == 0
    late = project(admin, "Late", due_date="2020-01-01")
    project(admin, "Late, but done", due_date="2020-01-01", status="completed")
    assert [each["id"] for each in admin.ok("GET", "/admin/projects", overdue="true")["data"]] == [late["id"]]
    assert admin.ok("GET", "/admin/projects", overdue="false")["total"] == 2
    sent = {"name": "A", "completed_at": "2020-01-01"}
    assert refused(admin.post("/admin/projects", sent), 400, "INVALID_REQUEST")["fields"][0]["field"] == "completed_at"
    future = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    refused(
        admin.post("/admin/projects", {"name": "A", "status": "completed", "completed_at": future}),
        400,
        "INVALID_REQUEST",
    )


def test_a_project_takes_what_belongs_to_it_into_the_trash_and_back(admin: Caller) -> None:
    made = project(admin)
    path = f"/admin/projects/{made['id']}"
    todo = task(admin, made["id"])
    note = admin.ok("POST", f"{path}/notes", {"content": "Blue, please"})
    assert (note["project_id"], note["project"]["name"]) == (made["id"], "New website")
    assert admin.ok("GET", f"{path}/notes")["total"] == 1
    gone = task(admin, made["id"], "Before")
    admin.ok("DELETE", f"/admin/activities/{gone['id']}")
    admin.ok("DELETE", path)
    (trashed,) = admin.ok("GET", "/admin/projects", deleted="only")["data"]
    assert (trashed["tasks_total"], trashed["last_activity_at"] is not None) == (1, True)
    refused(admin.get(f"/admin/activities/{todo['id']}"), 404, "ACTIVITY_NOT_FOUND")
    refused(admin.post(f"/admin/notes/{note['id']}/restore"), 409, "PARENT_DELETED")
    assert {each["type"] for each in admin.ok("GET", "/admin/trash")["data"]} == {"project", "activity", "note"}
    back = admin.ok("POST", f"{path}/restore")
    assert back["tasks_total"] == 1
    assert admin.ok("GET", f"/admin/notes/{note['id']}")["version"] == 3


def test_the_timeline_tells_what_happened_to_a_project(admin: Caller, agent: Caller) -> None:
    customer = admin.customer("Ada")["id"]
    made = project(admin, customer_id=customer)
    path = f"/admin/projects/{made['id']}"
    task(admin, made["id"])
    admin.ok("POST", f"{path}/notes", {"content": "Blue, please"})
    admin.ok("PATCH", path, {"status": "in_progress"})
    admin.ok("PATCH", path, {"owner_id": agent.user_id})
    told = admin.ok("GET", f"{path}/timeline")["data"]
    assert [each["type"] for each in told] == ["owner_changed", "status_changed", "note", "activity", "created"]
    assert told[0]["data"] == {"from": admin.user_id, "to": agent.user_id}
    assert told[2]["data"]["content"] == "Blue, please"
    told = admin.ok("GET", f"/admin/customers/{customer}/timeline")["data"]
    assert [each["type"] for each in told] == ["note", "activity", "project_created", "created"]
    assert told[2]["data"] == {"id": made["id"], "name": "New website"}


@pytest.fixture
def limited(callers: Callers, admin: Caller, own_scope: TestClient[Litestar]) -> Caller:
    return callers.person("agent", admin.tenant, client=own_scope)


def test_who_sees_own_records_only_sees_own_projects_only(admin: Caller, limited: Caller) -> None:
    hidden = project(admin, "Hidden")
    shared = project(admin, "Shared", assignees=[limited.user_id])
    task(admin, shared["id"])
    assert [each["name"] for each in limited.ok("GET", "/admin/projects")["data"]] == ["Shared"]
    assert read(limited, shared["id"])["tasks_total"] == 0
    assert limited.ok("GET", "/admin/search", q="shared")["data"][0]["id"] == shared["id"]
    assert limited.ok("GET", "/admin/search", q="hidden")["data"] == []
    refused(limited.get(f"/admin/projects/{hidden['id']}"), 404, "PROJECT_NOT_FOUND")
    path = f"/admin/projects/{shared['id']}"
    assert refused(limited.patch(path, {"status": "completed"}), 409, "OPEN_TASKS") == {}
    refused(limited.patch(path, {"assignees": []}), 403, "INSUFFICIENT_PERMISSIONS")
    mine = admin.ok(
        "POST",
        "/admin/activities",
        {"title": "Mine", "type": "task", "project_id": hidden["id"], "assigned_to": limited.user_id},
    )
    assert limited.ok("GET", f"/admin/activities/{mine['id']}")["project"] == {"id": hidden["id"], "name": "Hidden"}
    own = project(limited, "Own")
    assert (own["owner_id"], limited.attach(path).status_code) == (limited.user_id, 201)
