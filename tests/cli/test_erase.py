"""`crm erase`: receipts, and erasing again after a restore."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import Result

from app.settings import Settings
from tests.admin.test_erasure import erase
from tests.callers import Caller
from tests.processes import crm_on
from tests.records.chains import breaks, seal
from tests.records.test_purging import age, purge


def command(settings: Settings, *arguments: str) -> Result:
    return crm_on(settings, "erase", *arguments)


def bring_back(settings: Settings, customer: dict[str, Any], tenant: str, **more: object) -> None:
    """The customer, as a restore of an older backup would bring it back."""
    row = {name: customer[name] for name in ("id", "name", "created_at")} | {"tenant_id": tenant} | more
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [tenant])
        names, places = ", ".join(row), ", ".join("%s" for _ in row)
        owner.execute(f"INSERT INTO customers ({names}) VALUES ({places})", [*row.values()])


def test_what_a_restore_brought_back_is_erased_again(admin: Caller, settings: Settings, tmp_path: Path) -> None:
    customer = admin.customer("Ada")
    receipt = erase(admin, f"/admin/customers/{customer['id']}", "Ada")["receipt"]
    printed = command(settings, "receipts", "--tenant", admin.tenant)
    assert printed.exit_code == 0, printed.stderr
    assert json.loads(printed.stdout) == [receipt]
    file = tmp_path / "receipts.json"
    file.write_text(printed.stdout)
    assert "nothing to do" in command(settings, "replay", str(file)).stdout
    bring_back(settings, customer, admin.tenant)
    again = command(settings, "replay", str(file))
    assert (again.exit_code, "erased again, 1 records" in again.stdout) == (0, True), again.output
    assert admin.ok("GET", "/admin/customers", deleted="include")["total"] == 0
    file.write_text(json.dumps(receipt))
    assert "nothing to do" in command(settings, "replay", str(file)).stdout
    seal(settings)
    assert breaks(settings, admin.tenant) == []


def test_another_record_with_the_same_id_and_one_on_hold_stay(
    admin: Caller, settings: Settings, tmp_path: Path
) -> None:
    customer = admin.customer("Ada")
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(erase(admin, f"/admin/customers/{customer['id']}", "Ada")["receipt"]))
    bring_back(settings, customer, admin.tenant, created_at="2026-01-01T00:00:00Z")
    assert "nothing to do" in command(settings, "replay", str(file)).stdout
    assert admin.ok("GET", f"/admin/customers/{customer['id']}")["name"] == "Ada"
    held = admin.customer("Grace")
    file.write_text(json.dumps(erase(admin, f"/admin/customers/{held['id']}", "Grace")["receipt"]))
    bring_back(settings, held, admin.tenant, hold=True)
    refused = command(settings, "replay", str(file))
    assert (refused.exit_code, "on hold" in refused.stdout) == (1, True)
    assert admin.ok("GET", f"/admin/customers/{held['id']}")["hold"] is True


def test_what_was_purged_before_the_backup_is_erased_from_the_log_again(
    admin: Caller, settings: Settings, tmp_path: Path
) -> None:
    customer = admin.customer("Ada")
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(erase(admin, f"/admin/customers/{customer['id']}", "Ada")["receipt"]))
    bring_back(settings, customer, admin.tenant)
    admin.ok("PUT", "/admin/settings", {"trash_days": 7})
    admin.ok("DELETE", f"/admin/customers/{customer['id']}")
    age(settings, admin.tenant, 8)
    assert purge(settings) == 1
    assert "Ada" in str(admin.audit(resource_type="customer"))
    again = command(settings, "replay", str(file))
    assert (again.exit_code, "erased again, 0 records and " in again.stdout) == (0, True), again.output
    assert "Ada" not in str(admin.audit(resource_type="customer"))
    assert "nothing to do" in command(settings, "replay", str(file)).stdout


@pytest.mark.slow
def test_very_many_entries_are_erased_in_portions_and_one_receipt_stops_no_other(
    admin: Caller, settings: Settings, tmp_path: Path
) -> None:
    held, long, last = (admin.customer(name) for name in ("Held", "Long", "Last"))
    receipts = [erase(admin, f"/admin/customers/{each['id']}", each["name"])["receipt"] for each in (held, long, last)]
    file = tmp_path / "receipts.json"
    file.write_text(json.dumps(receipts))
    bring_back(settings, held, admin.tenant, hold=True)
    bring_back(settings, long, admin.tenant)
    bring_back(settings, last, admin.tenant)
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        owner.execute(
            "INSERT INTO notes (tenant_id, customer_id, content, author_id)"
            " SELECT %s, %s, 'x', 'me' FROM generate_series(1, 10000)",
            [admin.tenant, long["id"]],
        )
    done = command(settings, "replay", str(file))
    assert done.exit_code == 1
    assert [line.split(": ")[1] for line in done.stdout.splitlines()] == [
        "it is on hold now, and stays",
        "erased again, 10001 records and 10001 audit entries",
        "erased again, 1 records and 1 audit entries",
    ]
    first, rest = (
        entry
        for entry in reversed(admin.audit(resource_id=long["id"], action="erase"))
        if (entry["new_values"] or {}).get("entries") and entry["user_name"] == "crm erase replay"
    )
    assert (len(first["new_values"]["entries"]), first["new_values"]["reason"]) == (10_000, "Asked for it")
    assert (len(rest["new_values"]["entries"]), rest["new_values"]["continues"]) == (1, first["id"])
    assert len(json.loads(command(settings, "receipts", "--tenant", admin.tenant).stdout)) == 5
    seal(settings)
    assert breaks(settings, admin.tenant) == []


@pytest.mark.parametrize("field", ["id", "organization", "reason", "signature"])
def test_a_forged_receipt_erases_nothing(field: str, admin: Caller, settings: Settings, tmp_path: Path) -> None:
    genuine = erase(admin, f"/admin/customers/{admin.customer('Ada')['id']}", "Ada")["receipt"]
    spared = admin.customer("Grace")
    forged = genuine | {field: {"id": spared["id"]}.get(field, "other")}
    file = tmp_path / "receipts.json"
    file.write_text(json.dumps([genuine, forged]))
    refused = command(settings, "replay", str(file))
    assert refused.exit_code == 1
    assert "nothing was erased" in refused.stderr
    file.write_text("[{}]")
    assert "The file holds no receipts" in command(settings, "replay", str(file)).stderr
