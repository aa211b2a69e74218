"""How long a visit of a stage took, as a column: row-level security lets no index be used for what is computed.

It rewrites the table, and nobody reads it meanwhile: its index is built later.
"""

from migrations.report_sums import TIME_BUCKET
from migrations.rules import run

revision = "0058"
down_revision = "0057"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A database that was made earlier has such an index of what is computed.
    run(f"""
        DROP INDEX IF EXISTS stage_history_time_idx;
        ALTER TABLE stage_history ADD COLUMN time_bucket integer GENERATED ALWAYS AS ({TIME_BUCKET}) STORED;
    """)


def downgrade() -> None:
    run("ALTER TABLE stage_history DROP COLUMN time_bucket")
