"""The migrations of a release that comes later: this one's, and one more."""

from __future__ import annotations

import shutil
from pathlib import Path

from app.db.revisions import MIGRATIONS, revisions

MIGRATION = """\
from migrations.rules import rows, run
from alembic import context

revision, down_revision, branch_labels, depends_on = "9999", {last!r}, None, None


def upgrade():
    told = context.config.attributes["told"]
{body}
"""


def with_next(folder: Path, body: str) -> Path:
    """A copy of the migrations in this folder, with one more, whose `upgrade` has this body."""
    copy = folder / "migrations"
    shutil.copytree(MIGRATIONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (copy / "versions" / "9999_next.py").write_text(MIGRATION.format(last=revisions()[0], body=lines))
    return copy
