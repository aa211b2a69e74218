"""Imports: every row is checked first, by the rules of requests; the run does what was said, and can be taken back."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.admin.imports import queries
from app.admin.imports.schemas import ImportKind
from app.admin.imports.service import prune
from app.settings import Settings
from app.storage.removed import delete_removed_objects
from tests.callers import Caller, Callers, refused
from tests.processes import wait_until

IMPORTS = "/admin/imports"
pytestmark = pytest.mark.usefixtures("working")


def ended(caller: Caller, job: dict[str, Any]) -> dict[str, Any]:
    """The job once it is finished."""
    found: dict[str, Any] = {}

    def look() -> bool:
        found.update(caller.ok("GET", f"/admin/jobs/{job['id']}"))
        return found["finished_at"] is not None

    wait_until(look, "the end of the job", at_most=20)
    return found


def send(caller: Caller, text: str, kind: str = "customers") -> str:
    """Upload a file; answers the import's address."""
    answer = caller.call("POST", IMPORTS, files={"file": ("leads.csv", text.encode())}, data={"kind": kind})
    assert answer.status_code == 201, answer.text
    return f"{IMPORTS}/{answer.json()['id']}"


def check(caller: Caller, path: str, mapping: Mapping[str, str | None], **options: Any) -> dict[str, Any]:
    """Plan and wait; answers the summary."""
    job = ended(caller, caller.ok("PUT", f"{path}/plan", {"mapping": mapping, "options": options})["job"])
    assert job["status"] == "done", job
    found = caller.ok("GET", path)
    assert (found["status"], found["summary"]) == ("checked", job["result"]["summary"])
    return {name: count for name, count in found["summary"].items() if count}


def run(caller: Caller, path: str, **more: Any) -> dict[str, Any]:
    """Run and wait; answers the job."""
    return ended(caller, caller.ok("POST", f"{path}/run", more)["job"])


def rows(caller: Caller, path: str, **filters: Any) -> list[dict[str, Any]]:
    """What the check found."""
    found: list[dict[str, Any]] = caller.ok("GET", f"{path}/rows", page_size=100, **filters)["data"]
    return found


BY_EMAIL = {"Name": "name", "Mail": "email", "Firma": "company"}


def test_what_the_check_says_is_what_the_run_does_and_undo_takes_it_back(admin: Caller) -> None:
    ada = admin.customer("Ada", email="ada@example.com", company="Engines")
    bob = admin.customer("Bob", email="bob@example.com", company="Engines")
    path = send(
        admin,
        "Name,Mail,Firma\n"
        "Ada,ADA@example.com,Looms\n"
        "Bob,bob@example.com,Engines\n"
        "Cy,cy@example.com,\n"
        "Dee,not an address,\n"
        "Eve,CY@example.com,\n",
    )
    said = check(admin, path, BY_EMAIL, match_on="email", on_error="skip")
    assert said == {"create": 1, "update": 1, "unchanged": 1, "error": 2}
    update, unchanged, create, wrong, clash = rows(admin, path)
    assert (update["outcome"], update["record_id"]) == ("update", ada["id"])
    assert (update["before"], update["after"]) == (
        {"email": "ada@example.com", "company": "Engines"},
        {"email": "ADA@example.com", "company": "Looms"},
    )
    assert (unchanged["outcome"], unchanged["record_id"], unchanged["after"]) == ("unchanged", bob["id"], None)
    assert (create["row"], create["record_id"], create["before"]) == (4, None, None)
    assert create["after"] == {"name": "Cy", "email": "cy@example.com"}
    (problem,) = wrong["problems"]
    assert (problem["column"], problem["field"], problem["value"]) == ("Mail", "email", "not an address")
    refusal = admin.post("/admin/customers", {"name": "Dee", "email": "not an address"}).json()
    assert problem["message"] == refusal["data"]["fields"][0]["message"]
    assert clash["problems"][0]["message"] == "is the same as in row 4"
    assert [row["row"] for row in rows(admin, path, outcome="error,unchanged")] == [3, 5, 6]

    job = run(admin, path)
    assert job["result"] == {
        "import_id": int(path.rpartition("/")[2]),
        "created": 1,
        "updated": 1,
        "unchanged": 1,
        "skipped": 0,
        "failed": 2,
    }
    assert admin.ok("GET", path)["operation_id"] == job["operation_id"]
    made = admin.ok("GET", "/admin/customers", search="cy@")["data"]
    assert [(each["name"], each["status"], each["version"]) for each in made] == [("Cy", "lead", 1)]
    assert rows(admin, path, outcome="create")[0]["record_id"] == made[0]["id"]
    assert admin.ok("GET", f"/admin/customers/{ada['id']}")["company"] == "Looms"
    entries = admin.audit(operation_id=job["operation_id"])
    assert {(entry["action"], entry["resource_id"], entry["via"]) for entry in entries} == {
        ("create", made[0]["id"], "import"),
        ("update", ada["id"], "import"),
    }
    (event,) = admin.ok("GET", f"/admin/customers/{made[0]['id']}/timeline")["data"]
    assert (event["type"], event["user_id"]) == ("imported", admin.user_id)

    admin.ok("PATCH", f"/admin/customers/{ada['id']}", {"company": "Mills"})
    undone = admin.ok("POST", f"/admin/operations/{job['operation_id']}/undo", {"changed_since": "keep"})
    assert undone["kept"] == [{"resource_type": "customer", "resource_id": ada["id"], "field": "company"}]
    assert admin.get(f"/admin/customers/{made[0]['id']}").status_code == 404
    back = admin.ok("GET", f"/admin/customers/{ada['id']}")
    assert (back["email"], back["company"]) == ("ada@example.com", "Mills")
    # And imported again.
    assert check(admin, path, BY_EMAIL, match_on="email", on_error="skip")["create"] == 1
    assert run(admin, path)["result"]["created"] == 1


