"""The list of what is in the trash."""

from __future__ import annotations

from typing import Any

from tests.callers import Caller, refused


def fill(caller: Caller, name: str = "Ada") -> dict[str, Any]:
    """A customer with something of each kind that has a trash."""
    customer = caller.customer(name)
    path = f"/admin/customers/{customer['id']}"
    contact = caller.ok("POST", f"{path}/contacts", {"last_name": f"{name} Contact"})
    deal = caller.ok("POST", "/admin/deals", {"title": f"{name} deal", "customer_id": customer["id"]})
    project = caller.ok("POST", "/admin/projects", {"name": f"{name} project", "customer_id": customer["id"]})
    activity = caller.ok("POST", "/admin/activities", {"title": "Call", "type": "call", "deal_id": deal["id"]})
    note = caller.ok("POST", "/admin/notes", {"content": "Two\n  lines", "activity_id": activity["id"]})
    attachment = caller.attach(f"/admin/activities/{activity['id']}").json()
    return {
        "customer": customer["id"],
        "contact": contact["id"],
        "deal": deal["id"],
        "project": project["id"],
        "activity": activity["id"],
        "note": note["id"],
        "attachment": attachment["id"],
    }


def test_the_trash_shows_every_kind_newest_first_with_who_and_when(admin: Caller, manager: Caller) -> None:
    made = fill(admin)
    alone = admin.ok("POST", "/admin/activities", {"title": "Alone", "type": "task"})["id"]
    assert admin.ok("GET", "/admin/trash")["data"] == []
    admin.ok("DELETE", f"/admin/customers/{made['customer']}")
    manager.ok("DELETE", f"/admin/activities/{alone}")
    page = manager.ok("GET", "/admin/trash")
    assert page["total"] == 8
    newest, *others = page["data"]
    assert (newest["type"], newest["id"], newest["title"]) == ("activity", alone, "Alone")
    assert str(newest["deleted_by"]["id"]) == manager.user_id
    assert {row["type"]: row["id"] for row in others} == made
    assert {str(row["deleted_by"]["id"]) for row in others} == {admin.user_id}
    assert {row["deleted_at"] for row in others} == {others[0]["deleted_at"]}
    titles = {row["type"]: row["title"] for row in others}
    assert titles == {
        "customer": "Ada",
        "contact": "Ada Contact",
        "deal": "Ada deal",
        "project": "Ada project",
        "activity": "Call",
        "note": "Two lines",
        "attachment": "hello.txt",
    }
    admin.ok("POST", f"/admin/customers/{made['customer']}/restore")
    assert [row["id"] for row in admin.ok("GET", "/admin/trash")["data"]] == [alone]


def test_the_trash_is_walked_by_page_and_by_cursor_in_one_order(admin: Caller) -> None:
    for name in ("Ada", "Grace", "Alan"):
        admin.ok("DELETE", f"/admin/customers/{fill(admin, name)['customer']}")
    whole = admin.ok("GET", "/admin/trash", page_size=100)["data"]
    assert len(whole) == 21
    assert [row["deleted_at"] for row in whole] == sorted((row["deleted_at"] for row in whole), reverse=True)
    numbered = [row for page in range(1, 6) for row in admin.ok("GET", "/admin/trash", page=page, page_size=5)["data"]]
    assert numbered == whole
    walked: list[Any] = []
    cursor: dict[str, Any] = {}
    while True:
        page = admin.ok("GET", "/admin/trash", page_size=4, **cursor)
        walked += page["data"]
        if not page["next_cursor"]:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert walked == whole
    backward = admin.ok("GET", "/admin/trash", sort_order="asc", page_size=100)["data"]
    assert backward == whole[::-1]
    notes = admin.ok("GET", "/admin/trash", type="note,deal")["data"]
    assert notes == [row for row in whole if row["type"] in {"note", "deal"}]


def test_the_trash_is_of_one_organization_and_not_for_agents(admin: Caller, agent: Caller, stranger: Caller) -> None:
    admin.ok("DELETE", f"/admin/customers/{fill(admin)['customer']}")
    refused(agent.get("/admin/trash"), 403, "INSUFFICIENT_PERMISSIONS")
    assert stranger.ok("GET", "/admin/trash")["total"] == 0
    refused(admin.get("/admin/trash", type="penguin"), 400, "INVALID_REQUEST")
