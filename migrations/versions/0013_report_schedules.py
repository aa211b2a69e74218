"""Reports that are made again and again."""

from pathlib import Path

from migrations.rules import audited, granted, isolate, own_only, owned_by, run, versioned, within_years

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0013")
TABLE = "report_schedules"
DERIVED = ("due_at", "last_job_id")
# Never who made it, and with which role.
WRITABLE = """
    name, report, format, "from", "to", owner_id, every, at, weekday, day, recipients, due_at, updated_at, version
"""


def upgrade() -> None:
    run((SQL / "schedules.sql").read_text())
    run(isolate(TABLE) + own_only(TABLE, "user_id = current_setting('crm.user', true)"))
    run(granted(TABLE, f"SELECT, INSERT, DELETE, UPDATE ({WRITABLE})"))
    run(within_years(TABLE) + versioned(TABLE, DERIVED) + audited(TABLE, "report_schedule", DERIVED))
    run(owned_by("crm_maintenance", "crm_run_report_schedules(bigint)"))


def downgrade() -> None:
    """Schedules are lost; what they have made stays."""
    run("""
        DROP TABLE report_schedules;
        DROP TRIGGER plan_reports ON settings;
        DROP FUNCTION crm_plan_report, crm_plan_reports, crm_run_report_schedules, crm_next_run;
    """)
