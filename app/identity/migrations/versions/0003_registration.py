"""A registration is one statement, whether the email is known or not."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0003") / "registration.sql"


def upgrade() -> None:
    op.get_bind().connection.cursor().execute(SQL.read_text())


def downgrade() -> None:
    op.get_bind().connection.cursor().execute("DROP FUNCTION register(text, text, text, text, text, text)")
