"""Large erasures are jobs: one transaction, by an admin then and now, and nothing of the person in the job."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from msgspec import convert

from app.admin.erasure import service
from app.admin.erasure.service import erase_in_job
from app.records import erasure
from app.records.erasure import Limits, Receipt
from app.settings import Settings
from tests.callers import Caller, Callers, refused
from tests.jobs.conftest import Work

NAME = "Unmistakable-7f3a"
WANTED = {"reason": "Asked for it", "confirm": NAME}
DRY_RUN = {"headers": {"Dry-Run": "true"}}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each erasure is too large for a request."""
    monkeypatch.setattr(service, "AT_ONCE", Limits(0, 0))


def start(caller: Caller, path: str) -> int:
    answer = caller.post(f"{path}/erase", WANTED)
    assert answer.status_code == 202, answer.text
    job = answer.json()["job"]
    assert (answer.headers["Location"], job["kind"]) == (f"/admin/jobs/{job['id']}", "erasure")
    assert job["operation_id"] == answer.headers["X-Operation-Id"]
    return int(job["id"])


def ended(work: Work, settings: Settings, caller: Caller, *jobs: int) -> list[Any]:
    def look() -> list[Any]:
        return [caller.ok("GET", f"/admin/jobs/{job}") for job in jobs]

    work({"erasure": erase_in_job(settings)}, lambda: all(job["finished_at"] for job in look()))
    return look()


def test_an_erasure_of_many_records_is_a_job_with_a_signed_receipt(
    admin: Caller, manager: Caller, settings: Settings, catalog: psycopg.Connection, work: Work
) -> None:
    customer = admin.customer(NAME)["id"]
    path = f"/admin/customers/{customer}"
    catalog.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
    insert = "INSERT INTO notes (tenant_id, customer_id, content, author_id) SELECT %s, %s, %s, 'me'"
    catalog.execute(f"{insert} FROM generate_series(1, 1000)", [admin.tenant, customer, NAME])
    catalog.commit()
    refused(admin.post(f"{path}/erase", WANTED | {"confirm": "Ada"}), 400, "INVALID_REQUEST")
    refused(manager.post(f"{path}/erase", WANTED), 403, "INSUFFICIENT_PERMISSIONS")
    refused(admin.post(f"{path}/erase", WANTED, **DRY_RUN), 400, "TOO_MANY_RECORDS")
    job = start(admin, path)
    assert admin.ok("GET", "/admin/notes")["total"] == 1000
    assert admin.ok("GET", f"/admin/jobs/{job}")["progress"] == {"done": 0, "total": 1001}
    (done,) = ended(work, settings, admin, job)
    assert (done["status"], done["error"]) == ("done", None)
    assert done["progress"] == {"done": 1001, "total": 1001}
    assert done["result"]["erased"] == {"customers": 1, "notes": 1000}
    receipt = convert(done["result"]["receipt"], Receipt)
    assert receipt.is_genuine(settings)
    assert (receipt.id, receipt.reason, receipt.erased_by.id) == (customer, "Asked for it", admin.user_id)
    told = admin.ok("GET", f"/admin/audit/{receipt.entry_id}")
    assert (told["action"], told["via"], told["operation_id"]) == ("erase", "job", done["operation_id"])
    refused(admin.get(path), 404, "CUSTOMER_NOT_FOUND")
    for table in ("notes", "jobs", "audit_entries"):
        text = f"SELECT count(*) FROM {table} AS each WHERE each::text LIKE %s"
        assert catalog.execute(text, [f"%{NAME}%"]).fetchall() == [(0,)], table


@pytest.mark.usefixtures("small")
def test_the_job_is_refused_as_the_request_would_be_when_it_runs(
    admin: Caller, callers: Callers, settings: Settings, work: Work
) -> None:
    path = f"/admin/customers/{admin.customer(NAME)['id']}"
    admin.ok("PATCH", path, {"hold": True})
    refused(admin.post(f"{path}/erase", WANTED), 409, "ON_HOLD")
    admin.ok("PATCH", path, {"hold": False})
    held = start(admin, path)
    admin.ok("PATCH", path, {"hold": True})
    assert ended(work, settings, admin, held)[0]["error"]["code"] == "ON_HOLD"
    admin.ok("PATCH", path, {"hold": False})
    other = callers.person("admin", admin.tenant)
    asked = start(other, path)
    callers.person("manager", admin.tenant, user_id=other.user_id).ok("GET", "/admin/customers")
    assert ended(work, settings, admin, asked)[0]["error"]["code"] == "INSUFFICIENT_PERMISSIONS"
    assert admin.ok("GET", path)["name"] == NAME
    both = [start(admin, path) for _ in range(2)]
    done, late = sorted(ended(work, settings, admin, *both), key=lambda job: str(job["status"]))
    assert (done["status"], done["result"]["erased"]) == ("done", {"customers": 1})
    assert (late["status"], late["error"]["code"]) == ("failed", "CUSTOMER_NOT_FOUND")


@pytest.mark.usefixtures("small")
def test_more_than_a_job_may_take_is_refused_whole(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/admin/customers/{admin.customer(NAME)['id']}"
    for limits in (Limits(0, 10), Limits(10, 0)):
        monkeypatch.setattr(erasure, "IN_JOB", limits)
        refused(admin.post(f"{path}/erase", WANTED), 400, "TOO_MANY_RECORDS")
    assert admin.ok("GET", path)["name"] == NAME
    assert admin.ok("GET", "/admin/jobs")["data"] == []
