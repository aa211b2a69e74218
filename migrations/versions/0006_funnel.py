"""The ways of deals through the stages, from an index alone: the funnel reads those of a whole organization."""

from migrations.rules import run

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("""
        DROP INDEX stage_history_deal_idx;
        CREATE INDEX stage_history_deal_idx ON stage_history (tenant_id, deal_id, id) INCLUDE (to_stage_id);
    """)


def downgrade() -> None:
    run("""
        DROP INDEX stage_history_deal_idx;
        CREATE INDEX stage_history_deal_idx ON stage_history (tenant_id, deal_id, id);
    """)
