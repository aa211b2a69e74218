"""Nothing runs on schedule for somebody whose membership is not active."""

from migrations.rules import amend

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

FUNCTION = "crm_run_report_schedules(bigint)"
RUN = "        INSERT INTO jobs (tenant_id, kind, user_id,"
PASSED_OVER = """        IF EXISTS (
            SELECT FROM members
            WHERE members.tenant_id = due.tenant_id AND members.user_id = due.user_id AND NOT members.is_active
        ) THEN
            UPDATE report_schedules
            SET due_at = crm_next_run(due.every, due.at, due.weekday, due.day, due.timezone, now())
            WHERE tenant_id = due.tenant_id AND id = due.id;
            CONTINUE;
        END IF;
"""


def upgrade() -> None:
    amend(FUNCTION, RUN, PASSED_OVER + RUN, role="crm_maintenance")


def downgrade() -> None:
    amend(FUNCTION, PASSED_OVER + RUN, RUN, role="crm_maintenance")
