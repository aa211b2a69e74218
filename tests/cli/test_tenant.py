"""`crm tenant`: what operators do with whole organizations."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import psycopg
import pytest

from app.cli import tenant
from app.models import Base
from app.settings import Settings
from tests.callers import Caller
from tests.processes import crm_on


@pytest.fixture
def full(admin: Caller) -> Caller:
    """The admin of an organization that has something of much."""
    customer = admin.customer(email="ada@x.example")
    path = f"/admin/customers/{customer['id']}"
    assert admin.attach(path, b"Hello").status_code == 201
    admin.ok("POST", "/admin/deals", {"title": "An engine", "customer_id": customer["id"], "amount": 12.5})
    admin.ok("POST", "/admin/notes", {"content": "Called", "customer_id": customer["id"]})
    admin.ok("POST", "/admin/members", {"email": "bo@x.example"})
    admin.ok("PUT", f"/admin/customers/{customer['id']}", {"tags": [admin.tag()["id"]]})
    return admin


def rows(settings: Settings, tenant: str) -> dict[str, int]:
    """How many rows each table has of an organization."""
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [tenant])
        counted = {
            table: owner.execute(f"SELECT count(*) FROM {table} WHERE tenant_id = %s", [tenant]).fetchall()[0][0]
            for table in Base.metadata.tables
        }
    return {table: count for table, count in counted.items() if count}


def test_organizations_are_listed_and_shown(full: Caller, settings: Settings) -> None:
    (line,) = [line for line in crm_on(settings, "tenant", "list").output.splitlines() if line.endswith(full.tenant)]
    assert line.split() == ["3", "5", full.tenant]
    shown = crm_on(settings, "tenant", "show", full.tenant, MAX_RECORDS="1000").output
    assert "records         3 of 1,000\n" in shown
    assert "members         2\n" in shown
    missing = crm_on(settings, "tenant", "show", "nobody")
    assert (missing.exit_code, "no organization 'nobody'" in missing.output) == (1, True)


def test_an_export_has_everything_and_is_logged(full: Caller, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "all.zip"
    made = crm_on(settings, "tenant", "export", full.tenant, str(file))
    assert made.exit_code == 0, made.output
    with ZipFile(file) as archive:
        names = archive.namelist()
        assert b'"ada@x.example"' in archive.read("customers.jsonl")
        assert [archive.read(name) for name in names if name.startswith("attachments/")] == [b"Hello"]
    assert full.audit()[0]["action"] == "export"
    assert [path.name for path in tmp_path.iterdir()] == ["all.zip"]


def test_an_erased_organization_leaves_no_row_and_no_file_and_others_are_whole(
    full: Caller, stranger: Caller, settings: Settings, data_dir: Path
) -> None:
    other = stranger.customer()
    kept = rows(settings, stranger.tenant)
    before = rows(settings, full.tenant)
    assert {"customers", "deals", "notes", "attachments", "audit_entries", "members", "record_counts"} <= before.keys()
    tried = crm_on(settings, "tenant", "erase", full.tenant)
    assert "Nothing was changed" in tried.output
    assert rows(settings, full.tenant) == before
    erased = crm_on(settings, "tenant", "erase", full.tenant, "--yes")
    assert erased.exit_code == 0, erased.output
    assert "1 files" in erased.output
    assert rows(settings, full.tenant) == {}
    assert list((data_dir / "objects/crm").glob(f"{full.tenant}/*")) == []
    assert rows(settings, stranger.tenant) == kept
    stranger.ok("GET", f"/admin/customers/{other['id']}")


def test_who_adds_up_sums_does_not_wait_for_an_organization_that_is_erased(
    full: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_up() -> int:
        """While the organization is deleted, in a transaction that is not committed."""
        with psycopg.connect(settings.database_dsn, autocommit=True) as service:
            service.execute("SET ROLE crm_service")
            service.execute("SET statement_timeout = '5s'")
            return int(service.execute("SELECT crm_fold_report_changes(10000)").fetchall()[0][0])

    folded = []
    delete_all = tenant._delete_all

    def delete_and_add_up(connection: psycopg.Connection[Any], name: str) -> int:
        deleted = delete_all(connection, name)
        folded.append(add_up())
        return deleted

    monkeypatch.setattr(tenant, "_delete_all", delete_and_add_up)
    erased = crm_on(settings, "tenant", "erase", full.tenant, "--yes")
    assert (erased.exit_code, folded) == (0, [0]), erased.output
    assert rows(settings, full.tenant) == {}


def test_an_organization_with_a_customer_on_hold_is_not_erased(full: Caller, settings: Settings) -> None:
    (customer,) = full.ok("GET", "/admin/customers")["data"]
    full.ok("PATCH", f"/admin/customers/{customer['id']}", {"hold": True})
    before = rows(settings, full.tenant)
    refused = crm_on(settings, "tenant", "erase", full.tenant, "--yes")
    assert (refused.exit_code, "on hold" in refused.output) == (1, True)
    assert rows(settings, full.tenant) == before
