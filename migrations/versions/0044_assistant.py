"""Who runs the assistant's model, what it may cost, and the tools of others that it may use."""

from pathlib import Path

from migrations.rules import as_role, audited, isolate, run, versioned, within_years

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0044")
TABLES = ("assistant_settings", "assistant_usage", "mcp_servers")
SECRETS = """
    CREATE OR REPLACE FUNCTION crm_tenants_with_secrets() RETURNS SETOF text LANGUAGE sql STABLE
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        SELECT tenant_id FROM webhook_states {others}
    $$
"""
OTHERS = "UNION SELECT tenant_id FROM assistant_settings UNION SELECT tenant_id FROM mcp_servers"
EMAILED = "assigned,reminder,mentioned,job_failed,webhook_disabled,connection"


def upgrade() -> None:
    run((SQL / "assistant.sql").read_text())
    for table in TABLES:
        run(isolate(table))
    # A secret is not for the audit log, and nor is what others say of themselves.
    for table, kind, unaudited in (
        ("assistant_settings", "assistant_settings", ("secret",)),
        ("mcp_servers", "mcp_server", ("secret", "tools", "listed_at", "problem")),
    ):
        run(within_years(table) + versioned(table, unaudited) + audited(table, kind, unaudited))
        run(f"CREATE POLICY maintenance ON {table} FOR SELECT TO crm_maintenance USING (true)")
    as_role("crm_maintenance", SECRETS.format(others=OTHERS))
    _mailed(f"{EMAILED},assistant_failed")


def downgrade() -> None:
    """The keys are lost, and the counts of what was used."""
    _mailed(EMAILED)
    as_role("crm_maintenance", SECRETS.format(others=""))
    run(f"DROP TABLE {', '.join(TABLES)}")


def _mailed(kinds: str) -> None:
    run(f"ALTER TABLE notification_settings ALTER COLUMN emailed SET DEFAULT '{{{kinds}}}'")
