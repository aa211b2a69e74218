"""Lists as files, and all that is kept about one customer."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.admin.exports import service
from app.files.cells import bare, harmless
from app.files.xlsx import write_rows
from app.settings import Settings
from app.web.errors import AppError, Code
from tests.callers import Caller, Callers, refused

KINDS = ("customers", "contacts", "deals", "projects", "activities", "notes")
# What spreadsheets run, what they do not, and what only looks like one of them.
NASTY = ("=1+1", "'=1+1", "''=1", "'quoted'", "+49 30 / 123-45", "-5", "'-5", "+A1", "@sum(1)", "-", "a;b", '"x" "y"')


def exported(caller: Caller, kind: str, **query: Any) -> list[dict[str, str]]:
    """The rows of a CSV, as a program reads them."""
    answer = caller.get(f"/admin/{kind}/export", **query)
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def lines(caller: Caller, kind: str, **query: Any) -> list[dict[str, Any]]:
    answer = caller.get(f"/admin/{kind}/export", format="jsonl", **query)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture
def story(admin: Caller) -> dict[str, int]:
    """One record of each kind, each of the one before; answers their ids."""
    tags = [admin.tag(name)["id"] for name in ("VIP", 'a "b"; c')]
    customer = admin.customer("Ada", email="ada@example.com", external_id="c-1", contact_preferences={"by": "phone"})[
        "id"
    ]
    admin.ok("POST", f"/admin/customers/{customer}/tags", {"tag_ids": tags})
    contact = admin.ok("POST", f"/admin/customers/{customer}/contacts", {"first_name": "Grace", "last_name": "Hopper"})[
        "id"
    ]
    links = {"customer_id": customer, "contact_id": contact}
    deal = admin.ok("POST", "/admin/deals", {"title": "Engine", "amount": 10.5, "stage": "proposal", **links})["id"]
    people = [admin.user_id, 7, "x;y"]
    project = admin.ok("POST", "/admin/projects", {"name": "Move", "customer_id": customer, "assignees": people})["id"]
    links |= {"deal_id": deal, "project_id": project}
    activity = admin.ok("POST", "/admin/activities", {"title": "Call", "type": "call", **links})["id"]
    note = admin.ok("POST", "/admin/notes", {"content": "Two\r\nlines", "activity_id": activity, "deal_id": deal})["id"]
    ids = {"customers": customer, "contacts": contact, "deals": deal}
    return ids | {"projects": project, "activities": activity, "notes": note}


@given(st.text(alphabet="'=+-@\t\r 1a\n", max_size=8))
def test_what_is_made_harmless_comes_back_as_it_was(text: str) -> None:
    written = harmless(text)
    assert bare(written) == text
    assert written == text or written == f"'{text}"
    assert written[:1] not in {"=", "@", "\t", "\r"}


def test_the_database_makes_cells_harmless_as_programs_do(admin: Caller) -> None:
    for text in (*NASTY, "\tx", "'\tx", "\r\nx"):
        admin.customer("Ada", notes=text)
    written = [row["notes"] for row in lines(admin, "customers", sort_by="created_at", sort_order="asc")]
    cells = [row["notes"] for row in exported(admin, "customers", sort_by="created_at", sort_order="asc")]
    assert cells == [harmless(text) for text in written]
    assert any(cell.startswith("'=") for cell in cells)


def test_a_csv_has_a_row_for_each_record_as_rfc_4180_says(admin: Caller, story: dict[str, int]) -> None:
    answer = admin.get("/admin/customers/export", bom="true")
    head, row, end = answer.content.split(b"\r\n")
    assert head.startswith(b"\xef\xbb\xbfid,external_id,name,email,phone,")
    assert head.endswith(b",hold,tags,created_at,updated_at,deleted_at")
    assert row.startswith(f"{story['customers']},c-1,Ada,ada@example.com,,".encode())
    assert end == b""
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert 'filename="customers-' in answer.headers["Content-Disposition"]
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    (record,) = exported(admin, "customers")
    assert sorted(next(csv.reader([record["tags"]], delimiter=";"))) == ["VIP", 'a "b"; c']
    assert (record["contacted"], record["contact_preferences"]) == ("false", '{"by": "phone"}')
    assert record["created_at"] == admin.ok("GET", f"/admin/customers/{story['customers']}")["created_at"]


def test_the_other_formats_have_the_same_with_types(admin: Caller, story: dict[str, int]) -> None:
    (customer,) = lines(admin, "customers", columns="tags,contact_preferences,contacted,id,id")
    assert sorted(customer.pop("tags")) == ["VIP", 'a "b"; c']
    assert customer == {
        "contact_preferences": {"by": "phone"},
        "contacted": False,
        "id": story["customers"],
    }
    (deal,) = lines(admin, "deals")
    assert (deal["amount"], deal["stage"], deal["customer"], deal["contact"]) == (
        10.5,
        "proposal",
        "Ada",
        "Grace Hopper",
    )
    ((project,), (cells,)) = lines(admin, "projects"), exported(admin, "projects")
    assert (project["assignees"], cells["assignees"]) == ([admin.user_id, 7, "x;y"], f'{admin.user_id};7;"x;y"')
    (note,) = lines(admin, "notes")
    assert (note["activity"], note["deal"], note["author_id"]) == ("Call", "Engine", admin.user_id)
    book = admin.get("/admin/deals/export", format="xlsx", columns="title,amount")
    with zipfile.ZipFile(io.BytesIO(book.content)) as parts:
        sheet = parts.read("xl/worksheets/sheet1.xml").decode()
    assert "<v>10.5</v>" in sheet
    assert "Engine" in sheet


def test_a_cell_that_no_spreadsheet_holds_is_refused() -> None:
    with tempfile.TemporaryFile() as lines, tempfile.TemporaryFile() as file:
        lines.write(json.dumps(["x" * 32_768]).encode())
        with pytest.raises(AppError, match="A cell has at most 32767 characters") as error:
            asyncio.run(write_rows("notes", ["content"], lines, file))
    assert error.value.code is Code.TOO_MANY_RECORDS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("story")
def test_what_an_export_has_is_what_the_api_says(kind: str, admin: Caller) -> None:
    (shown,) = admin.ok("GET", f"/admin/{kind}")["data"]
    (row,) = lines(admin, kind)
    same = {name for name in row if name in shown} - {"customer", "contact", "deal", "project", "tags", "amount"}
    assert {name: row[name] for name in same} == {name: shown[name] for name in same}
    assert list(row)[:2] == ["id", "external_id"]
    assert list(row)[-3:] == ["created_at", "updated_at", "deleted_at"]


def test_filters_order_and_trash_are_those_of_the_list(admin: Caller, agent: Caller) -> None:
    ids = [
        admin.customer(name, status=status)["id"] for name, status in (("B", "lead"), ("A", "lead"), ("C", "active"))
    ]
    admin.delete(f"/admin/customers/{ids[0]}")
    assert [row["name"] for row in exported(admin, "customers", sort_by="name", sort_order="asc")] == ["A", "C"]
    assert [row["name"] for row in exported(admin, "customers", status="lead", deleted="include", sort_by="name")] == [
        "B",
        "A",
    ]
    assert [row["name"] for row in exported(admin, "customers", search="c")] == ["C"]
    for title, stage in (("Late", "negotiation"), ("Early", "prospecting"), ("Middle", "proposal")):
        admin.ok("POST", "/admin/deals", {"title": title, "customer_id": ids[1], "stage": stage})
    in_order = [row["title"] for row in exported(admin, "deals", sort_by="stage", sort_order="asc")]
    assert in_order == ["Early", "Middle", "Late"]
    refused(agent.get("/admin/customers/export", deleted="only"), 403, "INSUFFICIENT_PERMISSIONS")
    refused(admin.get("/admin/customers/export", page=1), 400, "INVALID_REQUEST")
    refused(admin.get("/admin/customers/export", columns="name,secret"), 400, "INVALID_REQUEST")
    refused(admin.get("/admin/customers/export", format="pdf"), 400, "INVALID_REQUEST")


def test_an_agent_who_sees_its_own_exports_its_own(
    admin: Caller, callers: Callers, own_scope: Any, tenant: str, stranger: Caller
) -> None:
    admin.customer("Hidden")
    stranger.customer("Elsewhere")
    agent = callers.person("agent", tenant, client=own_scope)
    agent.customer("Mine")
    assert [row["name"] for row in exported(agent, "customers")] == ["Mine"]
    assert [row["name"] for row in exported(admin, "customers")] == ["Mine", "Hidden"]


def test_the_log_says_who_exported_what_without_what_was_searched(admin: Caller) -> None:
    admin.customer("Ada", status="active")
    exported(admin, "customers", status="active", search="Ada Lovelace", columns="name")
    (entry,) = admin.audit(action="export")
    assert (entry["resource_type"], entry["resource_id"], entry["user_id"]) == ("customer", 0, admin.user_id)
    assert entry["new_values"] == {
        "format": "csv",
        "columns": ["name"],
        "filters": {"status": ["active"], "search": "…"},
        "rows": 0,
    }


@pytest.fixture
def busy(settings: Settings, tenant: str) -> Iterator[None]:
    """Two exports of the organization read from the database, in another worker."""
    with psycopg.connect(settings.database_dsn) as other:
        for turn in (1, 2):
            other.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"export {turn} {tenant}"])
        yield


@pytest.mark.usefixtures("busy")
def test_a_third_one_at_once_is_told_to_wait(admin: Caller, stranger: Caller) -> None:
    answer = admin.get("/admin/customers/export")
    refused(answer, 429, "RATE_LIMITED")
    assert answer.headers["Retry-After"] == "5"
    assert exported(stranger, "customers") == []


def test_one_that_takes_too_long_ends(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    admin.customer()
    monkeypatch.setattr(service, "EXPORT_SECONDS", 0)
    refused(admin.get("/admin/customers/export"), 503, "SERVICE_UNAVAILABLE")
    assert admin.audit(action="export") == []


def test_a_dossier_has_all_that_is_kept_about_a_customer(
    admin: Caller, manager: Caller, agent: Caller, stranger: Caller, story: dict[str, int]
) -> None:
    path = f"/admin/customers/{story['customers']}"
    assert admin.attach(path).status_code == 201
    admin.customer("Somebody else")
    admin.ok("DELETE", f"/admin/notes/{story['notes']}")
    admin.ok("PATCH", path, {"notes": 'At "due_date": "2026-01-01T00:00:00+00:00"'})
    answer = manager.get(f"{path}/dossier")
    document = answer.json()
    # All times have a Z, and texts are as they are: the record has it, and the log.
    assert answer.text.count("+00:00") == 2
    shown = admin.ok("GET", path)
    assert [tag["name"] for tag in document["customer"].pop("tags")] == [tag["name"] for tag in shown["tags"]]
    assert document["customer"] == {name: shown[name] for name in document["customer"]}
    for kind in ("contacts", "deals", "projects", "activities", "notes"):
        assert [record["id"] for record in document[kind]] == [story[kind]]
    assert document["notes"][0]["deleted_at"] is not None
    assert [move["to_stage"] for move in document["deals"][0]["stage_history"]] == ["proposal"]
    assert [file["file_name"] for file in document["attachments"]] == ["hello.txt"]
    told = {(entry["resource_type"], entry["action"]) for entry in document["history"]}
    assert told >= {("customer", "create"), ("note", "delete"), ("attachment", "create")}
    assert {"Somebody else", None} & {(entry["new_values"] or {}).get("name") for entry in document["history"]} <= {
        None
    }
    assert "ip_address" not in document["history"][0]
    assert "ip_address" in admin.ok("GET", f"{path}/dossier")["history"][0]
    refused(agent.get(f"{path}/dossier"), 403, "INSUFFICIENT_PERMISSIONS")
    refused(stranger.get(f"{path}/dossier"), 404, "CUSTOMER_NOT_FOUND")
    assert admin.audit(action="export")[0]["new_values"] == {"format": "dossier", "customer_id": story["customers"]}
