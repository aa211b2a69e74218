"""Closings are found by their time: with row-level security, a condition on coalesce() uses no index, and one on CASE
does.
"""

from migrations.rules import run

revision = "0035"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run("""
        DROP INDEX deals_live_closing_idx;
        CREATE INDEX deals_live_closing_idx ON deals (tenant_id, owner_id,
            (CASE WHEN actual_close_date IS NULL THEN expected_close_date ELSE actual_close_date END), id)
            WHERE deleted_at IS NULL;
    """)


def downgrade() -> None:
    run("""
        DROP INDEX deals_live_closing_idx;
        CREATE INDEX deals_live_closing_idx
            ON deals (tenant_id, owner_id, (coalesce(actual_close_date, expected_close_date)), id)
            WHERE deleted_at IS NULL;
    """)
