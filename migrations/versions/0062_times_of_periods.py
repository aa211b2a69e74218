"""How long visits of stages took is counted by the day that the deal was created, for the funnel of a period."""

from importlib import import_module

revision = "0062"
down_revision = "0061"
branch_labels = None
depends_on = None

upgrade = import_module("migrations.versions.0057_sums_compared").upgrade


def downgrade() -> None:
    """Nothing: migration 0051 drops the functions."""
