"""What is there already is added up for the reports. A transaction of its own, in which nobody waits for it."""

from migrations.rules import rows, tenants

revision = "0068"
down_revision = "0067"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for tenant in tenants():
        rows("SELECT crm_add_up_reports(%s)", [tenant])


def downgrade() -> None:
    """Nothing: migration 0051 drops the sums."""
