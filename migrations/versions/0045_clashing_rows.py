"""Rows of an import that clash are found in their order: one that is left out takes nothing from the others."""

from pathlib import Path

from migrations.rules import run

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0045")


def upgrade() -> None:
    run((SQL / "clashes.sql").read_text())


def downgrade() -> None:
    """The release before does not ask for them."""
    run("DROP FUNCTION crm_import_clashes")
