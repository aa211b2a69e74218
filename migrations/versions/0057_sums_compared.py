"""The sums of reports can be compared with the rows. For databases that had these functions in an older form."""

from migrations.report_sums import drop_functions, make_functions

revision = "0057"
down_revision = "0056"
branch_labels = None
depends_on = None


def upgrade() -> None:
    drop_functions()
    make_functions(visits_copy=False, customers_kept=False)


def downgrade() -> None:
    """Nothing: migration 0051 drops the functions."""
