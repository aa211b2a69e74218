"""Webhooks: events that are sent to other systems."""

from pathlib import Path

from migrations.rules import audited, isolate, owned_by, run, versioned, within_years

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0012")
TABLES = ("webhooks", "webhook_states", "webhook_deliveries")
FUNCTIONS = (
    "crm_webhooks_behind()",
    "crm_webhooks_due()",
    "crm_tend_webhooks()",
    "crm_prune_webhooks(bigint, bigint)",
    "crm_tenants_with_secrets()",
)


def upgrade() -> None:
    run((SQL / "webhooks.sql").read_text())
    for table in TABLES:
        run(isolate(table) + within_years(table))
    run(versioned("webhooks") + audited("webhooks", "webhook"))
    run(f"GRANT EXECUTE ON FUNCTION {', '.join(FUNCTIONS)} TO crm_service")
    run(owned_by("crm_maintenance", *FUNCTIONS))


def downgrade() -> None:
    """The webhooks are lost, with their secrets."""
    run(f"DROP FUNCTION {', '.join(FUNCTIONS)}; DROP TABLE {', '.join(TABLES)}")
