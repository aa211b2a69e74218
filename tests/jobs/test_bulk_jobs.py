"""Large bulk changes are jobs: they run in steps, as the person who asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.db.roles import enter_tenant
from app.settings import Settings
from tests.callers import Caller
from tests.processes import wait_until

BULK = "/admin/customers/bulk"
MANY = 1050


@pytest.fixture
def working(variant: Callable[..., TestClient[Litestar]]) -> TestClient[Litestar]:
    """A service that runs jobs."""
    return variant(jobs_in_service=True)


def fill(settings: Settings, tenant: str, count: int = MANY) -> None:
    """So many leads, of nobody."""
    with psycopg.connect(settings.database_dsn) as connection:
        enter_tenant(connection, tenant, {"user_name": "import"})
        connection.execute(
            "INSERT INTO customers (tenant_id, name) SELECT %s, 'Lead ' || n FROM generate_series(1, %s) AS n",
            [tenant, count],
        )


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


@pytest.mark.usefixtures("working")
def test_a_change_of_many_is_a_job_that_shows_how_far_it_is(admin: Caller, manager: Caller, settings: Settings) -> None:
    fill(settings, admin.tenant)
    answer = start(manager, values={"status": "prospect"}, expected=MANY)
    job = answer.json()["job"]
    assert answer.headers["Location"] == f"/admin/jobs/{job['id']}"
    assert (job["kind"], job["status"], job["progress"]) == ("bulk", "queued", {"done": 0, "total": MANY})
    assert job["operation_id"] == answer.headers["X-Operation-Id"]
    done = ended(manager, job["id"])
    assert (done["status"], done["error"], done["attempts"]) == ("done", None, 1)
    assert done["progress"] == {"done": MANY, "total": MANY}
    assert done["result"] == {"matched": MANY, "changed": MANY, "unchanged": 0, "refused": []}
    assert admin.ok("GET", "/admin/customers", status="prospect")["total"] == MANY
    entries = admin.ok("GET", "/admin/audit", operation_id=job["operation_id"], page_size=100)
    assert entries["total"] == MANY
    seen = {(e["user_id"], e["via"], e["request_id"], e["version"]) for e in entries["data"]}
    assert seen == {(manager.user_id, "job", answer.headers["X-Request-ID"], 2)}
