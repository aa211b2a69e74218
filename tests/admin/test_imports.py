"""Files that are sent to be imported: how they are read, who sees them, and what goes when they go."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import xlsxwriter
from litestar.testing import TestClient

from app.files import rows as rows_of_files
from app.files.rows import read_rows
from app.settings import Settings
from app.storage.objects import ObjectStore
from app.storage.removed import delete_removed_objects
from tests.callers import Caller, Callers, refused

PEOPLE = "Name,Email,Next follow up\nAda,ada@x.example,2026-02-01\nBo,bo@x.example,\n"


def send(
    caller: Caller, content: bytes | str, name: str = "people.csv", kind: str = "customers", **more: Any
) -> httpx.Response:
    files = {"file": (name, content)}
    return caller.call("POST", "/admin/imports", files=files, data={"kind": kind}, **more)


def sent(caller: Caller, content: bytes | str, name: str = "people.csv", kind: str = "customers") -> dict[str, Any]:
    answer = send(caller, content, name, kind)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


@pytest.fixture
def stored(data_dir: Path) -> Callable[[str], list[Path]]:
    """The objects of a tenant, as they lie in the store's folder."""
    return lambda tenant: list((data_dir / "objects/crm" / tenant).glob("*"))


def test_a_file_is_described_and_its_rows_are_kept(
    admin: Caller, settings: Settings, stored: Callable[[str], list[Path]]
) -> None:
    made = sent(admin, PEOPLE.encode("utf-8-sig"))
    expected = {
        "status": "uploaded",
        "kind": "customers",
        "file_name": "people.csv",
        "format": "csv",
        "encoding": "utf-8",
        "delimiter": ",",
        "rows": 2,
    }
    assert {name: made[name] for name in expected} == expected
    assert (made["header"], made["summary"], made["user_id"]) == (True, None, admin.user_id)
    assert made["columns"] == [
        {"name": "Name", "samples": ["Ada", "Bo"], "field": "name", "confidence": 1.0},
        {"name": "Email", "samples": ["ada@x.example", "bo@x.example"], "field": "email", "confidence": 1.0},
        {"name": "Next follow up", "samples": ["2026-02-01"], "field": "next_follow_up_at", "confidence": 1.0},
    ]
    assert admin.ok("GET", f"/admin/imports/{made['id']}") == made
    # A list has nothing that may be long: a page of it could have 100,000 columns.
    long = {"columns", "remarks", "mapping", "options"}
    brief = {name: value for name, value in made.items() if name not in long}
    assert admin.ok("GET", "/admin/imports")["data"] == [brief]
    # Nothing is imported, and the file as it was sent is not kept.
    assert admin.ok("GET", "/admin/customers")["total"] == 0
    (rows,) = stored(admin.tenant)
    assert rows.read_text() == '[2,"Ada","ada@x.example","2026-02-01"]\n[3,"Bo","bo@x.example"]\n'
    key = f"{admin.tenant}/{rows.name}"
    store = ObjectStore(settings)

    async def from_any_row() -> None:
        first, place = await read_rows(store, key, 0, 1)
        second, end = await read_rows(store, key, place, 5)
        assert ([row.number for row in first], [row.cells for row in second]) == ([2], [["Bo", "bo@x.example"]])
        assert end == rows.stat().st_size

    asyncio.run(from_any_row())
    store.close()


def test_many_rows_are_read_in_parts_that_are_the_whole(
    admin: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One is longer than what is read at once.
    long = {1500: 900_000}
    made = sent(admin, "Name,Notes\n" + "".join(f"Person {n},{'x' * long.get(n, n % 700)}é\n" for n in range(3000)))
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [admin.tenant])
        found = owner.execute("SELECT object_key FROM imports WHERE id = %s", [made["id"]]).fetchone()
    assert found is not None
    store = ObjectStore(settings)

    monkeypatch.setattr(rows_of_files, "MOST_AT_ONCE", 100_000)

    async def all_of_them() -> list[int]:
        numbers: list[int] = []
        place = 0
        while len(numbers) < made["rows"]:
            rows, place = await read_rows(store, found[0], place, 701)
            numbers += [row.number for row in rows]
        return numbers

    assert asyncio.run(all_of_them()) == list(range(2, 3002))
    store.close()


