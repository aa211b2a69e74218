"""Old audit entries are deleted, and the chain begins after them."""

from pathlib import Path

from migrations.rules import as_role, counted, owned_by, run

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0005")


def upgrade() -> None:
    run((SQL / "cuts.sql").read_text())
    run(counted("audit_entries", "resource_type", "true", events=("DELETE",)))
    run(owned_by("crm_maintenance", "crm_cut_audit(bigint)"))


def downgrade() -> None:
    as_role("crm_maintenance", "DROP FUNCTION crm_cut_audit")
    run("""
        DROP FUNCTION crm_count_audit_entries_delete CASCADE;
        DROP POLICY maintenance ON settings;
        DROP POLICY cutting ON audit_entries;
        REVOKE SELECT (tenant_id, audit_days) ON settings FROM crm_maintenance;
        REVOKE DELETE ON audit_entries, audit_seals FROM crm_maintenance;
    """)
