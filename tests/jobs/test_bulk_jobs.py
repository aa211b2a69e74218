"""Large bulk changes are jobs: they run in steps, as the person who asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from app.admin import bulk
from app.admin.history import operations
from app.db.roles import enter_tenant
from app.settings import Settings
from tests.callers import Caller, make_leads, refused
from tests.laws.routes import UNKNOWN_ID
from tests.processes import Worker, wait_until

BULK = "/admin/customers/bulk"
# More than one request changes by itself, with the limits of these tests.
MANY = 50


@pytest.fixture(autouse=True)
def _few_are_many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits, each so much lower that it is passed by few records; one test keeps to the real ones."""
    if "as_large_as_they_are" in request.fixturenames:
        return
    monkeypatch.setattr(bulk, "MOST_AT_ONCE", 40)
    monkeypatch.setattr(bulk, "MOST_REFUSED", 40)
    monkeypatch.setattr(bulk, "STEP", 10)
    monkeypatch.setattr(operations, "MOST_ENTRIES", 40)


@pytest.fixture
def as_large_as_they_are() -> None:
    """Nothing is lowered."""


def fill(settings: Settings, tenant: str, count: int = MANY) -> None:
    make_leads(settings.database_dsn, tenant, count)


def ended(caller: Caller, job_id: int) -> dict[str, Any]:
    """The job once it is finished."""
    job: dict[str, Any] = {}

    def look() -> bool:
        job.update(caller.ok("GET", f"/admin/jobs/{job_id}"))
        return job["finished_at"] is not None

    wait_until(look, "the end of the job")
    return job


def start(caller: Caller, **body: Any) -> Any:
    answer = caller.post(BULK, {"filter": {"status": "lead"}, "action": "update", **body})
    assert answer.status_code == 202, answer.text
    return answer


# The first one, since later ones share a service that would do the job, too.
@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing_and_does_nothing_twice(admin: Caller, settings: Settings) -> None:
    many = 600
    fill(settings, admin.tenant, many)
    job = start(admin, values={"status": "prospect"}).json()["job"]
    connected = {"DATABASE_URL": settings.database_dsn, "JWT_SECRET": settings.jwt_secret}
    killed = Worker(None, **connected)
    # Beyond the trial.
    wait_until(lambda: progress(settings, admin.tenant) > 0, "a step of the job")
    killed.kill()
    stopped = admin.ok("GET", f"/admin/jobs/{job['id']}")
    assert stopped["status"] == "running"
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute'")
    other = Worker(None, **connected)
    try:
        done = ended(admin, job["id"])
    finally:
        other.stop()
    assert done["result"] == {"matched": many, "changed": many, "unchanged": 0, "refused": []}
    assert done["attempts"] == 2
    assert admin.ok("GET", "/admin/customers", status="prospect")["total"] == many
    assert admin.ok("GET", "/admin/audit", operation_id=job["operation_id"])["total"] == many


@pytest.mark.slow
@pytest.mark.usefixtures("working", "as_large_as_they_are")
def test_a_change_of_many_is_a_job_that_shows_how_far_it_is(admin: Caller, manager: Caller, settings: Settings) -> None:
    many = bulk.MOST_AT_ONCE + 1
    fill(settings, admin.tenant, many)
    answer = start(manager, values={"status": "prospect"}, expected=many)
    job = answer.json()["job"]
    assert answer.headers["Location"] == f"/admin/jobs/{job['id']}"
    assert (job["kind"], job["status"], job["progress"]) == ("bulk", "queued", {"done": 0, "total": many})
    assert job["operation_id"] == answer.headers["X-Operation-Id"]
    done = ended(manager, job["id"])
    assert (done["status"], done["error"], done["attempts"]) == ("done", None, 1)
    assert done["progress"] == {"done": many, "total": many}
    assert done["result"] == {"matched": many, "changed": many, "unchanged": 0, "refused": []}
    assert admin.ok("GET", "/admin/customers", status="prospect")["total"] == many
    entries = admin.ok("GET", "/admin/audit", operation_id=job["operation_id"], page_size=100)
    assert entries["total"] == many
    seen = {(e["user_id"], e["via"], e["request_id"], e["version"]) for e in entries["data"]}
    assert seen == {(manager.user_id, "job", answer.headers["X-Request-ID"], 2)}


