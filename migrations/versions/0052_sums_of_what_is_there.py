"""What is there already is added up for the reports. A transaction of its own, in which nobody waits for it."""

from migrations.rules import rows, run

revision = "0052"
down_revision = "0051"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # This role sees the organizations; the owner would have to lift row-level security, which locks their settings.
    run("SET LOCAL ROLE crm_maintenance")
    tenants = rows("SELECT tenant_id FROM settings ORDER BY 1")
    run("RESET ROLE")
    for tenant in tenants:
        rows("SELECT crm_add_up_reports(%s)", tenant)


def downgrade() -> None:
    """Nothing: migration 0051 drops the sums."""