def test_an_import_that_is_done_is_an_event_of_the_feed(
    admin: Caller, service_connection: psycopg.Connection[Any]
) -> None:
    path = send(admin, "Name\nAda\n\n\x07\n")
    assert check(admin, path, {"Name": "name"}, on_error="skip") == {"create": 1, "error": 1}
    job = run(admin, path)
    told: list[dict[str, Any]] = []

    def is_told() -> bool:
        service_connection.execute("SELECT crm_seal_audit(1000)")
        told[:] = admin.ok("GET", "/admin/events", after=0, types="import.*")["data"]
        return bool(told)

    wait_until(is_told, "the event")
    (event,) = told
    assert (event["type"], event["types"]) == ("import.finished", ["import.finished"])
    assert (event["resource_type"], event["resource_id"]) == ("import", int(path.rpartition("/")[2]))
    assert (event["user_id"], event["record"]) == (admin.user_id, None)
    figures = {"kind": "customers", "created": 1, "updated": 0, "unchanged": 0, "skipped": 0, "failed": 1}
    figures["operation_id"] = job["operation_id"]
    assert event["changes"] == {name: {"old": None, "new": value} for name, value in figures.items()}
    (entry,) = admin.audit(action="import")
    assert (entry["via"], entry["resource_type"], entry["user_id"]) == ("import", "import", admin.user_id)
    # It is nothing that an undo has to take back.
    assert admin.ok("POST", f"/admin/operations/{job['operation_id']}/undo", {})["changed"] == 1


TEXT = " \t=1+1\r\n'so'; \"so\"\n "
# Records with all that they can have, and with little.
FULL: dict[str, dict[str, Any]] = {
    "customers": {
        "name": "=Ada",
        "email": "Ada@Example.com",
        "phone": "030 1",
        "notes": TEXT,
        "assigned_to": 12,
        "website": "HTTP://example.com",
        "contact_preferences": {"by": ["phone"], "n": 1.50},
    },
    "contacts": {"first_name": "Grace", "last_name": "von  Hopper", "is_primary": True, "notes": TEXT},
    "deals": {
        "title": "Engine",
        "stage": "closed_lost",
        "amount": 10.5,
        "currency": "USD",
        "lost_reason": "-5",
        "expected_close_date": "2021-03-04",
        "actual_close_date": "2021-03-05T06:07:08.123456+09:00",
    },
    "projects": {"name": "Looms", "assignees": [12, "x"], "start_date": "2021-03-04", "due_date": "2030-01-01"},
    "activities": {
        "title": "Call",
        "type": "call",
        "status": "completed",
        "completed_at": "2021-03-04T05:06:07Z",
        "outcome": TEXT,
        "due_date": "2031-01-01",
        "duration": 0,
        "priority": "high",
    },
    "notes": {"content": TEXT},
}
BARE: dict[str, dict[str, Any]] = {
    "customers": {"name": "Bob"},
    "contacts": {"last_name": "-"},
    "deals": {"title": "Loom"},
    "projects": {"name": "Mills"},
    "activities": {"title": "Mail", "type": "email"},
    "notes": {"content": "N"},
}


@pytest.fixture
def told(admin: Caller) -> None:
    """Two records of each kind, which belong to each other."""
    tags = [admin.tag(name)["id"] for name in ("VIP", 'a "b"; c', "=1+1")]
    for fields, key in ((FULL, " 1;=k "), (BARE, "k")):
        links: dict[str, Any] = {}
        for kind in ("customers", "contacts", "deals", "projects", "activities", "notes"):
            path = f"customers/{links['customer_id']}/contacts" if kind == "contacts" else kind
            fit = {"projects": {"customer_id"}, "notes": {"customer_id", "deal_id", "activity_id"}}
            more = {name: links[name] for name in links if kind != "contacts" and name in fit.get(kind, links)}
            made = admin.ok("POST", f"/admin/{path}", fields[kind] | more | {"external_id": key})["id"]
            links[f"{kind[:-3]}y_id" if kind == "activities" else f"{kind[:-1]}_id"] = made
        if fields is FULL:
            admin.ok("POST", f"/admin/customers/{links['customer_id']}/tags", {"tag_ids": tags})


