"""What monitors see of requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress

import jwt
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from msgspec.structs import replace
from structlog.testing import capture_logs

from app import telemetry
from app.background import create_worker
from app.identity.main import create_identity
from app.settings import Settings
from tests.callers import Caller
from tests.processes import wait_until


def metric(client: TestClient[Litestar], name: str) -> float:
    """The value of one series on the page."""
    (line,) = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name} ")]
    return float(line.rsplit(" ", 1)[1])


@pytest.mark.parametrize("create", [create_worker, create_identity])
def test_other_programs_say_as_well_which_release_they_are_and_how_much_memory_they_may_use(
    create: Callable[[Settings], Litestar], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.background.background", lambda _: nullcontext())  # no work: the database is away
    telemetry.BUILD.clear()  # what others of this process said
    telemetry.MEMORY_LIMIT.set(0)
    with TestClient(create(replace(settings, database_url="postgresql://crm@localhost:1/crm"))) as started:
        assert "\ncrm_build_info{" in started.get("/metrics").text
        assert metric(started, "crm_memory_limit_bytes") > 0


@pytest.mark.parametrize(
    ("code", "headers"),
    [
        ("MISSING_TOKEN", {}),
        ("INVALID_TOKEN", {"Authorization": "Bearer a.b.c"}),
        ("INVALID_TOKEN_FORMAT", {"Authorization": "Basic abc"}),
    ],
)
def test_refused_tokens_are_counted_by_reason(client: TestClient[Litestar], code: str, headers: dict[str, str]) -> None:
    series = f'crm_http_requests_refused_total{{code="{code}"}}'
    before = metric(client, series)
    assert client.get("/admin/customers", headers=headers).json()["code"] == code
    assert metric(client, series) == before + 1


@pytest.mark.parametrize(
    ("reason", "secret", "claims"),
    [
        ("signature", "of somebody else, and as long as it has to be", {}),
        ("expired", None, {"exp": -100}),
        ("early", None, {"nbf": 100}),
        ("early", None, {"iat": 100}),
        ("invalid_token", None, {"exp": None}),
    ],
)
def test_why_a_token_is_refused_is_counted_and_logged_also_where_the_limit_hides_it(
    variant: Callable[..., TestClient[Litestar]],
    settings: Settings,
    reason: str,
    secret: str | None,
    claims: dict[str, int | None],
) -> None:
    client = variant(auth_failures_per_minute=1)
    given = {"sub": "1", "role": "admin", "exp": 100} | claims
    now = int(time.time())
    moments = {name: now + value for name, value in given.items() if isinstance(value, int)}
    token = jwt.encode({"sub": "1", "role": "admin"} | moments, secret or settings.jwt_secret, algorithm="HS256")
    series = f'crm_tokens_refused_total{{reason="{reason}"}}'
    before = metric(client, series) if reason != "invalid_token" else 0
    with capture_logs() as said:
        answers = [client.get("/admin/me", headers={"Authorization": f"Bearer {token}"}).status_code for _ in range(2)]
    assert answers == [401, 429]
    assert metric(client, series) >= before + 2
    assert [line["reason"] for line in said if line["event"] == "request"] == [reason, reason]


def test_whether_it_is_ready_is_a_metric(client: TestClient[Litestar]) -> None:
    wait_until(lambda: metric(client, "crm_ready") == 1, "the service has looked")


def test_a_limit_that_is_hit_is_counted(variant: Callable[..., TestClient[Litestar]], admin: Caller) -> None:
    client = variant(rate_limit_per_minute=1)
    series = 'crm_http_requests_refused_total{code="RATE_LIMITED"}'
    before = metric(client, series)
    statuses = [client.get("/admin/me", headers=admin.headers).status_code for _ in range(3)]
    assert statuses == [200, 429, 429]
    assert metric(client, series) == before + 2


def test_whoever_looks_is_in_flight(client: TestClient[Litestar]) -> None:
    assert metric(client, "crm_http_requests_in_flight") == 1


def test_a_request_waits_for_its_connection_in_a_histogram(client: TestClient[Litestar], admin: Caller) -> None:
    before = metric(client, "crm_db_pool_wait_seconds_count")
    admin.ok("GET", "/admin/customers")
    assert metric(client, "crm_db_pool_wait_seconds_count") > before
    assert metric(client, "crm_db_pool_timeouts_total") >= 0


def test_a_loop_that_is_kept_busy_is_late(client: TestClient[Litestar], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "LAG_SECONDS", 0.001)
    before = metric(client, "crm_event_loop_lag_seconds_sum")

    async def busy() -> None:
        measuring = asyncio.create_task(telemetry.measure_lag())
        await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251 -- this is what it is to notice
        await asyncio.sleep(0.01)
        measuring.cancel()
        with suppress(asyncio.CancelledError):
            await measuring

    asyncio.run(busy())
    assert metric(client, "crm_event_loop_lag_seconds_sum") - before > 0.09


def test_a_worker_tells_when_and_how_fast_it_started_and_what_memory_it_may_use(client: TestClient[Litestar]) -> None:
    assert 0 < metric(client, "crm_start_seconds") < 86_400
    assert abs(time.time() - metric(client, "crm_started_timestamp_seconds")) < 86_400
    assert metric(client, "crm_memory_limit_bytes") > 2**20
