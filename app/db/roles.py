"""The roles of the database, and how a transaction becomes one of a role and a tenant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import psycopg

SERVICE_ROLE = "crm_service"
# The same rights, limited by policies to what belongs to the person who asks.
OWN_RECORDS_ROLE = "crm_service_own"
# Owns the search functions, and may read what they search.
SEARCH_ROLE = "crm_search"
# Owns the functions that work across tenants: for `crm attachments`, and for sealing and pruning.
MAINTENANCE_ROLE = "crm_maintenance"
# As this role `crm audit` reads the logs of all tenants. The service's login may not act as it.
AUDITOR_ROLE = "crm_auditor"
# What `crm identity` runs as. Of the CRM it may call the functions that shut a former member out, and nothing else.
IDENTITY_ROLE = "crm_identity"
ROLES = (SERVICE_ROLE, OWN_RECORDS_ROLE, SEARCH_ROLE, MAINTENANCE_ROLE, AUDITOR_ROLE, IDENTITY_ROLE)


def set_for_transaction(settings: Mapping[str, str]) -> str:
    """A statement that sets these until the transaction ends; the values are SQL: literals or placeholders."""
    return "SELECT " + ", ".join(f"set_config('{name}', {value}, true)" for name, value in settings.items())


def enter_tenant(connection: psycopg.Connection[Any], tenant: str, actor: Mapping[str, str]) -> None:
    """Make the open transaction one of this tenant, as the service's own role; for commands, which have no request."""
    settings = {"role": "%s", "crm.tenant": "%s", "crm.actor": "%s", "jit": "'off'"}
    connection.execute(set_for_transaction(settings), [SERVICE_ROLE, tenant, json.dumps(actor)])
