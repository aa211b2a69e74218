"""Visits of a stage that took about as long are in order in their index. For databases that had it in an older form."""

from importlib import import_module

revision = "0064"
down_revision = "0063"
branch_labels = None
depends_on = None

upgrade = import_module("migrations.versions.0060_index_of_time_buckets").upgrade


def downgrade() -> None:
    """Nothing: migration 0060 drops the index."""