def test_a_workbook_and_cards_are_read_too(admin: Caller) -> None:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file) as book:
        sheet = book.add_worksheet("Deals")
        sheet.write_row(0, 0, ["Deal Name", "Amount"])
        sheet.write_row(1, 0, ["Engine", 1500.5])
    made = sent(admin, file.getvalue(), "deals.xlsx", "deals")
    assert (made["format"], made["sheet"], [column["field"] for column in made["columns"]]) == (
        "xlsx",
        "Deals",
        ["title", "amount"],
    )
    card = "BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Ada Lovelace\r\nN:Lovelace;Ada;;;\r\nORG:Engines\r\nEND:VCARD\r\n"
    made = sent(admin, card, "ada.vcf", "contacts")
    fields = {column["field"] for column in made["columns"]}
    assert (made["format"], {"first_name", "last_name", "customer", "email"} - fields) == ("vcard", set())


def test_agents_see_and_delete_their_own_only(admin: Caller, manager: Caller, agent: Caller) -> None:
    mine, theirs = sent(agent, PEOPLE), sent(admin, PEOPLE)
    assert [each["id"] for each in agent.ok("GET", "/admin/imports")["data"]] == [mine["id"]]
    assert [each["id"] for each in manager.ok("GET", "/admin/imports")["data"]] == [theirs["id"], mine["id"]]
    assert [each["id"] for each in manager.ok("GET", "/admin/imports", user_id=agent.user_id)["data"]] == [mine["id"]]
    refused(agent.get(f"/admin/imports/{theirs['id']}"), 404, "IMPORT_NOT_FOUND")
    refused(agent.delete(f"/admin/imports/{theirs['id']}"), 404, "IMPORT_NOT_FOUND")
    agent.ok("DELETE", f"/admin/imports/{mine['id']}")
    refused(agent.get(f"/admin/imports/{mine['id']}"), 404, "IMPORT_NOT_FOUND")


def test_the_rows_go_with_their_import(
    admin: Caller, client: TestClient[Any], stored: Callable[[str], list[Path]]
) -> None:
    made = sent(admin, PEOPLE)
    assert len(stored(admin.tenant)) == 1
    admin.ok("DELETE", f"/admin/imports/{made['id']}")
    state = client.app.state
    while client.blocking_portal.call(delete_removed_objects, state.database, state.store):
        pass
    assert stored(admin.tenant) == []


def test_an_import_can_not_name_an_object_of_another_organization(
    admin: Caller, stranger: Caller, settings: Settings
) -> None:
    made = sent(admin, PEOPLE)
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [admin.tenant])
        with pytest.raises(psycopg.errors.CheckViolation):
            owner.execute("UPDATE imports SET object_key = %s WHERE id = %s", [f"{stranger.tenant}/1", made["id"]])


def test_an_organization_whose_id_the_store_does_not_take_can_import(callers: Callers) -> None:
    assert sent(callers.person("admin", "Müller & Söhne / incoming"), PEOPLE)["rows"] == 2


@pytest.mark.parametrize("status", ["checking", "running"])
def test_an_import_at_work_is_not_deleted(admin: Caller, settings: Settings, status: str) -> None:
    made = sent(admin, PEOPLE)
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, true)", [admin.tenant])
        owner.execute("UPDATE imports SET status = %s WHERE id = %s", [status, made["id"]])
    refused(admin.delete(f"/admin/imports/{made['id']}"), 409, "IMPORT_BUSY")