@pytest.mark.usefixtures("working")
def test_where_one_is_refused_nothing_is_done_unless_a_part_will_do(admin: Caller, settings: Settings) -> None:
    fill(settings, admin.tenant)
    ids = [*ids_of(settings, admin.tenant), UNKNOWN_ID]
    body = {"ids": ids, "action": "update", "values": {"status": "prospect"}}
    failed = ended(admin, admin.ok("POST", BULK, body)["job"]["id"])
    assert (failed["status"], failed["result"], failed["progress"]["done"]) == ("failed", None, 0)
    assert failed["error"]["code"] == "BULK_REFUSED"
    assert [(each["id"], each["code"]) for each in failed["error"]["data"]["refused"]] == [
        (UNKNOWN_ID, "CUSTOMER_NOT_FOUND")
    ]
    assert admin.ok("GET", "/admin/customers", status="prospect")["total"] == 0
    assert admin.ok("GET", "/admin/audit", operation_id=failed["operation_id"])["total"] == 0

    done = ended(admin, admin.ok("POST", BULK, body | {"partial": True})["job"]["id"])
    result = done["result"]
    assert (result["matched"], result["changed"], result["unchanged"]) == (len(ids), MANY, 0)
    assert [each["id"] for each in result["refused"]] == [UNKNOWN_ID]


@pytest.mark.usefixtures("working")
def test_an_agent_changes_no_more_in_a_job_than_by_itself(admin: Caller, agent: Caller, settings: Settings) -> None:
    fill(settings, admin.tenant)
    mine = [agent.customer(f"Mine {number}")["id"] for number in range(2)]
    done = ended(agent, start(agent, values={"contacted": True}, partial=True).json()["job"]["id"])
    assert done["result"] | {"refused": len(done["result"]["refused"])} == {
        "matched": MANY + 2,
        "changed": 2,
        "unchanged": 0,
        "refused": bulk.MOST_REFUSED,
        "more": MANY - bulk.MOST_REFUSED,
    }
    entries = admin.audit(operation_id=done["operation_id"])
    assert {entry["resource_id"] for entry in entries} == set(mine)
    refused(agent.post(BULK, {"filter": {}, "action": "trash"}), 403, "INSUFFICIENT_PERMISSIONS")


def test_what_would_become_a_job_can_not_be_tried_and_is_counted_before_it_begins(
    admin: Caller, settings: Settings
) -> None:
    fill(settings, admin.tenant)
    body = {"filter": {}, "action": "trash"}
    tried = admin.post(BULK, body, headers={"Dry-Run": "true"})
    assert refused(tried, 400, "DRY_RUN_UNSUPPORTED") == {"matched": MANY}
    counted = refused(admin.post(BULK, body | {"expected": MANY - 1}), 409, "COUNT_CHANGED")
    assert counted == {"expected": MANY - 1, "matched": MANY}
    assert admin.ok("GET", "/admin/jobs")["total"] == 0


