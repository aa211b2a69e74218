"""What the service and its database agree on by name, apart from the migrations, whose tools no worker loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg

MIGRATIONS = Path(__file__).parents[2] / "migrations"
VERSION_TABLE = "crm_migrations"

SERVICE_ROLE = "crm_service"
# The same rights, limited by policies to what belongs to the person who asks.
OWN_RECORDS_ROLE = "crm_service_own"
# Owns the search functions, and may read what they search.
SEARCH_ROLE = "crm_search"
# Owns the functions that work across tenants: for `crm attachments`, and for sealing and pruning.
MAINTENANCE_ROLE = "crm_maintenance"
# As this role `crm audit` reads the logs of all tenants. The service's login may not act as it.
AUDITOR_ROLE = "crm_auditor"
ROLES = (SERVICE_ROLE, OWN_RECORDS_ROLE, SEARCH_ROLE, MAINTENANCE_ROLE, AUDITOR_ROLE)


def enter_tenant(connection: psycopg.Connection[Any], tenant: str, actor: Mapping[str, str]) -> None:
    """Make the open transaction one of this tenant, as the service's own role; for commands, which have no request."""
    connection.execute(
        "SELECT set_config('role', %s, true), set_config('crm.tenant', %s, true), set_config('crm.actor', %s, true),"
        " set_config('jit', 'off', true)",
        [SERVICE_ROLE, tenant, json.dumps(actor)],
    )


def revisions(migrations: Path = MIGRATIONS) -> list[str]:
    """The revisions that this release knows, the newest first; each migration's file name begins with its own."""
    return sorted((path.name.split("_", 1)[0] for path in (migrations / "versions").glob("[0-9]*.py")), reverse=True)
