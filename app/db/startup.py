"""What must be true of the database before the service answers anybody."""

from __future__ import annotations

import psycopg
import structlog

from app.db.schema import SERVICE_ROLE

log = structlog.get_logger("startup")

CONNECT_SECONDS = 2
POWERS = """
    SELECT current_user,
           rolsuper OR rolbypassrls
           OR EXISTS (SELECT FROM pg_class WHERE relkind IN ('r', 'p') AND relowner = pg_roles.oid)
    FROM pg_roles WHERE rolname = current_user
"""


class UnsafeRoleError(Exception):
    """The database would not keep tenants apart for this login."""


def check_role(dsn: str) -> None:
    """Refuse to start as a role that row-level security does not bind. A database that is away is for /ready to say.

    Raises UnsafeRoleError.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS) as connection:
            connection.execute("SELECT set_config('role', %s, true)", [SERVICE_ROLE])
            powers = connection.execute(POWERS).fetchone()
    except psycopg.Error:
        log.warning("the database can't be reached yet, or is not prepared")
        return
    if powers is not None and powers[1]:
        raise UnsafeRoleError(
            f"The role {powers[0]} is a superuser, owns tables or bypasses row-level security:"
            " tenants would not be apart"
        )