@pytest.mark.slow
@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("kind", ImportKind)
def test_what_was_exported_changes_nothing_when_it_is_imported(admin: Caller, kind: ImportKind) -> None:
    for format_, match_on in (("csv", "id"), ("csv", "external_id"), ("xlsx", "external_id"), ("jsonl", "id")):
        file = admin.get(f"/admin/{kind}/export", format=format_)
        sent = admin.call("POST", IMPORTS, files={"file": (f"all.{format_}", file.content)}, data={"kind": kind}).json()
        mapping = {column["name"]: column["field"] for column in sent["columns"]}
        path = f"{IMPORTS}/{sent['id']}"
        said = check(admin, path, mapping, match_on=match_on)
        assert said == {"unchanged": 2}, (format_, rows(admin, path))


def test_wrong_rows_refuse_the_run_and_can_be_mended_in_a_file_of_their_own(admin: Caller) -> None:
    path = send(admin, "Name,Mail,Firma\nAda,ada@example.com,\nBob,bob,\"Engines; 'n' more\"\n")
    refused(admin.post(f"{path}/run", {}), 409, "IMPORT_NOT_CHECKED")
    assert check(admin, path, BY_EMAIL) == {"create": 1, "error": 1}
    assert refused(admin.post(f"{path}/run", {}), 409, "IMPORT_HAS_ERRORS")["summary"]["error"] == 1
    answer = admin.get(f"{path}/problems.csv")
    assert answer.headers["Content-Type"].startswith("text/csv")
    heading, row = csv.reader(io.StringIO(answer.content.decode("utf-8-sig")))
    assert (heading, row[:3]) == (["Name", "Mail", "Firma", "problems"], ["Bob", "bob", "Engines; 'n' more"])
    assert row[3].startswith("Mail: is not a valid address")
    mended = send(admin, answer.content.decode("utf-8-sig").replace(",bob,", ",bob@example.com,"))
    assert check(admin, mended, BY_EMAIL) == {"create": 1}
    assert run(admin, mended)["status"] == "done"


def test_a_file_of_wrong_rows_has_the_cells_as_they_were_and_only_reasons(admin: Caller) -> None:
    kept = [" 'so' ", "'=1+1", 'C:\\a "b" c', "x,y;\nz", "C:\\"]
    mapping = {"Title": "title", "Company": "customer", "Due": "expected_close_date", "Worth": "amount", "Text": None}
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(mapping)
    writer.writerow(["Mill", "New Ltd", "01.02.2031", "1,5", "x"])
    writer.writerows(["Mill", "New Ltd", "01.02.2031", "1.234", text] for text in kept)
    writer.writerow(["Loom", "New Ltd", "31.12.2031", "1,50", ""])
    path = send(admin, file.getvalue().replace("Mill,", f"{'x' * 256},"), "deals")
    said = check(admin, path, mapping, on_error="skip", create_customers=True)
    assert said == {"create": 1, "error": 6, "warning": 1}
    options = admin.ok("GET", path)["options"]
    # Found out from all rows, and said.
    assert (options["date_order"], options["decimal"]) == ("dmy", ",")
    wrong = admin.get(f"{path}/problems.csv").content.decode("utf-8-sig")
    heading, *lines = csv.reader(io.StringIO(wrong, newline=""))
    assert heading == [*mapping, "problems"]
    assert [line[-1] for line in lines] == ["Title: must be text of length <= 255"] * 6
    # Mended in part, and sent again: the cells are the same, and so is what they mean.
    path = send(admin, wrong.replace("x" * 256, "Mill", 5), "deals")
    columns = {each["name"]: mapping.get(each["name"]) for each in admin.ok("GET", path)["columns"]}
    assert check(admin, path, columns, **options) == {"create": 5, "error": 1, "warning": 5}
    amounts = [row["after"]["amount"] for row in rows(admin, path, outcome="create")]
    assert amounts == [1.5, 1234, 1234, 1234, 1234]
    again = csv.reader(io.StringIO(admin.get(f"{path}/problems.csv").content.decode("utf-8-sig"), newline=""))
    assert list(again) == [heading, lines[-1]]
    path = send(admin, 'Name,Mail,Labels\nAda,ada@x.example,\nBo, Ada@X.example ,\nCy,,"VIP ;Nope"\n')
    check(admin, path, {"Name": "name", "Mail": "email", "Labels": "tags"}, on_error="skip")
    assert [row["problems"][0]["value"] for row in rows(admin, path, outcome="error")] == ["Ada@X.example", "VIP ;Nope"]


