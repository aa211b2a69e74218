"""How long a visit of a stage took, as a column: row-level security lets no index be used for what is computed."""

from migrations.report_sums import TIME_BUCKET
from migrations.rules import run

revision = "0058"
down_revision = "0057"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run(f"""
        DROP INDEX stage_history_time_idx;
        ALTER TABLE stage_history ADD COLUMN time_bucket integer GENERATED ALWAYS AS ({TIME_BUCKET}) STORED;
        CREATE INDEX stage_history_time_idx ON stage_history (tenant_id, to_stage_id, time_bucket)
            WHERE left_at IS NOT NULL;
    """)


def downgrade() -> None:
    run(f"""
        ALTER TABLE stage_history DROP COLUMN time_bucket;
        CREATE INDEX stage_history_time_idx ON stage_history (tenant_id, to_stage_id, ({TIME_BUCKET}))
            WHERE left_at IS NOT NULL;
    """)
