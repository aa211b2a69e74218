"""What is there already is added up again, in the form of the migration before: others go on meanwhile."""

from importlib import import_module

revision = "0063"
down_revision = "0062"
branch_labels = None
depends_on = None

upgrade = import_module("migrations.versions.0052_sums_of_what_is_there").upgrade


def downgrade() -> None:
    """Nothing: migration 0051 drops the sums."""