def test_all_that_is_wrong_in_a_row_is_told_at_once(admin: Caller) -> None:
    other = admin.customer("Ada", external_id="k")
    path = send(admin, f"Name,Mail,Status,Next,Key\n{'x' * 256},bob,gone,2026-13-45,k\n")
    mapping = {"Name": "name", "Mail": "email", "Status": "status", "Next": "next_follow_up_at", "Key": "external_id"}
    assert check(admin, path, mapping, on_error="skip") == {"error": 1}
    problems = rows(admin, path)[0]["problems"]
    assert {problem["column"] for problem in problems} == set(mapping)
    assert len(problems) == len(mapping)
    assert f"with the id {other['id']}" in problems[-1]["message"]
    # What only follows from a fault is none: that there is no customer, amount or link.
    columns = {"Title": "title", "Company": "customer", "Contact": "contact", "Stage": "stage", "Amount": "amount"}
    path = send(admin, ",".join(columns) + "\nMill,Nobody,Nobody,Nowhere,a lot\nLoom,Ada,,closed_won,many\n", "deals")
    assert check(admin, path, columns, on_error="skip") == {"error": 2}
    found = [[problem["field"] for problem in row["problems"]] for row in rows(admin, path)]
    assert found == [["amount", "customer", "contact", "stage"], ["amount"]]
    path = send(admin, "Text,Deal\n,Nowhere\n", "notes")
    assert check(admin, path, {"Text": "content", "Deal": "deal"}, on_error="skip") == {"error": 1}
    assert [problem["field"] for problem in rows(admin, path)[0]["problems"]] == ["deal", "content"]


def test_what_was_changed_since_the_check_is_not_overwritten_unasked(admin: Caller) -> None:
    ada = admin.customer("Ada", external_id="a")
    path = send(admin, "key,Name\na,Ada Lovelace\n")
    mapping = {"key": "external_id", "Name": "name"}
    check(admin, path, mapping, match_on="external_id")
    admin.ok("PATCH", f"/admin/customers/{ada['id']}", {"company": "Engines"})
    found = refused(admin.post(f"{path}/run", {}), 409, "PLAN_OUTDATED")
    assert found == {"records": [{"row": 2, "id": ada["id"]}]}
    assert run(admin, path, accept_changes=True)["status"] == "done"
    back = admin.ok("GET", f"/admin/customers/{ada['id']}")
    assert (back["name"], back["company"]) == ("Ada Lovelace", "Engines")


def test_the_key_of_a_merged_record_finds_the_one_that_was_kept(admin: Caller) -> None:
    kept, merged = (admin.customer("Ada", external_id=key)["id"] for key in ("a", "b"))
    admin.ok("POST", f"/admin/customers/{kept}/merge", {"from": [merged]})
    path = send(admin, "key,Name\nb,Ada Lovelace\n")
    assert check(admin, path, {"key": "external_id", "Name": "name"}, match_on="external_id") == {"update": 1}
    run(admin, path)
    (customer,) = admin.ok("GET", "/admin/customers")["data"]
    assert (customer["name"], customer["external_id"]) == ("Ada Lovelace", "a")
    path = send(admin, "Note,Customer\nFirst,b\n", "notes")
    assert check(admin, path, {"Note": "content", "Customer": "customer"}) == {"create": 1}


def test_a_row_that_fails_only_in_running_takes_all_back(admin: Caller) -> None:
    path = send(admin, "Name,Mail\nAda,ada@example.com\nBob,bob@example.com\n")
    mapping = {"Name": "name", "Mail": "email"}
    check(admin, path, mapping)
    admin.customer("Another", email="BOB@example.com")
    job = run(admin, path)
    assert (job["status"], job["error"]["code"], job["error"]["data"]["row"]) == ("failed", "IMPORT_STOPPED", 3)
    assert admin.ok("GET", path)["status"] == "failed"
    assert admin.ok("GET", "/admin/customers")["total"] == 1
    assert rows(admin, path, outcome="error")[0]["problems"][0]["field"] == "email"
    # And with skip, the others stay.
    check(admin, path, mapping, on_error="skip")
    admin.customer("One more", email="ada@example.com")
    assert run(admin, path)["result"]["failed"] == 2


