"""What the tools answer."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from app.settings import Settings
from tests.callers import Caller, Callers
from tests.laws.routes import member_id
from tests.tools import Tools


@pytest.fixture
def tools(admin: Caller) -> Tools:
    return Tools(admin, "admin")


LONG = 'Ünïcode \u0001 "quoted" 🎻 '


def test_what_happened_on_the_phone_is_written_down_in_the_right_place(admin: Caller, tools: Tools) -> None:
    customer = admin.customer("Analytical Engines", company="Analytical Engines Ltd")["id"]
    (found,) = tools.ok("search", q="analyt")["data"]
    assert (found["type"], found["id"], found["untrusted"]["title"]) == ("customer", customer, "Analytical Engines")
    made = tools.approved("create_record", type="contact", values={"first_name": "Grace", "customer_id": customer})
    called = tools.approved("log_activity", type="call", title="She wants an offer", customer_id=customer)
    assert (called["status"], called["customer_id"]) == ("completed", customer)
    tools.approved("add_note", content="Likes to be called before noon", customer_id=customer)
    values = {"title": "Engine", "customer_id": customer, "amount": 1500.5}
    deal = tools.approved("create_record", type="deal", values=values)
    moved = tools.approved("move_deal", id=deal["id"], stage="proposal")
    assert (moved["stage"], moved["amount"]) == ("proposal", 1500.5)
    shown = tools.ok("get_record", type="customer", id=customer)["data"]
    assert [each["id"] for each in shown["untrusted"]["contacts"]] == [made["id"]]
    assert shown["open_deals_count"] == 1
    assert {entry["via"] for entry in admin.audit()[:5]} == {"mcp"}


def test_what_is_to_come_is_planned_and_a_bare_date_is_a_whole_day(tools: Tools) -> None:
    planned = tools.approved("log_activity", type="task", title="Send the offer", due_date="2099-01-31")
    assert (planned["status"], planned["all_day"], planned["due_date"]) == ("scheduled", True, "2099-01-31T00:00:00Z")


def test_names_stand_beside_ids(admin: Caller, callers: Callers, tools: Tools) -> None:
    colleague = callers.person("agent", admin.tenant, name="Alan Agent", user_id="77")
    colleague.ok("GET", "/admin/me")
    customer = admin.customer("Ada", assigned_to=77)["id"]
    admin.ok("POST", "/admin/projects", {"name": "Site", "customer_id": customer, "assignees": [77, "nobody"]})
    (row,) = tools.ok("list_records", type="customer")["data"]
    assert (row["assigned_to"], row["untrusted"]["assigned_to_name"]) == (77, "Alan Agent")
    (project,) = tools.ok("list_records", type="project")["data"]
    assert project["untrusted"]["customer"] == {"id": customer, "name": "Ada"}
    assert project["untrusted"]["assignee_names"] == ["Alan Agent"]
    (person,) = tools.ok("list_records", type="user", filters={"search": "alan"})["data"]
    assert (person["id"], person["untrusted"]["role"]) == (77, "agent")


def test_a_list_is_filtered_sorted_and_walked_by_cursor(admin: Caller, tools: Tools) -> None:
    for number in range(5):
        admin.customer(f"Customer {number}", status="active" if number % 2 else "lead", assigned_to=admin.user_id)
    asked = {"type": "customer", "filters": {"status": ["lead"], "assigned_to": "me"}, "sort": "-name", "limit": 2}
    first = tools.ok("list_records", **asked)
    assert [row["untrusted"]["name"] for row in first["data"]] == ["Customer 4", "Customer 2"]
    assert first["total"] == 3
    rest = tools.ok("list_records", **asked, cursor=first["next_cursor"])
    assert [row["untrusted"]["name"] for row in rest["data"]] == ["Customer 0"]
    assert rest["next_cursor"] is None
    (row,) = tools.ok("list_records", type="customer", fields=["name"], limit=1)["data"]
    assert row.keys() == {"id", "untrusted"}


@pytest.mark.parametrize("kind", ["customer", "note"])
def test_long_lists_come_in_parts_that_leave_nothing_out(admin: Caller, tools: Tools, kind: str) -> None:
    owner = admin.customer("Owner", notes=(LONG * 900)[:10_000])["id"]
    for number in range(24):
        if kind == "customer":
            admin.customer(f"{number} {LONG * 12}"[:255].replace("\u0001", ""), notes=(LONG * 900)[:10_000])
        else:
            admin.ok("POST", "/admin/notes", {"content": (LONG * 1800)[:20_000], "customer_id": owner})
    ids: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        page = tools.ok("list_records", type=kind, limit=50, **cursor)
        ids += [row["id"] for row in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    known = admin.ok("GET", f"/admin/{kind}s", page_size=100)["data"]
    assert ids == [row["id"] for row in known]


def test_a_long_text_is_read_to_its_end(admin: Caller, tools: Tools) -> None:
    content = (LONG * 1800)[:20_000].strip()
    note = admin.ok("POST", "/admin/notes", {"content": content, "customer_id": admin.customer()["id"]})
    page = tools.ok("get_record", type="note", id=note["id"])
    assert "call again with cursor content:" in page["more"]
    first, cursor = page["data"]["untrusted"]["content"].removesuffix("…"), page["next_cursor"]
    read = first
    while cursor:
        page = tools.ok("get_record", type="note", id=note["id"], cursor=cursor)
        read += page["data"]["untrusted"]["content"]
        cursor = page["next_cursor"]
    assert read == note["content"]


def test_the_largest_records_fit(admin: Caller, tools: Tools) -> None:
    text, line = (LONG * 1800)[:10_000], "x" * 250
    preferences = {f"key {n}": {str(m): m for m in range(40)} for n in range(40)}
    customer = admin.customer(line, notes=text, company=line, contact_preferences=preferences)["id"]
    of = {"customer_id": customer}
    for _ in range(21):
        admin.ok(
            "POST",
            f"/admin/customers/{customer}/contacts",
            {"first_name": "Kay", "notes": text, "position": line[:100]},
        )
        admin.ok(
            "POST", "/admin/activities", {"title": line, "type": "call", "description": text, "outcome": text, **of}
        )
    deal = admin.ok("POST", "/admin/deals", {"title": line, "description": text, "amount": 123456789012345, **of})["id"]
    project = admin.ok("POST", "/admin/projects", {"name": line, "description": text, **of})["id"]
    for _ in range(10):
        admin.ok("POST", f"/admin/deals/{deal}/notes", {"content": (LONG * 1800)[:20_000]})
        admin.ok("POST", f"/admin/projects/{project}/tasks", {"title": line, "description": text})
    for kind, record in (("customer", customer), ("deal", deal), ("project", project)):
        shown = tools.ok("get_record", type=kind, id=record)
        assert (shown["data"]["id"], "more" in shown) == (record, True)
    tools.ok("get_record", type="customer", id=customer, fields=["contact_preferences"])
    for report in ("overview", "summary", "funnel", "forecast", "team"):
        tools.ok("report", report=report)
    tools.ok("search", q="x", limit=50)
    tools.ok("my_day")
    changed = tools.ok("update_record", type="customer", id=customer, values={"notes": text[::-1], "role": "y" * 100})
    assert changed["changes"][0]["id"] == customer
    removed = tools.ok("delete_record", type="customer", id=customer)
    assert removed["summary"] == f"Delete customer {customer}, and 64 more records"
    assert len(removed["changes"]) + removed.get("more_changes", 0) == 65


def test_my_day_has_what_is_due_late_to_follow_up_and_stale(
    admin: Caller, tools: Tools, settings: Settings, stranger: Caller
) -> None:
    admin.ok("PUT", "/admin/settings", {"timezone": "Asia/Tokyo"})
    today = tools.ok("my_day")["today"]
    customer = admin.customer("Ada", assigned_to=admin.user_id, next_follow_up_at=today)["id"]
    late = {"title": "Late", "type": "call", "due_date": "2020-01-01T09:00:00Z"}
    admin.ok("POST", "/admin/activities", late)
    admin.ok("POST", "/admin/activities", {"title": "Today", "type": "call", "due_date": today})
    admin.ok(
        "POST", "/admin/activities", {"title": "Somebody's", "type": "call", "due_date": today, "assigned_to": "x"}
    )
    old, _ = (admin.ok("POST", "/admin/deals", {"title": t, "customer_id": customer})["id"] for t in ("Old", "New"))
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        owner.execute("ALTER TABLE deals DISABLE TRIGGER version")
        earlier = "now() - interval '15 days'"
        owner.execute(f"UPDATE deals SET created_at = {earlier}, updated_at = {earlier} WHERE id = %s", [old])
        owner.execute("ALTER TABLE deals ENABLE TRIGGER version")
    day = tools.ok("my_day")
    assert day["timezone"] == "Asia/Tokyo"
    told = {part: [row["id"] for row in day[part]["data"]] for part in ("follow_ups", "stale_deals")}
    assert told == {"follow_ups": [customer], "stale_deals": [old]}
    titles = {part: [row["untrusted"]["title"] for row in day[part]["data"]] for part in ("due_today", "overdue")}
    assert titles == {"due_today": ["Today"], "overdue": ["Late"]}
    assert Tools(stranger, "admin").ok("my_day")["overdue"] == {"total": 0, "data": []}


def test_a_busy_day_is_shown_as_records_and_says_how_to_read_the_rest(admin: Caller, tools: Tools) -> None:
    today = tools.ok("my_day")["today"]
    customer = admin.customer("Ada " * 20)["id"]
    for number in range(25):
        activity = {"title": f"{number} {'call ' * 40}", "type": "call", "due_date": today, "customer_id": customer}
        admin.ok("POST", "/admin/activities", activity)
    due = tools.ok("my_day")["due_today"]
    assert due["total"] == 25
    assert len(due["data"]) > 3
    assert all(row["untrusted"]["title"][0].isdigit() for row in due["data"])
    assert due["more"]["count"] == 25 - len(due["data"])
    read = tools.ok("list_records", **due["more"]["list_records"])
    assert read["total"] == 25
    assert [row["id"] for row in read["data"]][:3] == [row["id"] for row in due["data"]][:3]


def test_what_hangs_on_a_record_is_shown_as_records(admin: Caller, tools: Tools) -> None:
    customer = admin.customer("Ada")["id"]
    for number in range(8):
        activity = {"title": f"Call {number}", "type": "call", "customer_id": customer}
        values = {"description": "d" * 900, "outcome": "o" * 900, "status": "completed"}
        admin.ok("POST", "/admin/activities", activity | values)
    shown = tools.ok("get_record", type="customer", id=customer)["data"]["untrusted"]
    assert shown["recent_activities"][0]["outcome"].startswith("oo")
    for part in ("recent_activities", "recent_timeline"):
        assert all(isinstance(each, dict) for each in shown.get(part, []))


def test_a_deal_is_idle_if_neither_it_nor_its_activities_and_notes_changed(
    admin: Caller, tools: Tools, settings: Settings
) -> None:
    customer = admin.customer("Ada")["id"]
    deals = [admin.ok("POST", "/admin/deals", {"title": f"Deal {n}", "customer_id": customer})["id"] for n in range(14)]
    called, noted, *idle = deals
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        owner.execute("ALTER TABLE deals DISABLE TRIGGER version")
        earlier = "now() - interval '16 days'"
        owner.execute(f"UPDATE deals SET created_at = {earlier}, updated_at = {earlier} WHERE id = ANY(%s)", [deals])
        owner.execute("ALTER TABLE deals ENABLE TRIGGER version")
    admin.ok("POST", "/admin/activities", {"title": "Call", "type": "call", "deal_id": called, "status": "completed"})
    admin.ok("POST", "/admin/notes", {"content": "She thinks about it", "deal_id": noted})
    stale = tools.ok("my_day")["stale_deals"]
    assert stale["total"] == len(idle)
    assert {row["id"] for row in stale["data"]} <= set(idle)
    assert admin.ok("GET", "/admin/deals", idle_since="2000-01-01")["total"] == 0


def test_a_description_has_the_organizations_own_stages_and_who_asks(admin: Caller, tools: Tools) -> None:
    admin.ok("POST", "/admin/pipeline-stages", {"name": "demo", "display_name": "Demo held"})
    stages = {each["stage"]: each for each in tools.ok("describe", type="deal")["stages"]}
    assert stages["demo"] == {"stage": "demo", "kind": "open", "untrusted": {"display_name": "Demo held"}} | {
        "probability": 0
    }
    told = tools.ok("describe")
    assert (told["you"]["id"], told["you"]["untrusted"]["role"]) == (admin.user_id, "admin")
    assert "one of " in tools.ok("describe", type="customer")["fields"]["status"]


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("fly", {}, "There is no tool 'fly'; there are search, "),
        ("search", {}, "q is required. Mend that and call again"),
        ("search", {"q": "a", "query": "b"}, "query is not a field"),
        ("search", {"q": "\u0000"}, "can't be read: must not contain NUL"),
        ("search", {"q": "\ud800"}, "can't be read"),
        ("get_record", {"type": "customer", "id": 2**62}, "There is no such customer. Find its id with search"),
        ("get_record", {"type": "customer", "id": "twelve"}, "id must be an integer"),
        ("get_record", {"type": "invoice", "id": 1}, "type must be one of customer, contact,"),
        ("get_record", {"type": "tag", "id": 2**62, "cursor": "x"}, "There is no such tag"),
        ("list_records", {"type": "deal", "filters": {"page": 2}}, "filters.page is no filter: call describe"),
        ("list_records", {"type": "deal", "filters": {"color": "red"}}, "color is not a parameter"),
        ("list_records", {"type": "deal", "filters": {"status": {"a": 1}}}, "status must be text"),
        ("list_records", {"type": "deal", "filters": {"title": "x" * 3000}}, "These filters are too long"),
        ("list_records", {"type": "deal", "sort": "nothing"}, "sort_by must be one of"),
        ("list_records", {"type": "deal", "cursor": "abc"}, "start again without one."),
        ("list_records", {"type": "tag", "cursor": "abc"}, "The cursor is not valid here"),
        ("list_records", {"type": "tag", "filters": {"name": "x"}}, "A list of type tag has no filters"),
        ("report", {"report": "team", "by": "month"}, "The report team does not take by: leave it out."),
        ("create_record", {"type": "contact", "values": {"first_name": "A"}}, "values.customer_id is required"),
        ("create_record", {"type": "customer", "values": {"nme": "A"}}, "'nme' can't be written; the fields of a"),
        ("create_record", {"type": "customer", "values": {}}, "values is empty"),
        ("update_record", {"type": "customer", "id": 1, "values": {"tags": ["VIP"]}}, "'tags' can't be written"),
        ("create_record", {"type": "customer", "values": {"name": "A", "email": "no"}}, "email"),
        ("move_deal", {"id": 2**62, "stage": "proposal"}, "There is no such deal"),
        ("add_note", {"content": "Hm."}, "A note must belong to a customer"),
        ("log_activity", {"type": "call", "title": "x", "customer_id": 2**62}, "There is no such customer"),
    ],
)
def test_an_error_says_in_one_sentence_what_to_do(
    tools: Tools, name: str, arguments: dict[str, Any], sentence: str
) -> None:
    told = tools.refused(name, **arguments)
    assert sentence in told
    assert len(told) < 600


def test_who_has_the_email_already_is_named(admin: Caller, tools: Tools) -> None:
    known = admin.customer("Ada", email="ada@example.com")["id"]
    told = tools.refused("create_record", type="customer", values={"name": "A", "email": "ada@example.com"})
    assert f"(customer_id {known}). Use that customer instead." in told


def test_an_amount_keeps_its_digits(admin: Caller, tools: Tools) -> None:
    deal = {"title": "Engine", "customer_id": admin.customer()["id"], "amount": 123456789012345.67}
    made = admin.ok("POST", "/admin/deals", deal)
    assert '"amount":123456789012345.67' in tools.result("get_record", type="deal", id=made["id"]).text


def test_whoever_is_shut_out_meanwhile_is_told_so(admin: Caller, callers: Callers) -> None:
    colleague = callers.person("agent", admin.tenant)
    tools = Tools(colleague, "agent")
    tools.ok("my_day")
    member = member_id(colleague)
    admin.ok("PATCH", f"/admin/members/{member}", {"is_active": False})
    assert "deactivated" in tools.refused("my_day")


@pytest.mark.parametrize("done", [{"outcome": "She wants an offer"}, {"completed_at": "2026-01-02T10:00:00Z"}, {}])
def test_what_was_done_is_no_open_task(tools: Tools, done: dict[str, str]) -> None:
    called = tools.approved("log_activity", type="call", title="Called", due_date="2026-01-01", **done)
    assert called["status"] == "completed"
    assert called["completed_at"] == done.get("completed_at", "2026-01-01T00:00:00Z")


def test_what_has_an_outcome_is_done_even_if_it_was_due_later(tools: Tools) -> None:
    called = tools.approved("log_activity", type="call", title="Called", due_date="2099-01-01", outcome="Done")
    assert called["status"] == "completed"
    assert called["completed_at"] < "2099"


def test_a_proposal_names_what_it_is_about(admin: Caller, tools: Tools) -> None:
    kept, gone = (admin.customer(name)["id"] for name in ("Ada Ltd", "Ada Limited"))
    admin.ok("POST", "/admin/notes", {"content": "Likes tea", "customer_id": gone})
    merge = tools.ok("merge_customers", into=kept, **{"from": [gone]})
    deal = admin.ok("POST", "/admin/deals", {"title": "Engine", "customer_id": kept})["id"]
    move = tools.ok("move_deal", id=deal, stage="proposal")
    assert move["summary"] == f"Move deal {deal} to proposal"
    assert tools.ok("log_activity", type="email", title="Hello", deal_id=deal)["summary"].startswith("Log an email for")
    titles = [tools.person.ok("GET", f"/admin/proposals/{each['proposal_id']}")["title"] for each in (merge, move)]
    assert titles == ["Ada Limited → Ada Ltd", "Engine"]
    removed = tools.ok("delete_record", type="customer", id=kept)
    assert removed["untrusted"] == {"title": "Ada Ltd"}


def test_what_a_search_finds_is_read_to_its_end(admin: Caller, tools: Tools) -> None:
    known = {admin.customer(f"Engine {number} {'x' * 200}")["id"] for number in range(32)}
    found: list[int] = []
    page: dict[str, Any] = {"next_cursor": ""}
    while (cursor := page["next_cursor"]) is not None:
        page = tools.ok("search", q="engine", limit=20, **({"cursor": cursor} if cursor else {}))
        found += [row["id"] for row in page["data"]]
    assert len(found) == 32
    assert set(found) == known


def test_a_report_says_what_it_leaves_out_and_is_read_to_its_end(admin: Caller, tools: Tools) -> None:
    for number in range(30):
        admin.ok("POST", "/admin/pipeline-stages", {"name": f"stage_{number}_{'x' * 38}", "display_name": "Stage"})
    customer = admin.customer("Ada")["id"]
    for number in range(10):
        admin.ok("POST", "/admin/deals", {"title": f"{number} {'x' * 250}", "customer_id": customer})
    page = tools.ok("report", report="overview")
    assert "call again with cursor" in page["more"]
    name, _, first = page["next_cursor"].partition(":")
    read = int(first)
    while page["next_cursor"]:
        page = tools.ok("report", report="overview", cursor=page["next_cursor"])
        read += len((page | page.get("untrusted", {}))[name])
    assert read == len(admin.ok("GET", "/admin/reports/overview")[name])
    assert "call report without one" in tools.refused("report", report="overview", cursor="x")


def test_a_record_says_nothing_twice_and_names_the_list_that_has_more(admin: Caller, tools: Tools) -> None:
    customer = admin.customer("Ada")["id"]
    admin.ok("POST", f"/admin/customers/{customer}/contacts", {"first_name": "Grace", "is_primary": True})
    for number in range(7):
        activity = {"title": f"{number} {'x' * 200}", "type": "call", "customer_id": customer, "due_date": "2099-01-01"}
        admin.ok("POST", "/admin/activities", activity | {"description": "d" * 900})
    answered = tools.ok("get_record", type="customer", id=customer)
    shown = answered["data"]["untrusted"]
    assert "primary_contact" not in shown
    upcoming, recent = ([row["id"] for row in shown[f"{part}_activities"]] for part in ("upcoming", "recent"))
    assert not set(upcoming) & set(recent)
    assert f'list_records with type activity and filters {{"customer_id": {customer}}}' in answered["more"]


def test_a_description_is_in_whole_words(tools: Tools) -> None:
    assert tools.ok("describe")["types"]["project"].endswith("changed last.")
    assert tools.ok("describe", type="customer")["fields"]["email"].startswith("text, at most 255 characters")
