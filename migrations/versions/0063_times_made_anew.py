"""What was there was added up again here. Migration 0079 does it now, with what came later."""

revision = "0063"
down_revision = "0062"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing any more."""


def downgrade() -> None:
    """Nothing."""
