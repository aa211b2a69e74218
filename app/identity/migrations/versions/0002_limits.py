"""What limits are counted by, the parameters of hashes, and answers that are kept under a client's key."""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0002") / "limits.sql"


def upgrade() -> None:
    op.get_bind().connection.cursor().execute(SQL.read_text())


def downgrade() -> None:
    op.get_bind().connection.cursor().execute("""
        DROP FUNCTION prune(bigint, bigint, bigint);
        ALTER FUNCTION prune_entries(bigint, bigint, bigint) RENAME TO prune;
        GRANT EXECUTE ON FUNCTION prune(bigint, bigint, bigint) TO crm_identity;
        DROP TABLE idempotency_keys;
        DROP INDEX credentials_parameters_idx, auth_events_email_idx;
    """)
