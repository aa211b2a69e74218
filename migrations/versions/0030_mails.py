"""Mails to people of the organization."""

from pathlib import Path

from migrations.rules import isolate, on_each_statement, owned_by, run, within_years

revision = "0030"
down_revision = "0028"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0030")
TABLES = ("mails", "refused_addresses")
FUNCTIONS = (
    "crm_due_mails(bigint)",
    "crm_tend_mails(bigint, bigint)",
    "crm_prune_mails(bigint, bigint)",
    "crm_make_digests()",
)


def upgrade() -> None:
    for part in ("mails", "occasions"):
        run((SQL / f"{part}.sql").read_text())
    for table in TABLES:
        run(isolate(table) + within_years(table))
    run(f"GRANT EXECUTE ON FUNCTION {', '.join(FUNCTIONS)} TO crm_service")
    run("GRANT EXECUTE ON FUNCTION crm_after_quiet(timestamptz, text, text, text) TO crm_maintenance")
    run(on_each_statement("mail", "INSERT", "notifications", "crm_mail_notifications()"))
    run(owned_by("crm_maintenance", *FUNCTIONS, "crm_mail_notifications()"))
    run("ALTER TABLE reminder_progress DROP CONSTRAINT reminder_progress_years_check")
    run(within_years("reminder_progress"))


def downgrade() -> None:
    """What waits is not sent."""
    run(f"""
        DROP TRIGGER mail_insert ON notifications;
        DROP FUNCTION crm_mail_notifications, crm_after_quiet, {", ".join(FUNCTIONS)};
        DROP INDEX notification_settings_digest_idx;
        ALTER TABLE reminder_progress DROP CONSTRAINT reminder_progress_years_check, DROP COLUMN digests_until;
        DROP TABLE {", ".join(TABLES)};
        DROP TRIGGER forget ON job_files;
        DROP FUNCTION crm_forget_document;
        ALTER TABLE job_files DROP COLUMN document;
    """)
    run(within_years("reminder_progress"))
