"""Users, organizations and sessions, and everything else that logging in takes."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0001") / "identity.sql"


def upgrade() -> None:
    op.get_bind().connection.cursor().execute(SQL.read_text())


def downgrade() -> None:
    """All of it is lost: nobody can log in any more."""
    op.get_bind().connection.cursor().execute("""
        DROP TABLE mails, refused_addresses, auth_events, refresh_tokens, sessions, one_time_links, invitations,
            credentials;
        ALTER TABLE organizations DROP CONSTRAINT organizations_owner_fkey;
        DROP TABLE memberships, organizations, users;
        DROP FUNCTION keep_an_admin(), prune(bigint, bigint, bigint);
    """)
