"""The index of visits in order has all that the funnel asks about them."""

from migrations.rules import run

revision = "0069"
down_revision = "0068"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("""
        CREATE INDEX stage_history_times_idx ON stage_history
            (tenant_id, to_stage_id, time_bucket, (left_at - entered_at))
            INCLUDE (deal_created_at, deal_owner_id, entered_at, left_at)
            WHERE left_at IS NOT NULL AND deal_created_at IS NOT NULL
    """)


def downgrade() -> None:
    run("DROP INDEX stage_history_times_idx")
