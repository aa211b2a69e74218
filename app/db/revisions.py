"""The migrations by their names, without Alembic, which no worker loads."""

from __future__ import annotations

from pathlib import Path

MIGRATIONS = Path(__file__).parents[2] / "migrations"
VERSION_TABLE = "crm_migrations"


def revisions(migrations: Path = MIGRATIONS) -> list[str]:
    """The revisions that this release knows, the newest first; each migration's file name begins with its own."""
    return sorted((path.name.split("_", 1)[0] for path in (migrations / "versions").glob("[0-9]*.py")), reverse=True)