def test_the_same_key_sends_a_file_once(admin: Caller) -> None:
    headers = {"Idempotency-Key": "import-1"}
    first, again = (send(admin, PEOPLE, headers=headers) for _ in range(2))
    assert (first.json(), again.headers["Idempotency-Replayed"]) == (again.json(), "true")
    refused(send(admin, PEOPLE, kind="contacts", headers=headers), 422, "IDEMPOTENCY_KEY_REUSED")
    assert admin.ok("GET", "/admin/imports")["total"] == 1


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ({"files": {"file": ("a.csv", b"Name\nAda\n")}}, "kind"),
        ({"files": {"file": ("a.csv", b"Name\nAda\n")}, "data": {"kind": "tags"}}, "kind"),
        ({"files": {"file": ("a.csv", b"Name\nAda\n")}, "data": {"kind": ["deals", "notes"]}}, "kind"),
        ({"files": {"file": ("a.csv", b"Name\nAda\n")}, "data": {"kind": "x" * 2000}}, "kind"),
        ({"files": {"file": ("a.csv", b"Name\nAda\n")}, "data": {"kind": "deals", "colour": "red"}}, "colour"),
        ({"files": {"kind": (None, "deals")}}, "file"),
    ],
)
def test_a_form_that_lacks_or_repeats_a_part_is_refused(admin: Caller, parts: dict[str, Any], named: str) -> None:
    data = refused(admin.call("POST", "/admin/imports", **parts), 400, "INVALID_REQUEST")
    assert data["fields"][0]["field"] == named


def far_away() -> bytes:
    """A workbook of two cells, as far from each other as can be: read as a table it has 17 billion cells."""
    file = io.BytesIO()
    with xlsxwriter.Workbook(file) as book:
        sheet = book.add_worksheet()
        sheet.write(0, 0, "Name")
        sheet.write(1_048_575, 16_383, "x")
    return file.getvalue()


def bomb() -> bytes:
    """A workbook of a few kilobytes that says of itself that it unpacks to 2 GiB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b"<workbook/>")
        archive.writestr("xl/worksheets/sheet1.xml", bytes(8 * 1024**2))
    whole = bytearray(file.getvalue())
    entry = whole.rindex(b"PK\x01\x02")
    whole[entry + 24 : entry + 28] = (2 * 1024**3 - 1).to_bytes(4, "little")
    return bytes(whole)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "EMPTY_FILE"),
        (b"Name,Email\n", 400, "EMPTY_FILE"),
        (b"%PDF-1.7", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b'{"name": "Ada"}\n{', 400, "INVALID_REQUEST"),
        (b'Name\n"Ada\nBo\n', 400, "INVALID_REQUEST"),
        (bomb(), 413, "PAYLOAD_TOO_LARGE"),
    ],
)
def test_what_can_not_be_read_is_refused_and_leaves_nothing(
    admin: Caller, content: bytes, status: int, code: str, stored: Callable[[str], list[Path]]
) -> None:
    refused(send(admin, content), status, code)
    assert (admin.ok("GET", "/admin/imports")["total"], stored(admin.tenant)) == (0, [])


def test_a_file_that_would_fill_the_memory_ends_its_reader_and_nothing_else(admin: Caller) -> None:
    refused(send(admin, far_away(), "far.xlsx"), 413, "PAYLOAD_TOO_LARGE")
    assert sent(admin, PEOPLE)["rows"] == 2


def test_a_file_over_the_limit_is_refused(callers: Callers, tenant: str, variant: Callable[..., Any]) -> None:
    small = callers.person("admin", tenant, client=variant(import_max_bytes=50))
    assert refused(send(small, PEOPLE), 413, "PAYLOAD_TOO_LARGE") == {"max": 50}


def test_without_a_store_nothing_is_imported(callers: Callers, tenant: str, variant: Callable[..., Any]) -> None:
    person = callers.person("admin", tenant, client=variant(s3_bucket=""))
    refused(send(person, PEOPLE), 503, "SERVICE_UNAVAILABLE")
    assert person.ok("GET", "/admin/imports")["total"] == 0
