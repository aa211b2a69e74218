"""What must be true of the database before the service answers anybody."""

from __future__ import annotations

import psycopg
import structlog

from app.db.revisions import revision_of, revisions
from app.db.roles import SERVICE_ROLE

log = structlog.get_logger("startup")

CONNECT_SECONDS = 2
# First what the login and its roles may do, because a session can always RESET ROLE; then what crm_service may do.
POWERS = """
    SELECT session_user,
           EXISTS (SELECT FROM pg_roles WHERE (rolsuper OR rolbypassrls) AND pg_has_role(session_user, oid, 'MEMBER')),
           EXISTS (SELECT FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace
                   AND pg_has_role(session_user, relowner, 'MEMBER')),
           EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND (
               rolsuper OR rolbypassrls
               OR EXISTS (SELECT FROM pg_class WHERE relkind IN ('r', 'p') AND relowner = pg_roles.oid)))
"""


class UnsafeRoleError(Exception):
    """The database would not keep tenants apart for this login."""


def check_role(dsn: str, *, production: bool, name: str = "DATABASE_URL") -> None:
    """Refuse to start where row-level security does not bind the service. A database that is away is for /ready to say.
    `name` is the setting that the address is from.

    Raises UnsafeRoleError.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS) as connection:
            connection.execute("SELECT set_config('role', %s, true)", [SERVICE_ROLE])
            powers = connection.execute(POWERS).fetchone()
    except psycopg.Error:
        log.warning("the database can't be reached yet, or is not prepared", setting=name)
        return
    if powers is None:
        return
    login, passes, owns, lowered_passes = powers
    if lowered_passes:
        raise UnsafeRoleError(
            f"The role {SERVICE_ROLE} is a superuser, owns tables or bypasses row-level security:"
            " tenants would not be apart"
        )
    if passes and production:
        raise UnsafeRoleError(
            f"{name}: the login {login} is a superuser, or passes row-level security: tenants would not be apart."
            " Give the service a login of its own, without rights: CREATE ROLE crm LOGIN"
        )
    if (passes or owns) and production:
        log.warning(
            "the service's login owns the tables and could undo what keeps tenants apart: give it a login of its own"
            " in DATABASE_URL, and the owner's to crm db in MIGRATION_DATABASE_URL",
            login=login,
        )


def tell_missing_migrations(dsn: str) -> None:
    """Log that migrations are missing, if they are: /ready says so, too, but not everybody asks it, and what needs them
    fails in many ways.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS) as connection:
            found = revision_of(connection)
    except psycopg.Error:
        return  # the database is away, empty, or not prepared for this login: `check_role` says so
    known = revisions()
    if found in known and found != known[0]:
        log.error("migrations are missing: run crm db upgrade", database_at=found, release_needs=known[0])