def test_a_row_that_clashes_takes_nothing_from_those_after_it(admin: Caller) -> None:
    path = send(
        admin,
        "Name,Mail,key\nAda,a@example.com,1\nBob,A@example.com,2\nCy,c@example.com,2\nDee,c@example.com,3\nEve,,3\n",
    )
    mapping = {"Name": "name", "Mail": "email", "key": "external_id"}
    assert check(admin, path, mapping, on_error="skip") == {"create": 3, "error": 2}
    wrong = [(row["row"], row["problems"][0]["message"]) for row in rows(admin, path, outcome="error")]
    assert wrong == [(3, "is the same as in row 2"), (5, "is the same as in row 4")]
    assert run(admin, path)["result"]["created"] == 3


def test_a_project_whose_tasks_were_opened_since_the_check_is_not_completed(admin: Caller) -> None:
    for name in ("Looms", "Mills"):
        admin.ok("POST", "/admin/projects", {"name": name, "external_id": name})
    path = send(admin, "key,State\nLooms,completed\nMills,completed\n", "projects")
    check(admin, path, {"key": "external_id", "State": "status"}, match_on="external_id", on_error="skip")
    opened = admin.ok("GET", "/admin/projects", external_id="Looms")["data"][0]["id"]
    admin.ok("POST", f"/admin/projects/{opened}/tasks", {"title": "Weave"})
    result = run(admin, path)["result"]
    assert (result["updated"], result["failed"]) == (1, 1)
    (wrong,) = rows(admin, path, outcome="error")
    assert (wrong["record_id"], wrong["problems"][0]["column"]) == (opened, "State")
    assert admin.ok("GET", f"/admin/projects/{opened}")["status"] == "planned"


def test_contacts_bring_their_customers_along(admin: Caller) -> None:
    engines = admin.customer("Engines Ltd")
    twice = [admin.customer("Twice")["id"] for _ in range(2)]
    old = admin.ok("POST", f"/admin/customers/{engines['id']}/contacts", {"first_name": "Old", "is_primary": True})
    path = send(
        admin,
        "Vorname,Firma,Primary\nAda,ENGINES LTD,yes\nBob,Looms,yes\nCy,looms,no\nDee,Twice,no\n",
        "contacts",
    )
    mapping = {"Vorname": "first_name", "Firma": "customer", "Primary": "is_primary"}
    assert check(admin, path, mapping, on_error="skip") == {"create": 1, "error": 3}
    assert str(twice[1]) in rows(admin, path)[3]["problems"][0]["message"]
    assert check(admin, path, mapping, on_error="skip", create_customers=True) == {
        "create": 3,
        "error": 1,
        "warning": 2,
    }
    assert run(admin, path)["result"]["created"] == 3
    (looms,) = admin.ok("GET", "/admin/customers", search="Looms")["data"]
    there = admin.ok("GET", f"/admin/customers/{looms['id']}/contacts")["data"]
    assert [(each["first_name"], each["is_primary"]) for each in there] == [("Bob", True), ("Cy", False)]
    assert admin.ok("GET", f"/admin/contacts/{old['id']}")["is_primary"] is False


def test_deals_follow_the_rules_of_the_pipeline(admin: Caller) -> None:
    customer = admin.customer("Engines Ltd", external_id="c-1")
    path = send(
        admin,
        'Deal,Company,Stage,Value,Closed\nMill,c-1,Closed Won,"1.500,50",31.12.2025\nLoom,c-1,closed_won,0,\n'
        "Pump,c-1,Nowhere,1,\nSaw,c-1,,2,\n",
        "deals",
    )
    mapping = {
        "Deal": "title",
        "Company": "customer",
        "Stage": "stage",
        "Value": "amount",
        "Closed": "actual_close_date",
    }
    said = check(admin, path, mapping, on_error="skip", decimal=",", values={"stage": {"Closed Won": "closed_won"}})
    assert said == {"create": 2, "error": 2}
    fields = [row["problems"][0]["field"] for row in rows(admin, path, outcome="error")]
    assert fields == ["amount", "stage"]
    assert rows(admin, path)[0]["after"]["stage"] == "closed_won"
    run(admin, path)
    saw, mill = admin.ok("GET", "/admin/deals", sort_by="amount", sort_order="asc")["data"]
    assert (mill["amount"], mill["status"], mill["actual_close_date"]) == (1500.5, "won", "2025-12-31T00:00:00Z")
    assert (saw["stage"], saw["owner_id"], saw["customer_id"]) == ("prospecting", admin.user_id, customer["id"])


def test_notes_and_activities_belong_to_what_they_name(admin: Caller) -> None:
    customer = admin.customer("Engines Ltd", email="info@example.com")
    path = send(admin, "Text,Customer\nFirst,info@example.com\nSecond,\n", "notes")
    mapping = {"Text": "content", "Customer": "customer"}
    assert check(admin, path, mapping, on_error="skip") == {"create": 1, "error": 1}
    run(admin, path)
    (note,) = admin.ok("GET", "/admin/notes")["data"]
    assert (note["content"], note["customer_id"], note["author_id"]) == ("First", customer["id"], admin.user_id)
    path = send(admin, "Title,Type,Done,Customer\nCall,call,2024-05-01,Engines Ltd\nOld,task,,\n", "activities")
    mapping = {"Title": "title", "Type": "type", "Done": "completed_at", "Customer": "customer"}
    assert check(admin, path, mapping) == {"create": 2}
    run(admin, path)
    assert {each["title"] for each in admin.ok("GET", "/admin/activities")["data"]} == {"Call", "Old"}


