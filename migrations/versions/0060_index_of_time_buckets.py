"""How long visits of a stage took is found by an index, in which those that took about as long are in order."""

from migrations.rules import run

revision = "0060"
down_revision = "0059"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A database that was made earlier has it.
    run("""
        CREATE INDEX IF NOT EXISTS stage_history_took_idx
            ON stage_history (tenant_id, to_stage_id, time_bucket, (left_at - entered_at)) WHERE left_at IS NOT NULL
    """)


def downgrade() -> None:
    run("DROP INDEX IF EXISTS stage_history_took_idx")
