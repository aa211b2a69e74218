"""`crm import-go`: a dirty database of the Go service, of which every row's truth is known."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import Result

from app.go_service import target
from app.records.bootstrap import REMEMBERED_SECONDS
from app.settings import Settings
from tests.callers import Caller, Callers, refused
from tests.cli.go_service import CHANGED, GONE, MADE, GoService, go_service
from tests.processes import crm_here
from tests.records.chains import breaks, seal

KINDS = ("customers", "contacts", "deals", "activities", "notes")
MADE_TEXT, CHANGED_TEXT, GONE_TEXT = (moment.isoformat().replace("+00:00", "Z") for moment in (MADE, CHANGED, GONE))


@pytest.fixture(scope="module")
def go(settings: Settings) -> Iterator[GoService]:
    """Every kind of dirty data that was seen."""
    with go_service(settings.migration_dsn) as go:
        fill(go)
        yield go


@pytest.fixture(scope="module")
def moved(
    go: GoService, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Result, list[dict[str, str]]]:
    """An organization into which it was moved, what the command said, and its report."""
    report = tmp_path_factory.mktemp("go") / "report.csv"
    users = report.with_name("users.csv")
    users.write_text("old,new\n7,6f9619ff-8b86-4d11-b42d-00c04fc964ff\n8,ada\n")
    said = import_go(settings, go, "moved", "--report", str(report), "--users", str(users))
    assert said.exit_code == 0, said.output
    with report.open() as file:
        return "moved", said, list(csv.DictReader(file))


@pytest.fixture
def boss(callers: Callers, moved: tuple[str, Result, list[dict[str, str]]]) -> Caller:
    """An admin of that organization."""
    return callers.person("admin", moved[0])


def import_go(settings: Settings, go: GoService, tenant: str, *arguments: str) -> Result:
    if "--report" not in arguments:
        arguments = (*arguments, "--report", "/dev/null")
    return crm_here(
        "import-go", "--source", go.dsn, "--tenant", tenant, *arguments,
        DATABASE_URL=settings.database_dsn, MIGRATION_DATABASE_URL=settings.migration_dsn,
        JWT_SECRET=settings.jwt_secret,
    )  # fmt: skip


def fill(go: GoService) -> None:
    """Rows of every kind of dirt, and clean ones beside them."""
    go.stages()
    go.add("pipeline_stages", 21, name="Demo Held", display_name="Demo held", order=3, is_active=True, color="#fff")
    go.add("pipeline_stages", 22, name="old_stage", display_name="Old", order=2, is_active=True, deleted_at=GONE)
    go.add("pipeline_stages", 23, name="x" * 60, display_name="", order=None, is_active=True, color="red")
    # Tags.
    go.add("tags", 5, name="VIP", color="#FF0000", created_at=MADE - timedelta(days=9))
    go.add("tags", 2, name="vip", color="")
    go.add("tags", 3, name="  ", color="red")
    go.add("tags", 4, name="gone", deleted_at=GONE)
    go.add("tags", 6, name="News", color="#abc")
    # Customers.
    customer(go, 1, name="Ada Lovelace", email="ada@example.com", phone="+44 1", assigned_to=7, contacted=True,
             contact_preferences=json.dumps({"channel": "phone", "hour": 9.5}), notes="Old friend.")  # fmt: skip
    customer(go, 2, name="Ada again", email="ADA@example.com", notes="")
    customer(go, 3, name=" \u200b ", email="x@corp.local", company="Corp", assigned_to=0, status="VIP")
    customer(go, 4, name="Trashed", email="ada@EXAMPLE.com", deleted_at=GONE)
    customer(go, 5, name="L" * 300, phone="5" * 60, status=None, notes="n" * 10_500, contact_preferences='["a"]')
    customer(go, 6, name="No mail", email="nobody at home", status="Active", next_follow_up_at="0001-01-01 00:00:00+00")
    customer(go, 7, name="Far", next_follow_up_at="20240-01-01 00:00:00+00", created_at="0044-03-15 00:00:00 BC",
             updated_at="infinity")  # fmt: skip
    customer(go, 8, name="Line\nbreak", assigned_to=9, deleted_at="0001-01-01 00:00:00+00")
    for customer_id, tag_id in ((1, 5), (1, 2), (1, 4), (1, 6), (2, 2), (4, 5), (999, 5)):
        go.execute("INSERT INTO customer_tags VALUES (%s, %s)", customer_id, tag_id)
    # Contacts.
    contact(go, 1, 1, first_name="Grace", last_name="Hopper", email="GRACE@example.com", is_primary=True)
    contact(go, 2, 1, first_name="Second", is_primary=True)
    contact(go, 3, 1, first_name="", last_name="", email="who@example.com")
    contact(go, 4, 4, first_name="Of the trashed", is_primary=True)
    contact(go, 5, 4, first_name="Trashed before", deleted_at=GONE - timedelta(days=1))
    contact(go, 6, 50, first_name="Of nobody there")
    contact(go, 7, None, first_name="Of nobody")
    contact(go, 8, 1, first_name="Trashed", deleted_at=GONE)
    # Deals.
    deal(go, 1, 1, stage="proposal", amount=1500.5, contact_id=1, owner_id=8, probability=None)
    deal(go, 2, 1, stage="Proposal ", amount=-5, currency="usd", probability=150)
    deal(go, 3, 1, stage="closed_won", amount=1000.55, currency="JPY")
    deal(go, 4, 1, stage="closed_lost", amount=10, currency="ZZZ", actual_close_date=GONE, lost_reason="Too dear")
    deal(go, 5, 1, stage="old_stage", amount=1, actual_close_date=GONE, lost_reason="Not lost")
    deal(go, 6, 1, stage="Never Heard Of", amount=2, currency=None)
    deal(go, 7, 1, stage="", amount=3, contact_id=8)
    deal(go, 8, 2, stage="negotiation", amount=4, contact_id=1)
    deal(go, 9, 4, stage="negotiation", amount=400)
    deal(go, 10, 0, stage="qualification", title="", amount=None)
    deal(go, 11, 1, stage="x" * 60, amount=float("nan"), description="d" * 25_000)
    # Activities.
    activity(go, 1, type="task", customer_id=1, deal_id=1, contact_id=1, due_date="2024-03-05T00:00:00Z", duration=0)
    activity(go, 2, type="CALL", status="completed", priority="medium", duration=-5)
    activity(go, 3, type="lunch", status=None, priority="", completed_at=GONE, duration=30)
    activity(go, 4, type="email", deal_id=9, outcome="o" * 10_001)
    activity(go, 5, type="email", deal_id=77, contact_id=4, customer_id=1, due_date="-infinity")
    activity(go, 6, title=" ", type="meeting", status="overdue", priority="high", assigned_to=8)
    # Notes.
    note(go, 1, "Prefers tea.", customer_id=1, author_id=7, author_name="Ada")
    note(go, 2, "Alone", author_id=0)
    note(go, 3, "  ", deal_id=1)
    note(go, 4, "n" * 20_100, activity_id=1)
    note(go, 5, "Of the trashed", activity_id=4)
    note(go, 6, "Of what is gone", deal_id=78)


def customer(go: GoService, row_id: int, **values: Any) -> None:
    go.add("customers", row_id, **({"status": "lead", "contacted": None, "assigned_to": 0} | values))


def contact(go: GoService, row_id: int, customer_id: int | None, **values: Any) -> None:
    go.add("contacts", row_id, customer_id=customer_id, **({"is_primary": False} | values))


def deal(go: GoService, row_id: int, customer_id: int, **values: Any) -> None:
    go.add("deals", row_id, customer_id=customer_id, **({"title": f"Deal {row_id}", "currency": "USD"} | values))


def activity(go: GoService, row_id: int, **values: Any) -> None:
    usual = {"title": f"Activity {row_id}", "status": "scheduled", "priority": "normal"}
    go.add("activities", row_id, **(usual | values))


def note(go: GoService, row_id: int, content: str, **values: Any) -> None:
    go.add("notes", row_id, content=content, **values)


def everything(caller: Caller, kind: str) -> dict[int, dict[str, Any]]:
    """All records of a kind by id, those in the trash included."""
    found: dict[int, dict[str, Any]] = {}
    at: dict[str, Any] = {"deleted": "include"}
    while True:
        page = caller.ok("GET", f"/admin/{kind}", page_size=100, **at)
        found |= {record["id"]: record for record in page["data"]}
        if page["next_cursor"] is None:
            return found
        at = {"cursor": page["next_cursor"]}


def send_back(caller: Caller) -> int:
    """Send each record back as it is read, which must change nothing; answers how many there are."""
    paths = [
        f"/admin/{kind}/{record_id}"
        for kind in KINDS
        for record_id, record in everything(caller, kind).items()
        if record["deleted_at"] is None
    ]
    for kind in ("tags", "pipeline-stages"):
        paths += [f"/admin/{kind}/{record['id']}" for record in caller.ok("GET", f"/admin/{kind}")["data"]]
    for path in paths:
        read = caller.ok("GET", path)
        sent = caller.put(path, read)
        assert (sent.status_code, sent.json().get("version")) == (200, read["version"]), f"{path}: {sent.text}"
    return len(paths)


def test_every_row_is_accounted_for(boss: Caller, moved: tuple[str, Result, list[dict[str, str]]]) -> None:
    found = {kind: everything(boss, kind) for kind in KINDS}
    live = {kind: boss.ok("GET", f"/admin/{kind}")["total"] for kind in KINDS}
    holder = max(found["customers"])
    assert set(found["customers"]) == {*range(1, 9), 50, holder}
    assert [found["customers"][made]["name"] for made in (50, holder)] == [
        "Customer 50", "From the Go service, without a customer",
    ]  # fmt: skip
    assert set(found["contacts"]) == set(range(1, 9))
    assert set(found["deals"]) == set(range(1, 12))
    assert set(found["activities"]) == set(range(1, 7))
    # Six, and what was too long: of a customer, a deal (two), an activity and a note.
    assert (set(found["notes"]) >= set(range(1, 7)), len(found["notes"])) == (True, 12)
    assert live == {"customers": 8, "contacts": 5, "deals": 10, "activities": 5, "notes": 10}
    _, said, report = moved
    assert "Counts and sums are equal. moved is open." in said.output
    # The figures that change are said before anything is written.
    assert said.output.index("Figures change: 1 contacts, 1 deals, 1 activities, 1 notes") < said.output.index(
        "Copying"
    )
    assert "deals of USD 400.00 among them" in said.output
    assert {"table": "customers", "id": "2", "field": "email", "value": "ADA@example.com",
            "what becomes of it": "another customer has this email; kept in notes"} in report  # fmt: skip


@pytest.mark.slow
def test_all_of_it_is_sent_back_unchanged(boss: Caller) -> None:
    assert send_back(boss) > 50


def test_customers(boss: Caller) -> None:
    found = everything(boss, "customers")
    one = found[1]
    assert [one[name] for name in ("name", "email", "status", "contacted", "notes", "created_at", "updated_at")] == [
        "Ada Lovelace", "ada@example.com", "lead", True, "Old friend.", MADE_TEXT, CHANGED_TEXT,
    ]  # fmt: skip
    assert one["contact_preferences"] == {"channel": "phone", "hour": 9.5}
    assert one["assigned_to"] == "6f9619ff-8b86-4d11-b42d-00c04fc964ff"
    assert [tag["name"] for tag in one["tags"]] == ["News", "VIP"]
    assert (found[2]["email"], found[2]["notes"]) == (None, "From the Go service:\nemail: ADA@example.com")
    assert [found[3][name] for name in ("name", "email", "status", "assigned_to", "notes")] == [
        "Corp", "x@corp.local", "lead", None, "From the Go service:\nstatus: VIP",
    ]  # fmt: skip
    assert (found[4]["email"], found[4]["deleted_at"]) == ("ada@EXAMPLE.com", GONE_TEXT)
    assert (found[5]["name"], found[5]["phone"], found[5]["status"]) == ("L" * 255, "5" * 50, "lead")
    assert found[5]["notes"] == "n" * 10_000
    rest, kept = sorted(
        (each["content"] for each in everything(boss, "notes").values() if each["customer_id"] == 5), key=len
    )[::-1]
    assert rest == "(customers 5, notes, continued)\n" + "n" * 500
    for part in ("L" * 300, "5" * 60, 'contact_preferences: ["a"]'):
        assert part in kept
    assert (found[6]["email"], found[6]["status"], found[6]["next_follow_up_at"]) == (None, "active", None)
    assert found[6]["notes"] == "From the Go service:\nemail: nobody at home"
    assert "next_follow_up_at: 20240-01-01T00:00:00+00:00" in found[7]["notes"]
    assert found[7]["created_at"] == found[7]["updated_at"]
    assert (found[8]["name"], found[8]["assigned_to"], found[8]["deleted_at"]) == ("Line break", 9, CHANGED_TEXT)


def test_tags_that_are_alike_are_one(boss: Caller) -> None:
    tags = {tag["id"]: tag for tag in boss.ok("GET", "/admin/tags")["data"]}
    assert {tag_id: (tag["name"], tag["color"], tag["customer_count"]) for tag_id, tag in tags.items()} == {
        5: ("VIP", "#FF0000", 2), 3: ("Tag 3", "#ff0000", 0), 6: ("News", "#aabbcc", 1),
    }  # fmt: skip


def test_contacts(boss: Caller) -> None:
    found = everything(boss, "contacts")
    assert [found[n]["is_primary"] for n in (1, 2, 4)] == [True, False, True]
    assert (found[3]["first_name"], found[3]["email"]) == ("who", "who@example.com")
    assert (found[6]["customer_id"], found[7]["customer_id"]) == (50, max(everything(boss, "customers")))
    assert (found[4]["deleted_at"], found[8]["deleted_at"]) == (GONE_TEXT, GONE_TEXT)


def test_stages_have_names_that_programs_can_use(boss: Caller) -> None:
    stages = {stage["name"]: stage for stage in boss.ok("GET", "/admin/pipeline-stages")["data"]}
    assert [*stages] == [
        "prospecting", "qualification", "proposal", "demo_held", "negotiation", "never_heard_of", "closed_won",
        "closed_lost", "x" * 50, "old_stage",
    ]  # fmt: skip
    assert [stage["order"] for stage in stages.values()] == [*range(1, 11)]
    shown = {name: [stages[name][field] for field in ("id", "kind", "probability", "is_active", "color")] for name in
             ("closed_won", "demo_held", "old_stage", "x" * 50)}  # fmt: skip
    assert shown == {
        "closed_won": [15, "won", 100, True, "#22c55e"], "demo_held": [21, "open", 0, True, "#ffffff"],
        "old_stage": [22, "open", 0, False, "#64748b"], "x" * 50: [23, "open", 0, True, "#ff0000"],
    }  # fmt: skip
    heard = stages["never_heard_of"]
    assert (heard["display_name"], heard["is_active"], heard["id"] > 23) == ("Never Heard Of", False, True)


def test_deals(boss: Caller) -> None:
    found = everything(boss, "deals")
    expected = {
        1: ("proposal", 1500.5, "USD", 50, None), 2: ("proposal", 0, "USD", 50, None),
        3: ("closed_won", 1001, "JPY", 100, CHANGED_TEXT), 4: ("closed_lost", 10, "USD", 0, GONE_TEXT),
        5: ("old_stage", 1, "USD", 0, None), 6: ("never_heard_of", 2, "USD", 0, None),
        7: ("prospecting", 3, "USD", 10, None), 8: ("negotiation", 4, "USD", 75, None),
        9: ("negotiation", 400, "USD", 75, None), 10: ("qualification", 0, "USD", 20, None),
        11: ("x" * 50, 0, "USD", 0, None),
    }  # fmt: skip
    fields = ("stage", "amount", "currency", "probability", "actual_close_date")
    assert {n: tuple(each[field] for field in fields) for n, each in found.items()} == expected
    assert (found[1]["contact_id"], found[1]["owner_id"]) == (1, "ada")
    assert (found[4]["lost_reason"], found[5]["lost_reason"]) == ("Too dear", None)
    kept = {n: (each["description"] or "").split("\n") for n, each in found.items()}
    assert kept[2] == ["From the Go service:", "probability: 150", "amount: -5"]
    assert kept[3][1:] == ["amount: 1000.55"]
    assert kept[5][1:] == ["lost_reason: Not lost", f"actual_close_date: {GONE.isoformat()}"]
    assert kept[7][1:] == ["contact_id: 8 (Trashed)"]
    assert kept[8][1:] == ["contact_id: 1 (Grace Hopper)"]
    assert (found[7]["contact_id"], found[8]["contact_id"]) == (None, None)
    assert (found[9]["deleted_at"], found[10]["title"]) == (GONE_TEXT, "Deal 10")
    # One move each: when it was made, or closed.
    for deal_id, since in ((1, MADE_TEXT), (3, CHANGED_TEXT), (4, GONE_TEXT)):
        (move,) = boss.ok("GET", f"/admin/deals/{deal_id}")["stage_history"]
        assert (move["from_stage"], move["to_stage"], move["entered_at"]) == (None, found[deal_id]["stage"], since)


def test_a_long_text_is_whole_in_its_field_and_notes(boss: Caller) -> None:
    deal = boss.ok("GET", "/admin/deals/11")
    parts = sorted((note["content"] for note in deal["notes"]), key=len, reverse=True)
    heading = "(deals 11, description, continued)\n"
    assert all(part.startswith(heading) for part in parts)
    texts = [part.removeprefix(heading) for part in parts]
    assert deal["description"] + texts[0] == "d" * 25_000
    assert texts[1] == "From the Go service:\namount: NaN"


def test_activities(boss: Caller) -> None:
    found = everything(boss, "activities")
    fields = ("type", "status", "priority", "duration", "completed_at")
    assert {n: tuple(each[field] for field in fields) for n, each in found.items()} == {
        1: ("task", "overdue", "normal", None, None), 2: ("call", "completed", "normal", None, CHANGED_TEXT),
        3: ("task", "scheduled", "normal", 30, None), 4: ("email", "scheduled", "normal", None, None),
        5: ("email", "scheduled", "normal", None, None), 6: ("meeting", "scheduled", "high", None, None),
    }  # fmt: skip
    assert (found[1]["all_day"], found[1]["contact_id"], found[1]["deal_id"]) == (True, 1, 1)
    assert found[3]["description"].split("\n")[1:] == ["type: lunch", f"completed_at: {GONE.isoformat()}"]
    assert (found[4]["deleted_at"], len(found[4]["outcome"])) == (GONE_TEXT, 10_000)
    assert found[5]["description"].split("\n")[1:] == [
        "due_date: -infinity", "deal_id: 77", "contact_id: 4 (Of the trashed)",
    ]  # fmt: skip
    assert (found[6]["title"], found[6]["assigned_to"]) == ("Activity 6", "ada")


def test_notes(boss: Caller) -> None:
    found = everything(boss, "notes")
    assert (found[1]["author_id"], found[1]["author_name"]) == ("6f9619ff-8b86-4d11-b42d-00c04fc964ff", "Ada")
    holder = max(everything(boss, "customers"))
    assert [(found[n]["author_id"], found[n]["customer_id"]) for n in (2, 6)] == [("nobody", holder)] * 2
    assert found[6]["content"] == "Of what is gone\n\nFrom the Go service:\ndeal_id: 78"
    assert (found[3]["content"], len(found[4]["content"])) == ("(empty)", 20_000)
    assert found[5]["deleted_at"] == GONE_TEXT


def test_what_went_into_the_trash_with_a_customer_comes_back_with_it(settings: Settings, callers: Callers) -> None:
    with go_service(settings.migration_dsn) as go:
        customer(go, 1, name="Trashed", deleted_at=GONE)
        customer(go, 900, name="The last", deleted_at=GONE)
        contact(go, 1, 1, first_name="Alive there")
        contact(go, 2, 1, first_name="Trashed before", deleted_at=GONE - timedelta(days=1))
        deal(go, 1, 1, stage="proposal", amount=1)
        activity(go, 1, type="call", deal_id=1)
        note(go, 1, "Of the activity", activity_id=1, author_id=3)
        assert import_go(settings, go, "restoring").exit_code == 0
    boss = callers.person("admin", "restoring")
    assert [boss.ok("GET", f"/admin/{kind}")["total"] for kind in KINDS] == [0, 0, 0, 0, 0]
    boss.ok("POST", "/admin/customers/1/restore")
    assert [boss.ok("GET", f"/admin/{kind}")["total"] for kind in KINDS] == [1, 1, 1, 1, 1]
    # What is new here has an id that did not come.
    assert boss.customer("Fresh")["id"] > 900


def test_it_is_audited_as_one_import_and_the_chain_holds(boss: Caller, settings: Settings) -> None:
    newest = boss.audit(resource_type="customer")
    assert {(entry["via"], entry["action"], entry["user_name"]) for entry in newest} == {
        ("import", "create", "crm import-go")
    }
    assert len({entry["operation_id"] for entry in boss.audit(action="create")}) == 1
    assert len(newest) == len(everything(boss, "customers"))
    seal(settings)
    assert breaks(settings, boss.tenant) == []


def test_the_same_source_once_more_is_nothing_to_do(
    moved: tuple[str, Result, list[dict[str, str]]], go: GoService, settings: Settings
) -> None:
    again = import_go(settings, go, moved[0])
    assert (again.exit_code, again.output.startswith("Nothing to do")) == (0, True)
    restart = import_go(settings, go, moved[0], "--restart")
    assert (restart.exit_code, "is open" in restart.output) == (1, True)
    with go_service(settings.migration_dsn) as other:
        elsewhere = import_go(settings, other, moved[0])
    assert (elsewhere.exit_code, "come from another database" in elsewhere.output) == (1, True)


def test_a_dry_run_shows_all_and_writes_nothing(
    go: GoService, settings: Settings, moved: tuple[str, Result, list[dict[str, str]]], tmp_path: Path, tenant: str
) -> None:
    report = tmp_path / "report.csv"
    said = import_go(settings, go, tenant, "--dry-run", "--report", str(report))
    assert (said.exit_code, "Nothing was written." in said.output) == (0, True)
    with report.open() as file:
        assert len(list(csv.DictReader(file))) >= len(moved[2]) - 10  # without what the file of users says
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [tenant])
        for table in (*KINDS, "tags", "pipeline_stages", "go_imports", "audit_entries", "settings"):
            found = owner.execute(f"SELECT count(*) FROM {table} WHERE tenant_id = %s", [tenant]).fetchone()
            assert found == (0,), table


def test_an_organization_with_records_is_refused(go: GoService, settings: Settings, admin: Caller) -> None:
    admin.customer()
    refusal = import_go(settings, go, admin.tenant)
    assert (refusal.exit_code, "has customers already" in refusal.output) == (1, True)
    own = crm_here("import-go", "--source", settings.migration_dsn, "--tenant", "own", "--report", "/dev/null",
                   DATABASE_URL=settings.database_dsn, MIGRATION_DATABASE_URL=settings.migration_dsn)  # fmt: skip
    assert (own.exit_code, "own database" in own.output) == (1, True)


def test_another_database_is_refused_in_a_sentence(settings: Settings, tenant: str) -> None:
    with go_service(settings.migration_dsn) as empty:
        empty.execute("DROP TABLE deals")
        assert "it has no table deals" in import_go(settings, empty, tenant).output
    with go_service(settings.migration_dsn) as low:
        customer(low, 0, name="Zero")
        assert "customers has the id 0" in import_go(settings, low, tenant).output


class Stopped(BaseException):
    """As if the process had been killed."""


def test_a_stopped_run_goes_on_where_it_was_and_nobody_gets_in_meanwhile(
    go: GoService, settings: Settings, callers: Callers, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "BATCH", 3)
    store, boss = target.Target._store, callers.person("admin", tenant)
    for stops_at in (2, 4, 7):
        calls = iter(range(stops_at))

        def store_some(self: Any, *arguments: Any, calls: Iterator[int] = calls) -> None:
            store(self, *arguments)
            if next(calls, None) is None:
                raise Stopped

        monkeypatch.setattr(target.Target, "_store", store_some)
        with pytest.raises(Stopped):
            import_go(settings, go, tenant)
        data = refused(boss.get("/admin/customers"), 503, "SERVICE_UNAVAILABLE")
        assert data == {}
    monkeypatch.setattr(target.Target, "_store", store)
    done = import_go(settings, go, tenant)
    assert (done.exit_code, f"{tenant} is open" in done.output) == (0, True), done.output
    assert [len(everything(boss, kind)) for kind in KINDS] == [10, 8, 11, 6, 12]


def test_what_differs_keeps_the_organization_closed_until_it_is_done_again(
    go: GoService, settings: Settings, callers: Callers, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = target.Target.open
    monkeypatch.setattr(target.Target, "open", lambda _: (_ for _ in ()).throw(Stopped))
    with pytest.raises(Stopped):
        import_go(settings, go, tenant)
    monkeypatch.setattr(target.Target, "open", opening)
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [tenant])
        owner.execute("UPDATE customers SET phone = '+44 2' WHERE tenant_id = %s AND id = 1", [tenant])
    different = import_go(settings, go, tenant)
    assert different.exit_code == 1
    assert "customers: 10 are here, 2 of them in the trash; it should be 10 and 2, and they differ" in different.output
    boss = callers.person("admin", tenant)
    refused(boss.get("/admin/customers"), 503, "SERVICE_UNAVAILABLE")
    assert import_go(settings, go, tenant, "--restart").exit_code == 0
    assert everything(boss, "customers")[1]["phone"] == "+44 1"


def test_whoever_was_let_in_a_moment_ago_is_waited_for(settings: Settings, admin: Caller) -> None:
    admin.ok("GET", "/admin/me")
    admin.ok("GET", "/admin/customers")
    with target.opened(settings.migration_dsn, admin.tenant) as here:
        state = here.close("somewhere", dict.fromkeys(("customers",), 1), settings)
        assert here.quiet_at(state) == state.closed_at + timedelta(seconds=REMEMBERED_SECONDS)
        long_ago = state._replace(closed_at=datetime.now(UTC) - timedelta(seconds=REMEMBERED_SECONDS + 1))
        assert here.quiet_at(long_ago) is None
        here.discard()


def test_what_somebody_made_at_the_last_moment_stays(
    go: GoService, settings: Settings, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work_on(*_: object) -> None:
        if not admin.ok("GET", "/admin/customers")["total"]:
            admin.customer("Late")

    admin.ok("GET", "/admin/customers")
    monkeypatch.setattr(target.Target, "quiet_at", work_on)
    refusal = import_go(settings, go, admin.tenant)
    assert (refusal.exit_code, "has customers already" in refusal.output) == (1, True)
    assert [record["name"] for record in everything(admin, "customers").values()] == ["Late"]
    assert import_go(settings, go, admin.tenant, "--restart").exit_code == 1
    assert [record["name"] for record in everything(admin, "customers").values()] == ["Late"]


TEXTS = [
    None, "", " ", "\u200b", "a", "ß", "SS", "x\ty", "line\nbreak", "e" + "\u0301" * 40, "e\u0301", "x" * 51, "y" * 256,
    "q" * 9_999 + "e\u0301\u0301", "w" * 41_000, "\x1f", "\u2028", "a@b.de", "A@B.DE", "a@münchen.de", "x@corp.local",
    '"q"@x.de', "lead", "LEAD ", "proposal", "Closed Won", "completed", "done", "high", "call", "EUR", "eur", "XXX",
    "#FFF",
]  # fmt: skip
TIMES = [
    None, "0001-01-01 00:00:00+00", "infinity", "-infinity", "9999-12-31 23:59:59.999999+00", "10000-01-01 00:00+00",
    "0001-12-31 23:59+00", "0044-03-15 00:00:00 BC", "2024-02-29 00:00:00+00", "2030-01-01 00:00+00",
]  # fmt: skip
NUMBERS = [None, 0, -1, 1, 50, 101, 2**31 - 1]
AMOUNTS = [None, -1, 1.005, 1e15, 999999999999999.9, float("inf"), 0.1 + 0.2, 1e-9]
LINKS = {"customer_id", "contact_id", "deal_id", "activity_id"}
ROWS = 15


@pytest.mark.slow
def test_whatever_the_columns_hold_comes_over_and_is_sent_back_unchanged(
    settings: Settings, callers: Callers, tenant: str
) -> None:
    chance = random.Random(17)
    kinds: dict[str, list[Any]] = {
        "integer": NUMBERS,
        "text": TEXTS,
        "timestamp with time zone": TIMES,
        "double precision": AMOUNTS,
        "boolean": [None, True, False],
        "jsonb": [None, "[]", '"x"', '{"a": 1e40}', '{"a": 1.50}'],
    }
    links = [None, 0, -1, *range(1, ROWS + 3)]
    with go_service(settings.migration_dsn) as go:
        for table in ("tags", "pipeline_stages", *KINDS):
            columns = go.columns(table).items()
            for row_id in range(1, ROWS):
                values = {name: chance.choice(links if name in LINKS else kinds[kind]) for name, kind in columns}
                del values["id"], values["deleted_at"]
                go.add(table, row_id, **values, deleted_at=chance.choice([*[None] * 40, *TIMES]))
        said = import_go(settings, go, tenant)
    assert said.exit_code == 0, said.output
    assert send_back(callers.person("admin", tenant)) > ROWS


def test_of_a_database_with_organizations_one_comes(settings: Settings, callers: Callers, tenant: str) -> None:
    with go_service(settings.migration_dsn) as go:
        for table in (*KINDS, "tags", "pipeline_stages"):
            go.execute(f"ALTER TABLE {table} ADD tenant_id text")
        for place, name in enumerate((tenant, "other")):
            for row_id in (10 * place + 1, 10 * place + 2):
                customer(go, row_id, name=f"{name} {row_id}", tenant_id=name)
                deal(go, row_id, row_id, stage="proposal", amount=row_id, tenant_id=name)
        said = import_go(settings, go, tenant)
    assert (said.exit_code, "Rows of other organizations stay there: 2 customers" in said.output) == (0, True)
    boss = callers.person("admin", tenant)
    assert ([*everything(boss, "customers")], [*everything(boss, "deals")]) == ([2, 1], [2, 1])


def test_a_column_that_this_service_does_not_have_is_kept_as_text(
    settings: Settings, callers: Callers, tenant: str
) -> None:
    with go_service(settings.migration_dsn) as go:
        go.execute("ALTER TABLE customers ADD linkedin text, ADD score numeric")
        go.execute("DROP TABLE customer_tags, tags, pipeline_stages, audit_logs")
        customer(go, 1, name="Ada", linkedin="in/ada", score="7.50")
        customer(go, 2, name="Grace", linkedin="")
        assert import_go(settings, go, tenant).exit_code == 0
    found = everything(callers.person("admin", tenant), "customers")
    assert (found[1]["notes"], found[2]["notes"]) == ("From the Go service:\nlinkedin: in/ada\nscore: 7.50", None)


@pytest.mark.parametrize("line", ["7", "7,", "7,a,b", "7,a\n7,b"])
def test_a_wrong_file_of_users_is_refused(
    line: str, go: GoService, settings: Settings, tenant: str, tmp_path: Path
) -> None:
    users = tmp_path / "users.csv"
    users.write_text(line)
    refusal = import_go(settings, go, tenant, "--users", str(users))
    assert (refusal.exit_code, "must be an old and a new id" in refusal.output) == (1, True)