def test_a_person_is_found_by_id_email_or_name_and_else_the_row_is_wrong(admin: Caller, callers: Callers) -> None:
    ada, *others = (
        callers.person(
            "agent", admin.tenant, user_id=user_id, name=name, email=f"{user_id.partition('@')[0]}@x.example"
        )
        for user_id, name in (("ada@x.example", "Ada"), ("bo1", "Bo"), ("bo2", "Bo"))
    )
    for each in (ada, *others):
        each.ok("GET", "/admin/me")
    cells = ["ada@x.example", "bo1", "BO2@X.example", "ada", "Bo", "Cy Nobody", "me", "none", "17", str(uuid.uuid4())]
    path = send(admin, "Name,Owner\n" + "".join(f"Customer,{cell}\n" for cell in cells))
    mapping = {"Name": "name", "Owner": "assigned_to"}
    assert check(admin, path, mapping, on_error="skip") == {"create": 6, "error": 4, "warning": 2}
    found = rows(admin, path)
    owners = [row["after"] and row["after"]["assigned_to"] for row in found]
    assert owners == ["ada@x.example", "bo1", "bo2", "ada@x.example", None, None, None, None, 17, cells[-1]]
    assert found[4]["problems"][0]["message"] == "several people are called so, with the ids bo1, bo2"
    assert found[5]["problems"][0] == {
        "column": "Owner",
        "field": "assigned_to",
        "value": "Cy Nobody",
        "message": "nobody here has this id, e-mail address or name: say with the option values whom it means",
    }
    assert found[8]["problems"][0]["message"] == "nobody with this id was here yet"
    means = {"assigned_to": {"Cy Nobody": "ada@x.example", "Bo": "bo1", "me": "ada", "none": "bo2"}}
    assert check(admin, path, mapping, values=means) == {"create": 10, "warning": 2}
    # The plan's own default is somebody who was here.
    for default in ("me", "none", "Cy Nobody", 17, "Bo"):
        plan = {"mapping": {"Name": "name"}, "options": {"assigned_to": default}}
        fields = refused(admin.put(f"{path}/plan", plan), 400, "INVALID_REQUEST")["fields"]
        assert fields[0]["field"] == "options.assigned_to"
    check(admin, path, {"Name": "name"}, assigned_to="ada@x.example")
    assert rows(admin, path)[0]["after"]["assigned_to"] == "ada@x.example"


def test_a_name_beside_the_id_of_another_record_is_told(admin: Caller) -> None:
    engines, looms = (admin.customer(name)["id"] for name in ("Engines", "Looms"))
    contact = admin.ok("POST", f"/admin/customers/{engines}/contacts", {"first_name": "Ada", "last_name": "King"})["id"]
    deal = admin.ok("POST", "/admin/deals", {"title": "Mill", "customer_id": engines})["id"]
    text = "Subject,Type,Customer,Customer ID,Contact,Contact ID,Deal,Deal ID\n"
    text += f"A,call,Engines,{engines},Ada King,{contact},Mill,{deal}\n"
    text += f"B,call,,,ada king,{contact},,{deal}\n"
    text += f"C,call,Engines,{looms},,,Mull,{deal}\n"
    text += f"D,call,,,Ada Queen,{contact},,\n"
    path = send(admin, text, "activities")
    mapping = {each["name"]: each["field"] for each in admin.ok("GET", path)["columns"]}
    assert check(admin, path, mapping) == {"create": 4, "warning": 2}
    told = [[(each["field"], each["message"]) for each in row["problems"]] for row in rows(admin, path)]
    assert told[:2] == [[], []]
    assert told[2:] == [
        [(name, f"the {name} {record_id} is not called so: the id counts") for name, record_id in each]
        for each in ([("customer", looms), ("deal", deal)], [("contact", contact)])
    ]


