"""Deliveries keep their order, whatever happens to who takes them."""

from pathlib import Path

from migrations.rules import as_role, run, within_years

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0013")


def upgrade() -> None:
    run((SQL / "claims.sql").read_text())
    run(within_years("webhook_deliveries"))
    as_role("crm_maintenance", (SQL / "functions.sql").read_text())


def downgrade() -> None:
    """The release before does not use the new column, and the functions are right without it: nothing is undone."""
