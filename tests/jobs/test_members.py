"""What goes on for a person in the background ends when the organization shuts the person out."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from app.admin.members.service import reassign_step
from app.db.roles import SERVICE_ROLE, set_for_transaction
from app.jobs.queue import Job, Step
from app.records.transaction import Transaction
from app.settings import Settings
from tests.callers import Caller, make_leads, refused
from tests.jobs.conftest import Enqueue, Work, report_maker
from tests.jobs.test_report_schedules import DAILY, SCHEDULES, jobs, make_due, run_due
from tests.jobs.test_worker import count_to_total, job_of, names, status
from tests.laws.routes import member_id

CHANGES: dict[str, tuple[str, dict[str, Any] | None]] = {
    "deactivated": ("PATCH", {"is_active": False}),
    "signed out": ("POST", None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_job_ends_before_its_next_step_when_its_person_is_shut_out(
    admin: Caller, manager: Caller, enqueue: Enqueue, work: Work, change: tuple[str, dict[str, Any] | None]
) -> None:
    theirs, (method, body) = member_id(manager), change
    path = f"/admin/members/{theirs}" + ("/sign-out" if body is None else "")
    job = enqueue(manager, total=5)

    async def shut_out_in_its_second_step(tx: Transaction, job_: Job) -> Step:
        step = await count_to_total(tx, job_)
        if step.done == 2:
            assert (await asyncio.to_thread(admin.call, method, path, json=body)).is_success
        return step

    work({"test": shut_out_in_its_second_step}, lambda: status(admin, job) == "failed")
    assert job_of(admin, job)["error"]["code"] == "MEMBER_INACTIVE"
    assert names(admin) == ["Step 1", "Step 2"]
    # Who logs in anew goes on; who is deactivated does not.
    later, end = enqueue(manager, total=1), "done" if body is None else "failed"
    work({"test": count_to_total}, lambda: status(admin, later) == end)


def test_a_job_has_from_its_next_step_on_the_role_that_counts(
    admin: Caller, manager: Caller, enqueue: Enqueue, work: Work
) -> None:
    theirs, roles = member_id(manager), []
    job = enqueue(manager, role="manager", total=3)

    async def narrowed_in_its_first_step(tx: Transaction, job_: Job) -> Step:
        roles.append(tx.actor.role.value)
        if job_.done == 0:
            await asyncio.to_thread(admin.ok, "PATCH", f"/admin/members/{theirs}", {"role": "agent"})
        return await count_to_total(tx, job_)

    work({"test": narrowed_in_its_first_step}, lambda: status(admin, job) == "done")
    assert roles == ["manager", "agent", "agent"]


def test_nothing_is_made_on_schedule_for_who_is_deactivated(admin: Caller, manager: Caller, settings: Settings) -> None:
    schedule, theirs = manager.ok("POST", SCHEDULES, DAILY), member_id(manager)
    admin.ok("PATCH", f"/admin/members/{theirs}", {"is_active": False})
    make_due(settings, schedule)
    assert run_due(settings) == 0
    shown = admin.ok("GET", f"{SCHEDULES}/{schedule['id']}")
    assert (shown["next_run_at"], shown["last_run"]) == (schedule["next_run_at"], None)
    admin.ok("PATCH", f"/admin/members/{theirs}", {"is_active": True})
    make_due(settings, schedule)
    assert run_due(settings) == 1
    assert len(jobs(admin)) == 1


def test_a_link_to_a_file_is_dead_when_its_person_is_shut_out(
    admin: Caller, manager: Caller, work: Work, settings: Settings
) -> None:
    job = manager.post("/admin/report-runs", {"report": "summary", "format": "json"}).json()["job"]["id"]
    work({"report": report_maker(settings)}, lambda: status(manager, job) == "done")
    theirs, mine = (urlsplit(job_of(caller, job)["result"]["download_url"]).path for caller in (manager, admin))
    assert admin.client.get(theirs).status_code == 200
    admin.ok("PATCH", f"/admin/members/{member_id(manager)}", {"is_active": False})
    refused(admin.client.get(theirs), 410, "LINK_EXPIRED")
    assert admin.client.get(mine).status_code == 200


def test_a_link_to_a_file_is_dead_when_its_person_is_narrowed(
    admin: Caller, manager: Caller, work: Work, settings: Settings
) -> None:
    job = manager.post("/admin/report-runs", {"report": "summary", "format": "json"}).json()["job"]["id"]
    work({"report": report_maker(settings)}, lambda: status(manager, job) == "done")
    link = urlsplit(job_of(manager, job)["result"]["download_url"]).path
    assert admin.client.get(link).status_code == 200
    admin.ok("PATCH", f"/admin/members/{member_id(manager)}", {"role": "agent"})
    refused(admin.client.get(link), 410, "LINK_EXPIRED")


def test_more_than_a_thousand_records_are_handed_over_by_a_job_and_taken_back(
    admin: Caller, manager: Caller, settings: Settings, work: Work
) -> None:
    from_, to = member_id(manager), member_id(admin)
    make_leads(settings.database_dsn, admin.tenant, 1001)
    with psycopg.connect(settings.database_dsn) as connection:
        connection.execute(set_for_transaction({"role": "%s", "crm.tenant": "%s"}), [SERVICE_ROLE, admin.tenant])
        connection.execute("UPDATE customers SET assigned_to = %s", [manager.user_id])
    path = f"/admin/members/{from_}/reassign"
    refused(admin.post(path, {"to": to}, headers={"Dry-Run": "true"}), 400, "DRY_RUN_UNSUPPORTED")
    answer = admin.post(path, {"to": to})
    job = answer.json()["job"]
    assert (answer.status_code, job["kind"], job["progress"]["total"]) == (202, "reassign", 1001)
    work({"reassign": reassign_step}, lambda: status(admin, job["id"]) == "done")
    done = job_of(admin, job["id"])
    assert done["result"] == {"customers": 1001, "deals": 0, "activities": 0, "projects": 0}
    assert admin.ok("GET", "/admin/customers", assigned_to="me")["total"] == 1001
    undo = admin.ok("POST", f"/admin/operations/{done['operation_id']}/undo", {})
    assert undo["job"]["kind"] == "undo"