def test_tasks_that_are_overdue_already_are_taken_if_the_plan_says_so(admin: Caller) -> None:
    text = "Subject,Type,Status,Due\nOld,task,Overdue,2024-05-01\nOlder,task,scheduled,2023-05-01T09:00\n"
    path = send(admin, text, "activities")
    mapping = {"Subject": "title", "Type": "type", "Status": "status", "Due": "due_date"}
    assert check(admin, path, mapping, on_error="skip") == {"error": 2}
    assert all("take_overdue" in row["problems"][0]["message"] for row in rows(admin, path))
    assert check(admin, path, mapping, take_overdue=True) == {"create": 2}
    run(admin, path)
    made = admin.ok("GET", "/admin/activities", sort_by="due_date")["data"]
    assert [(each["title"], each["status"]) for each in made] == [("Older", "overdue"), ("Old", "overdue")]
    # A request has no such option, and customers have no tasks.
    refused(
        admin.post("/admin/activities", {"title": "Old", "type": "task", "due_date": "2024-05-01"}),
        400,
        "DUE_DATE_IN_PAST",
    )
    plan = {"mapping": {"Subject": "name"}, "options": {"take_overdue": True}}
    refused(admin.put(f"{send(admin, text)}/plan", plan), 400, "INVALID_REQUEST")


@pytest.mark.slow
def test_projects_come_with_their_people_and_go_out_and_in_again_unchanged(admin: Caller) -> None:
    customer = admin.customer("Engines Ltd")["id"]
    path = send(
        admin,
        "Project name,Company,Members,Due on,Project status\nMove,Engines Ltd,7; 8,2031-05-01,On hold\n",
        "projects",
    )
    mapping = {each["name"]: each["field"] for each in admin.ok("GET", path)["columns"]}
    assert list(mapping.values()) == ["name", "customer", "assignees", "due_date", "status"]
    assert check(admin, path, mapping) == {"create": 1, "warning": 1}
    run(admin, path)
    (made,) = admin.ok("GET", "/admin/projects")["data"]
    assert (made["name"], made["customer_id"], made["assignees"], made["status"]) == (
        "Move",
        customer,
        [7, 8],
        "on_hold",
    )
    assert made["due_date"] == "2031-05-01T00:00:00Z"
    path = send(admin, admin.get("/admin/projects/export").text, "projects")
    mapping = {each["name"]: each["field"] for each in admin.ok("GET", path)["columns"]}
    assert check(admin, path, mapping, match_on="id") == {"unchanged": 1}
    path = send(admin, "Subject,Type,Project\nPack,task,Move\n", "activities")
    assert check(admin, path, {"Subject": "title", "Type": "type", "Project": "project"}) == {"create": 1}
    run(admin, path)
    assert admin.ok("GET", f"/admin/projects/{made['id']}")["tasks"][0]["title"] == "Pack"
    path = send(admin, "Name,Members\nMove,nobody@nowhere.example\n", "projects")
    assert check(admin, path, {"Name": "name", "Members": "assignees"}, on_error="skip") == {"error": 1}


def test_tags_are_added_by_name_and_made_if_allowed(admin: Caller) -> None:
    vip = admin.tag("VIP")
    ada = admin.customer("Ada", external_id="a")
    admin.ok("PUT", f"/admin/customers/{ada['id']}/tags", {"tag_ids": [vip["id"]]})
    path = send(admin, "key,Name,Labels\na,Ada,Fair; vip\nb,Bob,fair\n")
    mapping = {"key": "external_id", "Name": "name", "Labels": "tags"}
    assert check(admin, path, mapping, match_on="external_id", on_error="skip") == {"error": 2}
    said = check(admin, path, mapping, match_on="external_id", create_tags=True, tags=["All"])
    assert said == {"create": 1, "update": 1, "warning": 2}
    run(admin, path)
    tags = {
        each["name"]: sorted(tag["name"] for tag in each["tags"])
        for each in admin.ok("GET", "/admin/customers")["data"]
    }
    assert tags == {"Ada": ["All", "Fair", "VIP"], "Bob": ["All", "Fair"]}
    assert check(admin, path, mapping, match_on="external_id", tags=["All"]) == {"unchanged": 2}


def test_an_erasure_empties_the_imports_that_know_the_person(
    admin: Caller, data_dir: Path, working: TestClient[Litestar]
) -> None:
    text = "Name,Mail,Firma\nAda Erased,ada@erased.example,\nEve,ADA@erased.example,\n"
    path, other = send(admin, text), send(admin, "Name\nBob\n")
    check(admin, path, BY_EMAIL, on_error="skip")
    check(admin, other, {"Name": "name"})
    for each in (path, other):
        run(admin, each)
    (ada,) = admin.ok("GET", "/admin/customers", search="Erased")["data"]
    admin.ok("POST", f"/admin/customers/{ada['id']}/erase", {"reason": "Request", "confirm": "Ada Erased"})
    shown = admin.get(path).text + admin.get(f"{path}/rows").text + admin.get(f"{path}/problems.csv").text
    assert "erased.example" not in shown.casefold()
    assert admin.ok("GET", path)["file_name"] == "erased"
    assert admin.ok("GET", other)["columns"][0]["samples"] == ["Bob"]
    state = working.app.state
    while working.blocking_portal.call(delete_removed_objects, state.database, state.store):
        pass
    (kept,) = (data_dir / "objects/crm" / admin.tenant).glob("*")
    assert kept.read_text() == '[2,"Bob"]\n'
    # Whoever wants to go on with it is told.
    answer = admin.put(f"{path}/plan", {"mapping": {"Name": "name"}})
    assert 400 <= answer.status_code < 500, answer.text


