"""Workers: whatever happens to them, each step of a job happens once, as the person who asked."""

from __future__ import annotations

import asyncio
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace
from sqlalchemy import insert

from app.access.permissions import Role
from app.db.database import Database
from app.jobs import queue, worker
from app.jobs.queue import Job, Step, Superseded
from app.models import Customer
from app.records.transaction import Transaction, writing
from app.settings import Settings
from app.web.errors import AppError, Code
from tests.callers import Caller, Callers, refused
from tests.jobs.conftest import Enqueue, Work

SQL = Path(__file__).parents[2] / "migrations" / "versions" / "0009" / "procrastinate.sql"


async def add_customer(tx: Transaction, name: str) -> None:
    await tx.connection.execute(insert(Customer).values(tenant_id=tx.actor.tenant_id, name=name))


async def count_to_total(tx: Transaction, job: Job) -> Step:
    """A job of so many steps, each of which makes a customer."""
    done = job.done + 1
    await add_customer(tx, f"Step {done}")
    return Step(done, {}, {"made": done} if done == job.total else None)


def job_of(caller: Caller, job_id: int) -> dict[str, Any]:
    return dict(caller.ok("GET", f"/admin/jobs/{job_id}"))


def status(caller: Caller, job_id: int) -> str:
    return str(job_of(caller, job_id)["status"])


def names(caller: Caller) -> list[str]:
    found = caller.ok("GET", "/admin/customers", page_size=100, sort_by="created_at", sort_order="asc")
    return [each["name"] for each in found["data"]]


def test_a_job_moves_on_step_by_step(admin: Caller, enqueue: Enqueue, work: Work) -> None:
    job = enqueue(admin, total=3)
    work({"test": count_to_total}, lambda: status(admin, job) == "done")
    assert job_of(admin, job)["result"] == {"made": 3}
    assert names(admin) == ["Step 1", "Step 2", "Step 3"]
    (operation,) = {entry["operation_id"] for entry in admin.audit()}
    assert operation == job_of(admin, job)["operation_id"]


def test_of_two_workers_with_one_job_only_the_later_one_goes_on(
    admin: Caller, enqueue: Enqueue, settings: Settings
) -> None:
    """As when a worker is taken for dead and wakes up again."""
    job_id = enqueue(admin, total=2)

    async def step(database: Database, job: Job) -> None:
        async with writing(database, job.actor, job.origin) as tx:
            await queue.move_on(tx, job, await count_to_total(tx, job))

    async def both() -> None:
        async with Database(settings) as database:
            first = await queue.begin(database, admin.tenant, job_id)
            second = await queue.begin(database, admin.tenant, job_id)
            assert first is not None
            assert second is not None
            with pytest.raises(Superseded):
                await step(database, first)
            await step(database, second)
            with pytest.raises(Superseded):
                await step(database, second)  # as if it were not known that it was committed

    asyncio.run(both())
    assert names(admin) == ["Step 1"]
    assert (job_of(admin, job_id)["progress"]["done"], job_of(admin, job_id)["attempts"]) == (1, 2)


def test_a_job_that_is_cancelled_keeps_what_is_committed_and_does_no_more(
    admin: Caller, enqueue: Enqueue, work: Work
) -> None:
    job = enqueue(admin, total=5)
    answered: list[Any] = []

    async def cancelled_in_its_third_step(tx: Transaction, job_: Job) -> Step:
        step = await count_to_total(tx, job_)
        if step.done == 3 and not answered:
            answered.append(await asyncio.to_thread(admin.post, f"/admin/jobs/{job}/cancel"))
        return step

    next_one = enqueue(admin, total=1)
    work({"test": cancelled_in_its_third_step}, lambda: answered and status(admin, next_one) == "done")
    assert (answered[0].status_code, answered[0].json()["status"]) == (200, "cancelled")
    assert job_of(admin, job)["progress"] == {"done": 2, "total": 5}
    assert sorted(names(admin)) == ["Step 1", "Step 1", "Step 2"]
    refused(admin.post(f"/admin/jobs/{job}/cancel"), 409, "JOB_FINISHED")


def test_a_job_that_waits_can_be_cancelled_and_never_begins(admin: Caller, enqueue: Enqueue, work: Work) -> None:
    job, other = enqueue(admin, total=1), enqueue(admin, total=1)
    tried = admin.call("POST", f"/admin/jobs/{job}/cancel", headers={"Dry-Run": "true"})
    assert (tried.json()["result"]["status"], status(admin, job)) == ("cancelled", "queued")
    assert admin.ok("POST", f"/admin/jobs/{job}/cancel")["status"] == "cancelled"
    work({"test": count_to_total}, lambda: status(admin, other) == "done")
    assert names(admin) == ["Step 1"]
    assert job_of(admin, job)["started_at"] is None


