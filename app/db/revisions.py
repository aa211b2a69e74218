"""The migrations by their names, without Alembic, which takes a second to load."""

from __future__ import annotations

from pathlib import Path

import psycopg
from psycopg import sql

MIGRATIONS = Path(__file__).parents[2] / "migrations"
VERSION_TABLE = "crm_migrations"
# The name under which the server shows who migrates.
SESSION_NAME = "crm-migrations"


def revisions(migrations: Path = MIGRATIONS) -> list[str]:
    """The revisions that this release knows, the newest first; each migration's file name begins with its own."""
    return sorted((path.name.split("_", 1)[0] for path in (migrations / "versions").glob("[0-9]*.py")), reverse=True)


def revision_of(connection: psycopg.Connection) -> str | None:
    """The database's own revision, None where no migration was made. Raises UndefinedTable where none ever was, and
    InsufficientPrivilege where the login may not know.
    """
    found = connection.execute(sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(VERSION_TABLE))).fetchone()
    return found[0] if found else None


def is_current(service_dsn: str) -> bool:
    """Whether a database that can be reached has all migrations of this release, and has let the service's login in."""
    with psycopg.connect(service_dsn) as connection:
        try:
            return revision_of(connection) == revisions()[0]
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
            return False
