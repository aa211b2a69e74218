"""`crm import`: what requests do, from the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.settings import Settings
from tests.callers import Caller
from tests.processes import crm_here

CONFIGURED = (
    *("DATABASE_URL", "S3_ENDPOINT_URL", "S3_BUCKET", "S3_REGION"),
    *("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"),
)


@pytest.mark.slow
def test_a_file_is_imported_from_the_command_line(admin: Caller, settings: Settings, tmp_path: Path) -> None:
    environment = {name: str(getattr(settings, name.lower())) for name in CONFIGURED}
    admin.ok("GET", "/admin/me")
    (person,) = admin.ok("GET", "/admin/users")["data"]
    file = tmp_path / "leads.csv"
    file.write_text("Name,E-Mail,Firma\nAda,ada@example.com,Engines\nBob,bob,\n")
    command = ("import", "customers", str(file), "--tenant", admin.tenant, "--as", person["email"])
    refused = crm_here(*command, **environment)
    assert (refused.exit_code, "1 create" in refused.output, "row 3: E-Mail" in refused.output) == (1, True, True)
    assert admin.ok("GET", "/admin/customers")["total"] == 0
    tried = crm_here(*command, "--on-error", "skip", "--dry-run", "--map", "Firma=company", **environment)
    assert (tried.exit_code, admin.ok("GET", "/admin/customers")["total"]) == (1, 0)
    file.write_text("Name,E-Mail,Firma\nAda,ada@example.com,Engines\n")
    done = crm_here(*command, "--match-on", "email", "--map", "Firma=company", **environment)
    assert done.exit_code == 0, done.output
    (made,) = admin.ok("GET", "/admin/customers")["data"]
    assert (made["name"], made["email"], made["company"]) == ("Ada", "ada@example.com", "Engines")
    operation = re.search(r"Operation ([0-9a-f-]{36})", done.output)
    assert operation is not None
    admin.ok("POST", f"/admin/operations/{operation[1]}/undo", {"changed_since": "keep"})
    assert admin.ok("GET", "/admin/customers")["total"] == 0