def test_the_same_request_again_answers_the_same_job(admin: Caller, settings: Settings) -> None:
    fill(settings, admin.tenant)
    body = {"filter": {}, "action": "trash"}
    first, again = (admin.post(BULK, body, headers={"Idempotency-Key": "once"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert again.json() == first.json()
    assert admin.ok("GET", "/admin/jobs")["total"] == 1


@pytest.mark.usefixtures("working")
@pytest.mark.parametrize("collection", ["customers", "contacts", "deals", "activities", "notes"])
def test_each_kind_of_record_is_changed_by_a_job_as_by_a_request(
    collection: str, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MOST_AT_ONCE", 2)
    monkeypatch.setattr(bulk, "STEP", 2)
    customer = admin.customer("Customer 1")
    made: Callable[[int], Any] = {
        "customers": lambda n: customer if n == 0 else admin.customer(f"Customer {n + 1}"),
        "contacts": lambda n: admin.ok(
            "POST", f"/admin/customers/{customer['id']}/contacts", {"first_name": "C", "last_name": str(n)}
        ),
        "deals": lambda n: admin.ok("POST", "/admin/deals", {"customer_id": customer["id"], "title": f"Deal {n}"}),
        "activities": lambda n: admin.ok("POST", "/admin/activities", {"type": "call", "title": f"Call {n}"}),
        "notes": lambda n: admin.ok("POST", f"/admin/customers/{customer['id']}/notes", {"content": f"Note {n}"}),
    }[collection]
    ids = [made(number)["id"] for number in range(5)]
    field = {"customers": "company", "contacts": "position", "notes": "content"}.get(collection, "description")
    for action, logged, values in (("update", "update", {"values": {field: "Same"}}), ("trash", "delete", {})):
        job = admin.ok("POST", f"/admin/{collection}/bulk", {"ids": ids, "action": action, **values})["job"]
        assert ended(admin, job["id"])["result"]["changed"] == 5
        entries = admin.audit(operation_id=job["operation_id"], action=logged)
        assert {entry["resource_id"] for entry in entries} >= set(ids)


def progress(settings: Settings, tenant: str) -> int:
    """How many records the tenant's job has changed."""
    with psycopg.connect(settings.database_dsn) as connection:
        enter_tenant(connection, tenant, {})
        row = connection.execute("SELECT sum(done) FROM jobs").fetchone()
        return int(row[0]) if row else 0


def ids_of(settings: Settings, tenant: str) -> list[int]:
    with psycopg.connect(settings.database_dsn) as connection:
        enter_tenant(connection, tenant, {})
        return [row[0] for row in connection.execute("SELECT id FROM customers")]


@pytest.mark.slow
@pytest.mark.usefixtures("working")
def test_what_a_job_has_changed_is_taken_back_by_another_one(admin: Caller, settings: Settings) -> None:
    fill(settings, admin.tenant)
    job = ended(admin, start(admin, values={"status": "prospect"}).json()["job"]["id"])
    one = admin.ok("GET", "/admin/customers", page_size=1)["data"][0]["id"]
    admin.ok("PATCH", f"/admin/customers/{one}", {"status": "active"})
    undo = f"/admin/operations/{job['operation_id']}/undo"
    refused(admin.post(undo, {}, headers={"Dry-Run": "true"}), 400, "DRY_RUN_UNSUPPORTED")

    whole = ended(admin, admin.ok("POST", undo, {})["job"]["id"])
    assert (whole["kind"], whole["status"], whole["error"]["code"]) == ("undo", "failed", "CHANGED_SINCE")
    assert admin.ok("GET", "/admin/customers", status="prospect")["total"] == MANY - 1

    answer = admin.post(undo, {"changed_since": "keep"})
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/admin/jobs/{answer.json()['job']['id']}")
    done = ended(admin, answer.json()["job"]["id"])
    assert done["result"] == {
        "operation_id": job["operation_id"],
        "changed": MANY - 1,
        "kept": [{"resource_type": "customer", "resource_id": one, "field": "status"}],
    }
    assert admin.ok("GET", "/admin/customers", status="lead")["total"] == MANY - 1
    assert admin.ok("GET", f"/admin/customers/{one}")["status"] == "active"

    again = ended(admin, admin.ok("POST", f"/admin/operations/{done['operation_id']}/undo", {})["job"]["id"])
    assert again["result"]["changed"] == MANY - 1
    assert admin.ok("GET", "/admin/customers", status="prospect")["total"] == MANY - 1
