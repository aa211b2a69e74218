"""Dirty spreadsheets moved in, taken back, moved in again and out, while workers are killed at any moment."""

from __future__ import annotations

import csv
import io
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from typing import Any
from zipfile import ZipFile

import httpx
from msgspec import json
from psycopg import sql
from python_calamine import CalamineWorkbook

from app.dev.token import make_token
from app.files.cells import bare
from tests.processes import Worker
from tests.torture.background import two_workers
from tests.torture.place import Finding, Place
from tests.torture.spreadsheets import PEOPLE, Sheet, customers, deals

# What is live of an organization, by table: how many rows, and a sum of all that they say.
TABLES = ("customers", "contacts", "deals", "activities", "notes", "tags")
LIVE = """
    SELECT count(*), coalesce(md5(string_agg(said, '' ORDER BY said)), '') FROM (
        SELECT (to_jsonb(live) - 'version' - 'updated_at')::text AS said FROM {} AS live
        WHERE tenant_id = %s AND to_jsonb(live) ->> 'deleted_at' IS NULL
    ) AS rows
"""
# A row of a file makes one record at most, each with one entry for its making.
TWICE = """
    SELECT count(*) - count(DISTINCT (resource_type, resource_id)) FROM audit_entries
    WHERE tenant_id = %s AND action = 'create'
"""
AMOUNTS = """
    SELECT currency, count(*), sum(amount) FROM deals WHERE tenant_id = %s AND deleted_at IS NULL
    GROUP BY currency ORDER BY currency
"""


