"""A sale from first contact to won deal, by three people and over HTTP alone; then every book must tell that story."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.callers import Caller, Callers, refused


def test_from_lead_to_won_deal_and_what_the_books_say_of_it(callers: Callers, tenant: str) -> None:
    admin = callers.person("admin", tenant, user_id="1", name="Ada")
    manager = callers.person("manager", tenant, user_id="2", name="Mia")
    agent = callers.person("agent", tenant, user_id="3", name="Abe")

    # The agent meets a lead, and writes down who and what.
    customer = agent.customer("Wonka Industries", email="info@wonka.example.com")
    home = f"/admin/customers/{customer['id']}"
    contact = agent.ok("POST", f"{home}/contacts", {"first_name": "Willy", "is_primary": True})
    deal = agent.ok(
        "POST", "/admin/deals", {"title": "Chocolate river", "customer_id": customer["id"], "contact_id": contact["id"]}
    )
    path = f"/admin/deals/{deal['id']}"
    assert (deal["stage"], deal["probability"], deal["currency"], deal["owner_id"]) == ("prospecting", 10, "USD", 3)
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    task = agent.ok(
        "POST", "/admin/activities", {"title": "Send offer", "type": "task", "deal_id": deal["id"], "due_date": soon}
    )
    note = agent.ok("POST", f"{path}/notes", {"content": "Wants it brown."})
    assert (note["author_id"], note["author_name"], note["deal_id"]) == (3, "Abe", deal["id"])

    # It moves on; not back, not to won without an amount.
    agent.ok("PATCH", home, {"status": "prospect"})
    moved = agent.ok("PATCH", path, {"stage": "proposal"})
    assert (moved["stage"], moved["probability"]) == ("proposal", 50)
    refused(agent.patch(path, {"stage": "prospecting"}), 403, "STAGE_ROLLBACK_FORBIDDEN")
    refused(manager.patch(path, {"stage": "prospecting"}), 403, "STAGE_ROLLBACK_FORBIDDEN")
    refused(agent.patch(path, {"stage": "closed_won"}), 400, "WON_NEEDS_AMOUNT")
    done = agent.ok("PATCH", f"/admin/activities/{task['id']}", {"status": "completed", "outcome": "Sent"})
    assert done["completed_at"] is not None

    # The manager takes it over, the agent can no more give it away, and it is won.
    refused(agent.patch(path, {"owner_id": 2}), 403, "INSUFFICIENT_PERMISSIONS")
    manager.ok("PATCH", path, {"owner_id": 2, "amount": 12500.50})
    won = manager.ok("PATCH", path, {"stage": "closed_won"})
    assert (won["status"], won["probability"], won["amount"]) == ("won", 100, 12500.5)
    assert won["actual_close_date"] is not None

    # Somebody deletes the customer, with all that hangs on it, and somebody else brings it back.
    manager.ok("DELETE", home)
    for gone in (
        home,
        path,
        f"/admin/contacts/{contact['id']}",
        f"/admin/activities/{task['id']}",
        f"/admin/notes/{note['id']}",
    ):
        assert admin.get(gone).status_code == 404, gone
    refused(manager.post(f"{path}/restore"), 409, "PARENT_DELETED")
    admin.ok("POST", f"{home}/restore")
    after = admin.ok("GET", path)
    assert [a["id"] for a in after["activities"]] == [task["id"]]
    assert [n["id"] for n in after["notes"]] == [note["id"]]
    assert admin.ok("GET", f"/admin/contacts/{contact['id']}")["is_primary"] is True

    # The stage history and the timeline of the deal.
    history = [(move["from_stage"], move["to_stage"], move["user_id"]) for move in after["stage_history"]]
    assert history == [(None, "prospecting", 3), ("prospecting", "proposal", 3), ("proposal", "closed_won", 2)]
    assert [move["left_at"] is None for move in after["stage_history"]] == [False, False, True]
    events = list(reversed(admin.ok("GET", f"{path}/timeline")["data"]))
    assert [event["type"] for event in events] == [
        "created", "activity", "note", "stage_changed", "amount_changed", "owner_changed", "stage_changed",
    ]  # fmt: skip
    assert {event["type"]: (event["user_id"], event["user_name"]) for event in events}["owner_changed"] == (2, "Mia")
    by_type = {event["type"]: event["data"] for event in events}
    assert by_type["amount_changed"] == {"from": 0, "to": 12500.5}
    assert by_type["owner_changed"] == {"from": 3, "to": 2}
    assert by_type["note"]["content"] == "Wants it brown."
    assert by_type["stage_changed"] | {"seconds": 0} == {"from": "proposal", "to": "closed_won", "seconds": 0}

    # The customer's page.
    page = admin.ok("GET", home)
    assert (page["contacts_count"], page["open_deals_count"], page["upcoming_activities_count"]) == (1, 0, 0)
    assert page["primary_contact"]["id"] == contact["id"]
    told = [event["type"] for event in reversed(page["recent_timeline"])]
    assert told == [
        "created",
        "deal_created",
        "activity",
        "note",
        "status_changed",
        "deal_stage_changed",
        "deal_stage_changed",
    ]
    assert admin.ok("GET", f"{home}/timeline")["data"] == page["recent_timeline"]

    # The funnel, the overview and the team.
    funnel = {stage["stage"]: stage for stage in admin.ok("GET", "/admin/reports/deals/funnel")["stages"]}
    assert [(name, stage["entered"], stage["current"], stage["conversion"]) for name, stage in funnel.items()] == [
        ("prospecting", 1, 0, None),
        ("qualification", 0, 0, 1),
        ("proposal", 1, 0, 0),
        ("negotiation", 0, 0, 1),
        ("closed_won", 1, 1, 0),
        ("closed_lost", 0, 0, 0),
    ]
    assert funnel["closed_won"]["value"] == 12500.5
    overview = admin.ok("GET", "/admin/reports/overview")
    assert overview["deals"]["won_value"] == overview["deals"]["total_value"] == 12500.5
    assert overview["deals"]["by_stage"]["closed_won"] == 1
    assert overview["metrics"]["won_deals_this_month"] == 1
    assert overview["activities"] | {"by_type": 0} == {
        "total": 1, "scheduled": 0, "completed": 1, "overdue": 0, "cancelled": 0, "by_type": 0,
    }  # fmt: skip
    assert [(p["id"], p["deals_closed"]) for p in overview["top_performers"]] == [(2, 1)]
    team = {member["id"]: member for member in admin.ok("GET", "/admin/reports/team")["data"]}
    assert (team[2]["won_count"], team[2]["won_value"], team[2]["win_rate"]) == (1, 12500.5, 1)
    assert (team[3]["won_count"], team[3]["win_rate"], team[3]["activities_completed"]) == (0, None, 1)
    assert [member["id"] for member in agent.ok("GET", "/admin/reports/team")["data"]] == [3]
    (summary,) = admin.ok("GET", "/admin/reports/deals/summary")["by_status"]
    assert summary == {"status": "won", "currency": "USD", "count": 1, "total": 12500.5, "average": 12500.5}

    # The audit log, oldest first.
    log = [(entry["resource_type"], entry["action"], entry["user_id"]) for entry in reversed(admin.audit())]
    assert log[:8] == [
        ("customer", "create", 3), ("contact", "create", 3), ("deal", "create", 3), ("activity", "create", 3),
        ("note", "create", 3), ("customer", "update", 3), ("deal", "update", 3), ("activity", "update", 3),
    ]  # fmt: skip
    assert log[8:10] == [("deal", "update", 2), ("deal", "update", 2)]
    kinds = ["activity", "contact", "customer", "deal", "note"]
    assert sorted(log[10:15]) == [(kind, "delete", 2) for kind in kinds]
    assert sorted(log[15:]) == [(kind, "restore", 1) for kind in kinds]
    stages = [
        entry["changes"]["stage"]
        for entry in admin.audit(resource_type="deal", action="update")
        if "stage" in entry["changes"]
    ]
    assert stages == [{"old": "proposal", "new": "closed_won"}, {"old": "prospecting", "new": "proposal"}]


def test_a_reassigned_customer_is_the_new_agents_business(callers: Callers, tenant: str, manager: Caller) -> None:
    first, second = (callers.person("agent", tenant, user_id=name) for name in ("first", "second"))
    path = f"/admin/customers/{first.customer()['id']}"
    manager.ok("PATCH", path, {"assigned_to": "second"})
    refused(first.patch(path, {"status": "active"}), 403, "INSUFFICIENT_PERMISSIONS")
    second.ok("PATCH", path, {"status": "active"})
