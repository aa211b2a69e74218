"""The index of visits in its older form goes: the one of migration 0064 is used in its place."""

from migrations.rules import run

revision = "0065"
down_revision = "0064"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("DROP INDEX IF EXISTS stage_history_time_idx")


def downgrade() -> None:
    """Nothing: an older release finds the visits in the other index as well."""