def imported_while_workers_are_killed(place: Place) -> Finding:
    """What is in the files comes, and nothing else; what is taken back is gone; what goes out again is what came."""
    rows = place.times(100_000, 1_500)
    of_customers = customers(rows * 4 // 5)
    of_deals = deals(rows // 5, of_customers)
    with (
        place.service(JOBS_IN_SERVICE="false") as service,
        two_workers(place) as workers,
        _Mover(place, service.url, workers) as mover,
    ):
        mover.make(of_customers)
        before = mover.state()
        paths = {sheet.kind: mover.upload(sheet) for sheet in (of_customers, of_deals)}
        operations = [mover.move_in(paths[sheet.kind], sheet) for sheet in (of_customers, of_deals)]
        for sheet in (of_customers, of_deals):
            mover.compare_problems(paths[sheet.kind], sheet)
        mover.compare(of_customers, of_deals)
        for operation in reversed(operations):
            mover.take_back(operation)
        mover.expect(before, mover.state(), "what was taken back is not as it was before")
        for sheet in (of_customers, of_deals):
            mover.move_in(paths[sheet.kind], sheet)
        mover.compare(of_customers, of_deals)
        for sheet in (of_customers, of_deals):
            mover.compare_problems(paths[sheet.kind], sheet)
        mover.archive()
        mover.expect([(0,)], mover.rows(TWICE), "there are entries too many for what was made")
    wrong, kills = mover.wrong, mover.kills
    outcomes = of_customers.outcomes + of_deals.outcomes
    done = ", ".join(f"{count:,} {name}" for name, count in outcomes.items())
    return Finding(
        f"{outcomes.total():,} dirty rows ({done}) imported, taken back, imported again and exported in three formats,"
        f" {kills} times all workers killed; seconds: {mover.seconds()}",
        "; ".join(wrong[:30]) or "nothing lost, nothing twice, nothing changed",
        not wrong and kills >= place.times(8, 2),
    )


class _Mover:
    """Somebody who moves data, and notes what is wrong."""

    def __init__(self, place: Place, url: str, workers: list[Worker]) -> None:
        self.tenant = place.tenant()
        self.wrong: list[str] = []
        self.kills = 0
        self._place = place
        self._url = url
        self._workers = workers
        self._chance = random.Random()
        self._took: defaultdict[str, float] = defaultdict(float)
        self._client = self._as("admin", "mover@example.com", "mover")

    def __enter__(self) -> _Mover:
        for email, person in PEOPLE.items():
            with self._as("agent", email, person) as client:
                client.get("/admin/me").raise_for_status()
        self._client.post("/admin/tags", json={"name": "VIP"}).raise_for_status()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def _as(self, role: str, email: str, person: str) -> httpx.Client:
        token = make_token(self._place.settings, role=role, tenant=self.tenant, user_id=person, email=email, ttl=86400)
        return httpx.Client(base_url=self._url, headers={"Authorization": f"Bearer {token}"}, timeout=300)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._place.superuser() as connection:
            return connection.execute(query, [self.tenant, *values]).fetchall()

    def state(self) -> dict[str, tuple[Any, ...]]:
        """All that is live."""
        with self._place.superuser() as connection:
            return {
                table: connection.execute(sql.SQL(LIVE).format(sql.Identifier(table)), [self.tenant]).fetchall()[0]
                for table in TABLES
            }

    def seconds(self) -> str:
        return ", ".join(f"{name} {took:.0f}" for name, took in self._took.items())

    def expect(self, wanted: Any, found: Any, what: str) -> None:
        if wanted != found:
            self.wrong.append(f"{what}: {found!r:.300} instead of {wanted!r:.300}")

    def make(self, sheet: Sheet) -> None:
        """The records that are there before."""
        for begin in range(0, len(sheet.before), 100):
            requests = [
                {"method": "POST", "path": f"/admin/{sheet.kind}", "body": body}
                for body in sheet.before[begin : begin + 100]
            ]
            self._client.post("/admin/batch", json={"requests": requests}).raise_for_status()

    # ── in, and back ─────────────────────────────────────────────────────────────────────────────────────────────────

    def upload(self, sheet: Sheet) -> str:
        began = time.monotonic()
        sent = self._client.post(
            "/admin/imports", files={"file": (sheet.name, sheet.content)}, data={"kind": sheet.kind}
        )
        assert sent.status_code == 201, sent.text
        self._took[f"upload of {sheet.kind}"] += time.monotonic() - began
        return f"/admin/imports/{sent.json()['id']}"

    def move_in(self, path: str, sheet: Sheet) -> str:
        """Check and run; answers the operation."""
        plan = {"mapping": sheet.mapping, "options": sheet.options}
        self._finish(f"check of {sheet.kind}", self._client.put(f"{path}/plan", json=plan))
        said = self._client.get(path).json()["summary"]
        self.expect(dict(sheet.outcomes), {name: said[name] for name in sheet.outcomes}, f"the check of {sheet.kind}")
        job = self._finish(f"run of {sheet.kind}", self._client.post(f"{path}/run", json={}))
        wanted = [sheet.outcomes[name] for name in ("create", "update", "error")]
        found = [job["result"][name] for name in ("created", "updated", "failed")]
        self.expect(wanted, found, f"the run of {sheet.kind}")
        return str(job["operation_id"])

    def take_back(self, operation: str) -> None:
        path = f"/admin/operations/{operation}/undo"
        undo = self._client.post(path, json={"changed_since": "keep"})
        kept = self._finish("undo", undo)["result"] if undo.status_code == 202 else undo.raise_for_status().json()
        self.expect([], kept["kept"], "something was kept by an undo")

    def _finish(self, what: str, answer: httpx.Response) -> Any:
        """The job at its end. At some moment all workers are killed, and others come."""
        assert answer.status_code == 202, answer.text
        job, began = answer.json()["job"], time.monotonic()
        fatal = self._chance.random() * 0.95
        # How much an archive has to do, nobody knows before: its worker is killed when it has begun.
        while job["finished_at"] is None:
            time.sleep(0.02)
            job = self._client.get(f"/admin/jobs/{job['id']}").json()
            progress = job["progress"]
            if fatal < 1 and job["status"] == "running" and progress["done"] >= fatal * (progress["total"] or 0):
                fatal = 1
                for number, worker in enumerate(self._workers):
                    worker.kill()
                    self._workers[number] = Worker(self._place.data_dir)
                self.kills += 1
        assert job["status"] == "done", job
        self._took[what] += time.monotonic() - began
        return job

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def compare(self, *sheets: Sheet) -> None:
        """What is there with what the files said."""
        for sheet in sheets:
            for format_, read in (("jsonl", _of_json), ("csv", _of_csv), ("xlsx", _of_workbook)):
                began = time.monotonic()
                answer = self._client.get(f"/admin/{sheet.kind}/export", params={"format": format_, "bom": "true"})
                answer.raise_for_status()
                self._took[f"{format_} of {sheet.kind}"] += time.monotonic() - began
                self._compare(f"{sheet.kind} as {format_}", sheet, read(answer.content))
        listed = {
            sheet.kind: self._client.get(f"/admin/{sheet.kind}", params={"page": 1, "page_size": 1}).json()
            for sheet in sheets
        }
        for sheet in sheets:
            self.expect(len(sheet.expected), listed[sheet.kind]["total"], f"the total of the list of {sheet.kind}")
        amounts: dict[str, list[Decimal]] = {}
        for deal in sheets[-1].expected.values():
            amounts.setdefault(deal["currency"], []).append(deal["amount"])
        sums = [(currency, len(each), sum(each)) for currency, each in sorted(amounts.items())]
        self.expect(sums, self.rows(AMOUNTS), "the sums of the amounts")

    def _compare(self, what: str, sheet: Sheet, exported: Iterable[Mapping[str, Any]]) -> None:
        names = list(sheet.mapping.values())
        found = [{name: row[name] for name in names} for row in exported]
        self.expect(len(sheet.expected), len(found), f"the number of {what}")
        by_key = {row["external_id"]: row for row in found}
        for key, wanted in sheet.expected.items():
            if (row := by_key.pop(key, None)) == wanted:
                continue
            differing = {name: (wanted[name], row[name]) for name in names if row[name] != wanted[name]} if row else ""
            self.wrong.append(f"{what}: {key} {differing or 'is missing'!r:.300}")
        self.expect([], list(by_key), f"{what} has what was in no file")

    def archive(self) -> None:
        """Everything as an archive: whose worker is killed begins it again, and it is whole."""
        job = self._finish("archive", self._client.post("/admin/exports"))
        content = httpx.get(job["result"]["download_url"], timeout=300).raise_for_status().content
        with ZipFile(io.BytesIO(content)) as packed:
            for each in json.decode(packed.read("manifest.json"))["files"]:
                self.expect(each["sha256"], sha256(packed.read(each["name"])).hexdigest(), each["name"])
            for kind in ("customers", "deals"):
                rows = [json.decode(line)["deleted_at"] for line in packed.read(f"{kind}.jsonl").splitlines()]
                self.expect(self.state()[kind][0], rows.count(None), f"the live {kind} of the archive")

    def compare_problems(self, path: str, sheet: Sheet) -> None:
        """The wrong rows are those that must be, for the column that is to blame; and they are in the file of problems
        as they were.
        """
        found: dict[int, str] = {}
        asked: dict[str, str | int] = {"outcome": "error", "page_size": 100}
        while True:
            page = self._client.get(f"{path}/rows", params=asked).raise_for_status().json()
            for row in page["data"]:
                found[row["row"]] = "; ".join(f"{p['column'] or p['field']}: {p['message']}" for p in row["problems"])
            if not page["next_cursor"]:
                break
            asked["cursor"] = page["next_cursor"]
        for number in sorted(found.keys() - sheet.wrong.keys()):
            self.wrong.append(f"row {number} of {sheet.kind} is said to be wrong: {found[number]:.200}")
        text = self._client.get(f"{path}/problems.csv").raise_for_status().content.decode("utf-8-sig")
        header, *rows = csv.reader(io.StringIO(text, newline=""))
        self.expect([*sheet.mapping, "Intern", "problems"], header, "the header of the file of problems")
        self.expect(sorted(found), list(found), "the order of the wrong rows")
        self.expect(len(found), len(rows), f"the number of wrong {sheet.kind}")
        for number, row in zip(found, rows, strict=False):
            if (wrong := sheet.wrong.get(number)) is None:
                continue
            # As the file was read: an apostrophe before a formula is none of the text.
            self.expect([bare(cell) for cell in wrong.cells], [bare(cell) for cell in row[:-1]], f"row {number}")
            if wrong.column not in row[-1] or row[-1] != found[number]:
                self.wrong.append(f"row {number} of {sheet.kind} is wrong for {row[-1]!r:.200}, not for {wrong.column}")


def _of_json(content: bytes) -> Iterable[Mapping[str, Any]]:
    for line in content.splitlines():
        row = json.decode(line, type=dict[str, Any])
        if "tags" in row:
            row["tags"] = sorted(row["tags"])
        if "amount" in row:
            row["amount"] = Decimal(str(row["amount"])).normalize()
        yield row


def _of_csv(content: bytes) -> Iterable[Mapping[str, Any]]:
    header, *rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    for row in rows:
        yield _typed(header, [bare(cell) or None for cell in row])


def _of_workbook(content: bytes) -> Iterable[Mapping[str, Any]]:
    header, *rows = CalamineWorkbook.from_filelike(io.BytesIO(content)).get_sheet_by_index(0).to_python()
    for row in rows:
        yield _typed(list(map(str, header)), [None if cell == "" else cell for cell in row])


def _typed(header: Sequence[str], cells: Sequence[Any]) -> Mapping[str, Any]:
    """A row of cells as JSON Lines have it."""
    row = dict(zip(header, cells, strict=True))
    if "contacted" in row:
        row["contacted"] = row["contacted"] in {"true", True}
    if "tags" in row:
        # A name with a semicolon is in quotes.
        (names,) = csv.reader([row["tags"]], delimiter=";") if row["tags"] else ([],)
        row["tags"] = sorted(names)
    if "amount" in row:
        row["amount"] = Decimal(str(row["amount"])).normalize()
    return row
