"""Calendars elsewhere that are kept equal to what a person has to do."""

from pathlib import Path

from migrations.rules import as_role, granted, isolate, owned_by, run, within_years

revision = "0053"
down_revision = "0052"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0053")
TABLES = ("calendar_connections", "calendar_entries", "oauth_states")
SECRETS = """
    CREATE OR REPLACE FUNCTION crm_tenants_with_secrets() RETURNS SETOF text LANGUAGE sql STABLE
    SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        SELECT tenant_id FROM webhook_states {others}
    $$
"""
OTHERS = "UNION SELECT tenant_id FROM assistant_settings UNION SELECT tenant_id FROM mcp_servers"
SIGNED_OUT = """
    CREATE TRIGGER calendars AFTER UPDATE OF signed_out_at ON members FOR EACH ROW
        WHEN (NEW.signed_out_at IS DISTINCT FROM OLD.signed_out_at) EXECUTE FUNCTION crm_sign_out_calendars()
"""


def upgrade() -> None:
    run((SQL / "connections.sql").read_text())
    for table in TABLES:
        run(within_years(table))
    run(isolate("calendar_entries"))
    run("CREATE POLICY maintenance ON calendar_entries FOR SELECT TO crm_maintenance USING (true)")
    run(
        granted(
            "calendar_connections",
            "SELECT, INSERT, DELETE, UPDATE (account, calendar, calendar_name, secret, status, vanished, decision,"
            " sync_token, listed_at, next_sync_at, claimed_until, operation_id, failures, last_error, last_synced_at)",
        )
    )
    run(granted("calendar_entries", "SELECT, INSERT, UPDATE, DELETE"))
    run(granted("oauth_states", "SELECT, INSERT, DELETE"))
    run(owned_by("crm_maintenance", "crm_claim_calendars(bigint, double precision)", "crm_wake_calendars(bigint)"))
    run(SIGNED_OUT)
    run(owned_by("crm_maintenance", "crm_sign_out_calendars()"))
    as_role("crm_maintenance", SECRETS.format(others=f"{OTHERS} UNION SELECT tenant_id FROM calendar_connections"))


def downgrade() -> None:
    """Calendars are no longer connected; what is in them stays there."""
    as_role("crm_maintenance", SECRETS.format(others=OTHERS))
    run("DROP TRIGGER calendars ON members")
    run("DROP FUNCTION crm_claim_calendars, crm_wake_calendars, crm_sign_out_calendars")
    run("DROP TABLE oauth_states, calendar_entries, calendar_connections")
