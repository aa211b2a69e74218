"""Overdue projects are told, quiet hours hold back what waits already, and refused addresses are tried again after a
year.
"""

from pathlib import Path

from migrations.rules import amend, owned_by, run

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0043") / "people.sql"
REMIND, PRUNE = "crm_remind(bigint)", "crm_prune_mails(bigint, bigint)"
OF_ACTIVITIES = "        WHERE resource_type = 'activity'\n"
OF_PROJECTS = """\
        UNION ALL
        SELECT settings.tenant_id, owner_id, 'overdue', 'project', project.id,
            timezone(timezone, timezone('UTC', due_date)::date + interval '1 day'), due_date, due_date, true
        FROM days JOIN settings USING (timezone) CROSS JOIN LATERAL (
            SELECT owner_id, id, due_date FROM projects
            WHERE projects.tenant_id = settings.tenant_id AND deleted_at IS NULL
                AND status IN ('planned', 'in_progress', 'on_hold') AND due_date >= days.first AND due_date < days.last
        ) AS project
        WHERE resource_type = 'activity'
"""
COUNTED = "    GET DIAGNOSTICS count = ROW_COUNT;\n"
REFUSED = """\
    -- An address that was refused may be there again after a year.
    DELETE FROM refused_addresses WHERE (tenant_id, address_folded) IN (
        SELECT tenant_id, address_folded FROM refused_addresses
        WHERE refused_at < now() - interval '1 year' ORDER BY refused_at LIMIT most
    );
"""


def upgrade() -> None:
    run(SQL.read_text())
    run(owned_by("crm_maintenance", "crm_hold_mails()"))
    amend(REMIND, OF_ACTIVITIES, OF_ACTIVITIES + OF_PROJECTS, role="crm_maintenance")
    amend(PRUNE, COUNTED, COUNTED + REFUSED, role="crm_maintenance")


def downgrade() -> None:
    """Overdue projects are not told, and refused addresses stay."""
    amend(REMIND, OF_ACTIVITIES + OF_PROJECTS, OF_ACTIVITIES, role="crm_maintenance")
    amend(PRUNE, REFUSED, "", role="crm_maintenance")
    run("""
        DROP TRIGGER quiet ON notification_settings;
        DROP FUNCTION crm_hold_mails;
        REVOKE UPDATE (due_at) ON mails FROM crm_maintenance;
        DROP POLICY maintenance ON refused_addresses;
        REVOKE SELECT, DELETE ON refused_addresses FROM crm_maintenance;
        DROP INDEX refused_addresses_refused_at_idx;
        DROP POLICY maintenance ON projects;
        REVOKE SELECT (tenant_id, id, owner_id, status, due_date, deleted_at) ON projects FROM crm_maintenance;
    """)
