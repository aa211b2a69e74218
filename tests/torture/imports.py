"""A large file of which many rows are wrong, imported, taken back and imported again, while workers are killed."""

from __future__ import annotations

import csv
import io
import random
import time
from collections import Counter
from typing import Any

import httpx
from msgspec import Struct

from tests.processes import Worker
from tests.torture.background import two_workers
from tests.torture.place import Finding, Place

IMPORTS = "/admin/imports"
WRONG, TWICE = 0.05, 0.02
MAPPING = {
    "Name": "name",
    "E-Mail": "email",
    "Firma": "company",
    "Status": "status",
    "Nr": "external_id",
    "Seit": "created_at",
}
# What is live of an organization's customers, as a sum.
LIVE = """
    SELECT count(*), coalesce(md5(string_agg(concat_ws('|', external_id, name, email, company, status,
        to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')), ',' ORDER BY external_id)), '')
    FROM customers WHERE tenant_id = %s AND deleted_at IS NULL
"""
TRUTH = (
    "SELECT coalesce(md5(string_agg(line, ',' ORDER BY nr)), '') FROM unnest(%s::text[], %s::text[]) AS t (nr, line)"
)
# A row of the file makes one record at most, each with one entry for its making.
ENTRIES = """
    SELECT count(*) - count(DISTINCT resource_id) FROM audit_entries
    WHERE tenant_id = %s AND resource_type = 'customer' AND action = 'create'
"""


class Truth(Struct):
    """A file, how many of its rows are right and wrong, and what the right ones become."""

    text: str
    outcomes: Counter[str]
    keys: list[str]
    lines: list[str]


# What is wrong with a row: by column.
FAULTS = ({"Name": ""}, {"E-Mail": "zoe at example"}, {"Status": "unheard of"}, {"Seit": "31.02.2021"})
# As files have them, and as they are kept.
NAMES = ("{}", "  {} ")
COMPANIES = {"": "", 'Müller; "Söhne" GmbH': 'Müller; "Söhne" GmbH', "'=Engines": "=Engines"}
STATUSES = {"": "lead", "Active": "active", "CHURNED": "churned"}


def made_up(rows: int) -> Truth:
    """A dirty file, and what should come of it."""
    text, truth = io.StringIO(), Truth("", Counter(), [], [])
    writer = csv.DictWriter(text, list(MAPPING), delimiter=";", lineterminator="\r\n")
    writer.writeheader()
    chance = random.Random(17)
    for number in range(rows):
        key, name, email = f"k-{number:07}", f"Zoë {number}", f"zoe.{number}@example.com"
        day = 1 + number % 28
        row = {
            "Name": chance.choice(NAMES).format(name),
            "E-Mail": email,
            "Firma": chance.choice(list(COMPANIES)),
            "Status": chance.choice(list(STATUSES)),
            "Nr": key,
            "Seit": f"{day:02}.03.2021",
        }
        if chance.random() < WRONG:
            writer.writerow(row | chance.choice(FAULTS))
            truth.outcomes["error"] += 1
            continue
        writer.writerow(row)
        kept = [key, name, email, COMPANIES[row["Firma"]], STATUSES[row["Status"]], f"2021-03-{day:02}"]
        truth.outcomes["create"] += 1
        truth.keys.append(key)
        truth.lines.append("|".join(filter(None, kept)))
        if chance.random() < TWICE:
            writer.writerow(row | {"Nr": f"{key}-again", "E-Mail": email.upper()})
            truth.outcomes["error"] += 1
    truth.text = text.getvalue()
    return truth


def imported_while_workers_are_killed(place: Place) -> Finding:
    """Imported, undone and imported again; each time, workers are killed on the way."""
    rows = place.times(100_000, 1_500)
    tenant, truth = place.tenant(), made_up(rows)
    headers = {"Authorization": f"Bearer {place.token(tenant)}"}
    kills = 0
    wrong: list[str] = []
    with (
        place.service(JOBS_IN_SERVICE="false") as service,
        two_workers(place) as workers,
        httpx.Client(base_url=service.url, headers=headers, timeout=120) as client,
    ):

        def finish(answer: httpx.Response, at: tuple[float, ...]) -> Any:
            """The job at its end; a worker is killed at these parts of its way."""
            nonlocal kills
            assert answer.status_code == 202, answer.text
            job, left = answer.json()["job"], list(at)
            while job["finished_at"] is None:
                time.sleep(0.1)
                job = client.get(f"/admin/jobs/{job['id']}").json()
                if left and job["progress"]["done"] > left[0] * (job["progress"]["total"] or 1):
                    left.pop(0)
                    workers[kills % 2].kill()
                    workers[kills % 2] = Worker(place.data_dir)
                    kills += 1
            assert job["status"] == "done", job
            return job

        sent = client.post(IMPORTS, files={"file": ("zoe.csv", truth.text.encode())}, data={"kind": "customers"})
        assert sent.status_code == 201, sent.text
        path = f"{IMPORTS}/{sent.json()['id']}"
        plan = {"mapping": MAPPING, "options": {"on_error": "skip", "match_on": "external_id", "date_order": "dmy"}}
        for turn in range(2):
            finish(client.put(f"{path}/plan", json=plan), (0.3,))
            said = client.get(path).json()["summary"]
            if {name: said[name] for name in truth.outcomes} != dict(truth.outcomes):
                wrong.append(f"said {said}, not {dict(truth.outcomes)}")
            job = finish(client.post(f"{path}/run", json={}), (0.2, 0.6))
            wrong += _differences(place, tenant, truth)
            if len(client.get(f"{path}/problems.csv").text.splitlines()) != 1 + truth.outcomes["error"]:
                wrong.append("not every wrong row is in the file of problems")
            if turn == 0:
                undo = client.post(f"/admin/operations/{job['operation_id']}/undo", json={"changed_since": "keep"})
                finish(undo, (0.5,)) if undo.status_code == 202 else undo.raise_for_status()
                if (left := place.look(LIVE, tenant)) != 0:
                    wrong.append(f"{left} customers left of what was taken back")
    return Finding(
        f"{rows:,} rows imported, taken back and imported again, {kills} workers killed",
        "; ".join(wrong) or "nothing lost, nothing twice",
        not wrong,
    )


def _differences(place: Place, tenant: str, truth: Truth) -> list[str]:
    with place.superuser() as connection:
        ((count, found),) = connection.execute(LIVE, [tenant]).fetchall()
        ((wanted,),) = connection.execute(TRUTH, [truth.keys, truth.lines]).fetchall()
        ((twice,),) = connection.execute(ENTRIES, [tenant]).fetchall()
    wrong = []
    if count != truth.outcomes["create"]:
        wrong.append(f"{count} customers, not {truth.outcomes['create']}")
    if found != wanted:
        wrong.append("the customers are not those of the file")
    if twice:
        wrong.append(f"{twice} entries too many")
    return wrong
