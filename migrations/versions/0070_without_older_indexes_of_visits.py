"""Older indexes of visits go: the one of migration 0069 is used in their place. A new database never had them."""

from migrations.rules import run

revision = "0070"
down_revision = "0069"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("DROP INDEX IF EXISTS stage_history_took_idx, stage_history_time_idx")


def downgrade() -> None:
    """Nothing: a new database never had them."""