def test_an_import_that_nobody_goes_on_with_is_deleted(
    admin: Caller, settings: Settings, working: TestClient[Litestar], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, young = send(admin, "Name\nOld\nOlder\nOldest\n"), send(admin, "Name\nYoung\n")
    check(admin, old, {"Name": "name"})
    monkeypatch.setattr(queries, "DELETED_AT_ONCE", 2)
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [admin.tenant])
        long_ago = "UPDATE imports SET updated_at = now() - interval '31 days' WHERE id = %s"
        owner.execute(long_ago, [old.rpartition("/")[2]])
    prune_some = partial(working.blocking_portal.call, prune, working.app.state.database, 30)
    assert prune_some() == 2
    refused(admin.post(f"{old}/run", {}), 409, "IMPORT_NOT_CHECKED")
    assert (prune_some(), prune_some()) == (2, 0)
    refused(admin.get(old), 404, "IMPORT_NOT_FOUND")
    admin.ok("GET", young)


def test_many_rows_of_an_import_are_deleted_part_by_part(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "DELETED_AT_ONCE", 2)
    path = send(admin, "Name\nAda\nBob\nCy\nDee\n")
    check(admin, path, {"Name": "name"})
    admin.ok("DELETE", path)
    refused(admin.get(path), 404, "IMPORT_NOT_FOUND")


def test_an_agent_imports_for_itself_only(admin: Caller, agent: Caller) -> None:
    other = admin.customer("Not mine", external_id="x")
    path = send(agent, f"key,Name,Owner\na,Ada,\nb,Bob,{admin.user_id}\nx,Changed,\n")
    mapping = {"key": "external_id", "Name": "name", "Owner": "assigned_to"}
    assert check(agent, path, mapping, match_on="external_id", on_error="skip") == {"create": 1, "error": 2}
    assert rows(agent, path)[2]["record_id"] == other["id"]
    run(agent, path)
    (mine,) = agent.ok("GET", "/admin/customers", assigned_to="me")["data"]
    assert mine["name"] == "Ada"


def test_empty_fields_can_be_filled_and_records_that_are_there_left_alone(admin: Caller) -> None:
    ada = admin.customer("Ada", email="ada@example.com", company="Engines")
    path = send(admin, "Name,Mail,Firma,Phone\nA. Lovelace,ada@example.com,Looms,+49 30 1\n")
    mapping = BY_EMAIL | {"Phone": "phone"}
    assert check(admin, path, mapping, match_on="email", on_match="skip") == {"skip": 1}
    assert check(admin, path, mapping, match_on="email", on_match="fill_empty") == {"update": 1}
    run(admin, path)
    found = admin.ok("GET", f"/admin/customers/{ada['id']}")
    assert (found["name"], found["company"], found["phone"]) == ("Ada", "Engines", "+49 30 1")


def test_a_plan_that_does_not_fit_to_the_file_is_refused(admin: Caller, manager: Caller) -> None:
    path = send(admin, "Name\nAda\n")
    for body in (
        {"mapping": {"Nome": "name"}},
        {"mapping": {"Name": "title"}},
        {"mapping": {"Name": None}},
        {"mapping": {"Name": "name"}, "options": {"match_on": "email"}},
        {"mapping": {"Name": "name"}, "options": {"owner_id": 1}},
        {"mapping": {"Name": "name"}, "options": {"create_customers": True}},
    ):
        refused(admin.put(f"{path}/plan", body), 400, "INVALID_REQUEST")
    wrong = {"match_on": "email", "owner_id": 1, "assigned_to": "nobody", "create_customers": True}
    body = {"mapping": {"Nome": "name", "Name": "title"}, "options": wrong}
    fields = refused(admin.put(f"{path}/plan", body), 400, "INVALID_REQUEST")["fields"]
    assert {each["field"] for each in fields} == {
        "mapping.Nome",
        "mapping.Name",
        *(f"options.{name}" for name in wrong),
    }
    body = {"mapping": {"Name": "name"}, "options": {"decimal": "x"}}
    (field,) = refused(admin.put(f"{path}/plan", body), 400, "INVALID_REQUEST")["fields"]
    assert field["message"] == 'must be one of ".", ","'
    tags = {"mapping": {"Name": "name"}, "options": {"create_tags": True}}
    answer = manager.put(f"{path}/plan", tags)
    refused(answer, 403, "INSUFFICIENT_PERMISSIONS")
    assert "create_tags" in answer.json()["message"]
