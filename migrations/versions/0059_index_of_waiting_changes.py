"""What waits longest is found by an index. Each index has a transaction of its own, in which nothing else is locked."""

from migrations.rules import run

revision = "0059"
down_revision = "0058"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A database that was made earlier has it.
    run("CREATE INDEX IF NOT EXISTS report_changes_waiting_idx ON report_changes (id)")


def downgrade() -> None:
    run("DROP INDEX report_changes_waiting_idx")