def test_everybody_sees_their_own_jobs_and_admins_all_of_their_organization(
    admin: Caller, manager: Caller, agent: Caller, stranger: Caller, enqueue: Enqueue
) -> None:
    jobs = {caller: enqueue(caller, "bulk") for caller in (admin, manager, agent)}
    for caller in (manager, agent):
        assert [each["id"] for each in caller.ok("GET", "/admin/jobs")["data"]] == [jobs[caller]]
        assert caller.ok("GET", "/admin/jobs", user_id=admin.user_id)["data"] == []
        refused(caller.get(f"/admin/jobs/{jobs[admin]}"), 404, "JOB_NOT_FOUND")
        refused(caller.post(f"/admin/jobs/{jobs[admin]}/cancel"), 404, "JOB_NOT_FOUND")
    assert {each["id"] for each in admin.ok("GET", "/admin/jobs")["data"]} == set(jobs.values())
    mine = admin.ok("GET", "/admin/jobs", user_id="me", status="queued", kind="bulk")
    assert [each["id"] for each in mine["data"]] == [jobs[admin]]
    assert stranger.ok("GET", "/admin/jobs")["data"] == []
    refused(stranger.get(f"/admin/jobs/{jobs[admin]}"), 404, "JOB_NOT_FOUND")
    assert admin.ok("POST", f"/admin/jobs/{jobs[agent]}/cancel")["user_id"] == agent.user_id


def test_a_job_has_the_role_of_then_and_never_more_than_the_person_has_now(
    admin: Caller, callers: Callers, enqueue: Enqueue, work: Work
) -> None:
    person = callers.person("agent", admin.tenant)
    person.ok("GET", "/admin/customers")
    before = enqueue(person, role="manager")
    still = enqueue(admin, role="manager")
    roles = []

    async def look(tx: Transaction, job: Job) -> Step:
        roles.append((job.id, tx.actor.role))
        return Step(0, {}, {})

    work({"test": look}, lambda: len(roles) == 2)
    assert dict(roles) == {before: Role.AGENT, still: Role.MANAGER}


