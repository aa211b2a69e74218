"""What was there was added up once more here. Migration 0079 does it now, with what came later."""

revision = "0068"
down_revision = "0067"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing any more."""


def downgrade() -> None:
    """Nothing."""
