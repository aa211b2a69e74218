"""What monitors see of single organizations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from app import usage
from app.db.database import Database
from app.settings import Settings
from app.usage import Size, TenantUsage, UsageCollector, measure_tenants
from tests.callers import Caller, Callers


def page(most: int) -> list[str]:
    registry = CollectorRegistry()
    registry.register(UsageCollector(most))
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> TenantUsage:
    """What this process counts, from nothing."""
    fresh = TenantUsage()
    monkeypatch.setattr(usage, "USAGE", fresh)
    return fresh


def test_the_organizations_with_the_most_are_named_and_no_others(counting: TenantUsage) -> None:
    for tenant, requests in (("small", 1), ("large", 3), ("middle", 2)):
        for _ in range(requests):
            counting.count(tenant)
    counting.measured({"large": Size(9, 100), "middle": Size(8, 0), "small": Size(7, 0)})
    assert page(2) == [
        'crm_tenant_requests_total{tenant="large"} 3.0',
        'crm_tenant_requests_total{tenant="middle"} 2.0',
        'crm_tenant_records{tenant="large"} 9.0',
        'crm_tenant_records{tenant="middle"} 8.0',
        'crm_tenant_stored_bytes{tenant="large"} 100.0',
        'crm_tenant_stored_bytes{tenant="middle"} 0.0',
    ]


def test_the_page_adds_up_what_all_workers_wrote(
    counting: TenantUsage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = TenantUsage()
    for each in (counting, other, other):
        each.count("acme")
    other.measured({"acme": Size(5, 6)})
    monkeypatch.setattr("os.getpid", lambda: 1)
    other.share(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(usage, "USAGE", counting)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert page(20) == [
        'crm_tenant_requests_total{tenant="acme"} 3.0',
        'crm_tenant_records{tenant="acme"} 5.0',
        'crm_tenant_stored_bytes{tenant="acme"} 6.0',
    ]
    # Half a file, of a disk that is full, is passed over.
    (tmp_path / "tenants_2.json").write_text('{"requests": {"ac')
    assert len(page(20)) == 3


def test_what_was_measured_long_ago_is_not_shown(counting: TenantUsage, monkeypatch: pytest.MonkeyPatch) -> None:
    counting.measured({"acme": Size(5, 6)})
    monkeypatch.setattr(usage, "FRESH_SECONDS", 0)
    assert page(20) == []


def test_a_worker_does_not_remember_more_organizations_than_it_may(
    counting: TenantUsage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "MOST_KNOWN", 4)
    for tenant in ("a", "a", "b", "b", "c", "d", "e"):
        counting.count(tenant)
    assert set(counting.known().requests) == {"a", "b"}


def test_requests_are_counted_by_organization(
    counting: TenantUsage, callers: Callers, tenant: str, variant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.telemetry.USAGE", counting)
    client = variant(metrics_tenants=1)
    callers.person("admin", tenant, client=client).ok("GET", "/admin/me")
    client.get("/admin/me")  # nobody's
    assert f'crm_tenant_requests_total{{tenant="{tenant}"}} 1.0' in client.get("/metrics").text
    assert "crm_tenant_" not in variant(metrics_tenants=0).get("/metrics").text


def test_live_records_and_all_files_are_measured(
    counting: TenantUsage, admin: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = admin.customer()
    gone = admin.customer("Gone")
    path = f"/admin/customers/{customer['id']}"
    admin.attach(path, b"Hello")
    file = admin.attach(path, b"Gone").json()
    admin.ok("DELETE", f"/admin/attachments/{file['id']}")
    admin.ok("DELETE", f"/admin/customers/{gone['id']}")

    async def measure() -> None:
        async with Database(settings) as database:
            await measure_tenants(database)

    monkeypatch.setattr(usage, "MOST_MEASURED", 100_000)  # those of other tests may be larger
    asyncio.run(measure())
    assert counting.known().sizes[admin.tenant] == Size(1, 9)