def test_what_can_help_is_tried_again_and_the_rest_fails_with_a_reason(
    admin: Caller, enqueue: Enqueue, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    async def away_at_first(tx: Transaction, _: Job) -> Step:
        await add_customer(tx, "Lost")
        tried.append("again")
        if len(tried) == 1:
            raise AppError(Code.SERVICE_UNAVAILABLE)
        return Step(1, {}, {"fine": True})

    async def refuse(tx: Transaction, _: Job) -> Step:
        await add_customer(tx, "Never")
        raise AppError(Code.LIMIT_REACHED, data={"max": 3})

    async def break_(*_: Any) -> Step:
        raise RuntimeError("a secret of the code")

    monkeypatch.setattr(worker, "MOST_FAILURES", 2)
    kinds = {"test": away_at_first, "refuse": refuse, "break": break_}
    jobs = [enqueue(admin, kind, total=7) for kind in kinds]
    work(kinds, lambda: len(finished(admin)) == 3)
    again = job_of(admin, jobs[0])
    assert (again["status"], again["attempts"], again["error"]) == ("done", 2, None)
    refused_, broken = (job_of(admin, job) for job in jobs[1:])
    assert (refused_["status"], refused_["attempts"], refused_["progress"]["done"]) == ("failed", 1, 0)
    assert refused_["error"] == {"code": "LIMIT_REACHED", "message": Code.LIMIT_REACHED.message, "data": {"max": 3}}
    assert (broken["status"], broken["attempts"], broken["error"]["code"]) == ("failed", 2, "INTERNAL_ERROR")
    assert "secret" not in str(broken)
    assert names(admin) == ["Lost"]


def finished(caller: Caller) -> list[int]:
    return [each["id"] for each in caller.ok("GET", "/admin/jobs")["data"] if each["finished_at"]]


@pytest.mark.slow
def test_the_thousand_jobs_of_one_organization_do_not_keep_another_ones_waiting(
    admin: Caller, stranger: Caller, enqueue: Enqueue, work: Work
) -> None:
    many = [enqueue(admin) for _ in range(200)]
    one = enqueue(stranger)
    order: list[int] = []

    async def note(_: Transaction, job: Job) -> Step:
        order.append(job.id)
        return Step(1, {}, {})

    work({"test": note}, lambda: len(order) == 201, workers=2)
    assert order.index(one) <= 10
    assert sorted(order) == sorted([*many, one])


def test_a_long_job_lets_others_go_ahead(
    admin: Caller, stranger: Caller, enqueue: Enqueue, work: Work, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(worker, "TEND_SECONDS", 0.05)
    long = [enqueue(admin, total=1000) for _ in range(settings.job_concurrency)]
    begun: set[int] = set()
    short: list[int] = []

    async def steps(_: Transaction, job: Job) -> Step:
        if job.actor.tenant_id == admin.tenant:
            begun.add(job.id)
            if len(begun) == len(long) and not short:
                short.append(await asyncio.to_thread(enqueue, stranger))
            await asyncio.sleep(0.02)
            return Step(job.done + 1, {})
        return Step(1, {}, {})

    work({"test": steps}, lambda: bool(short) and status(stranger, short[0]) == "done")
    for job in long:
        shown = admin.ok("POST", f"/admin/jobs/{job}/cancel")
        assert shown["attempts"] == 1, "giving way is no attempt"


def test_a_worker_that_stops_leaves_its_jobs_to_others_at_once(admin: Caller, enqueue: Enqueue, work: Work) -> None:
    job = enqueue(admin, total=4)

    async def slowly(tx: Transaction, job_: Job) -> Step:
        await asyncio.sleep(0.3)
        return await count_to_total(tx, job_)

    work({"test": slowly}, lambda: job_of(admin, job)["progress"]["done"] == 1)
    stopped = job_of(admin, job)
    assert (stopped["status"], stopped["progress"]["done"]) == ("queued", 2)
    work({"test": slowly}, lambda: status(admin, job) == "done", seconds=8)
    assert names(admin) == [f"Step {number}" for number in range(1, 5)]
    assert job_of(admin, job)["attempts"] == 1


def test_a_job_that_the_queue_has_lost_comes_back(
    admin: Caller, enqueue: Enqueue, work: Work, settings: Settings
) -> None:
    job = enqueue(admin, total=1)
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("DELETE FROM procrastinate_jobs")
    work({"test": count_to_total}, lambda: status(admin, job) == "done")
    assert names(admin) == ["Step 1"]


def test_a_finished_job_keeps_nothing_of_what_it_was_about_and_goes_after_some_days(
    admin: Caller, settings: Settings, work: Work, enqueue: Enqueue, service_connection: psycopg.Connection
) -> None:
    job, waiting = enqueue(admin, total=1), enqueue(admin, "unknown to this release")
    work({"test": count_to_total}, lambda: status(admin, job) == "done")
    kept = "SELECT arguments, targets, state FROM jobs WHERE id = %s"
    service_connection.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
    assert service_connection.execute(kept, [job]).fetchall() == [({}, None, {})]
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        service_connection.execute("UPDATE jobs SET status = 'queued', finished_at = NULL WHERE id = %s", [job])

    async def prune(days: int) -> int:
        async with Database(replace(settings, db_pool_min=1)) as database:
            return await queue.prune_jobs(database, days)

    assert asyncio.run(prune(1)) == 0
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY; ALTER TABLE jobs DISABLE TRIGGER finish")
        owner.execute("UPDATE jobs SET finished_at = now() - interval '25 hours' WHERE id = %s", [job])
        owner.execute("ALTER TABLE jobs FORCE ROW LEVEL SECURITY; ALTER TABLE jobs ENABLE TRIGGER finish")
    assert asyncio.run(prune(1)) == 1
    assert service_connection.execute("SELECT id FROM jobs").fetchall() == [(waiting,)]


def test_the_queue_is_what_its_library_brings_along(catalog: psycopg.Connection) -> None:
    """A newer release of it may come with another one: then a migration has to follow."""
    assert SQL.read_text() == (resources.files("procrastinate.sql") / "schema.sql").read_text()
    notifying = "SELECT proname FROM pg_proc WHERE prosrc LIKE '%%pg_notify%%' AND proname ~ '^(crm|procrastinate)_'"
    assert catalog.execute(notifying).fetchall() == []


def test_the_workers_say_what_they_did(admin: Caller, enqueue: Enqueue, work: Work) -> None:
    job = enqueue(admin, total=1)
    work({"test": count_to_total}, lambda: status(admin, job) == "done")
    shown = admin.get("/metrics").text
    assert 'crm_jobs_total{kind="test",outcome="done"}' in shown
    assert 'crm_job_duration_seconds_count{kind="test"}' in shown
    assert "crm_jobs_waiting " in shown
    assert "crm_jobs_oldest_waiting_seconds " in shown
