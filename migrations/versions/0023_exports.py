"""Exports are in the audit log; archives of organizations are files of jobs in the object store."""

from pathlib import Path

from migrations.rules import owned_by, run, within_years

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0023")


def upgrade() -> None:
    run((SQL / "exports.sql").read_text())
    run(within_years("job_files"))
    run(owned_by("crm_maintenance", "crm_remove_archive()", "crm_empty_archives()", "crm_drop_old_archives(bigint)"))


def downgrade() -> None:
    """Archives are lost, and their objects stay in the store."""
    run("""
        DROP TRIGGER archive ON job_files;
        DROP TRIGGER archive_update ON job_files;
        DROP TRIGGER archives ON audit_entries;
        DROP FUNCTION crm_log_export, crm_drop_old_archives, crm_remove_archive, crm_empty_archives;
        DROP POLICY maintenance ON job_files;
        ALTER TABLE job_files NO FORCE ROW LEVEL SECURITY;
        DELETE FROM job_files WHERE expires_at IS NOT NULL;
        ALTER TABLE job_files FORCE ROW LEVEL SECURITY;
        ALTER TABLE job_files DROP COLUMN object_key, DROP COLUMN size, DROP COLUMN expires_at;
        REVOKE ALL ON job_files FROM crm_maintenance;
    """)
