"""Reminders are found by time, also before a table has statistics: right after much was imported or restored."""

from migrations.rules import amend

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None

FUNCTION = "crm_remind(bigint)"
PERSON = "            JOIN notification_settings AS person ON person.tenant_id = settings.tenant_id AND user_id ="
# OFFSET keeps the planner from going through all records first, to ask for each whether its day has ended. The order
# tells it which of several indexes is meant.
CHANGES = {
    f"        ) AS {record}\n": f"            ORDER BY {moment} OFFSET 0\n        ) AS {record}\n"
    for record, moment in (
        ("activity", "due_date"),
        ("project", "due_date"),
        ("customer", "next_follow_up_at"),
        ("deal", "expected_close_date"),
    )
} | {
    """        FROM activities
        WHERE deleted_at IS NULL AND status = 'scheduled' AND NOT all_day AND due_date > since AND due_date <= now()
""": """        FROM (
            SELECT tenant_id, assigned_to, id, due_date FROM activities
            WHERE deleted_at IS NULL AND status = 'scheduled' AND NOT all_day AND due_date > since
                AND due_date <= now()
            ORDER BY due_date OFFSET 0
        ) AS passed
""",
    # Whose they are is looked up for the few that were found, not before.
    f"""{PERSON} assigned_to
        WHERE resource_type = 'customer' AND make_interval(mins => follow_up_minutes) = lead
""": """        WHERE resource_type = 'customer' AND lead = (
            SELECT make_interval(mins => follow_up_minutes) FROM notification_settings AS person
            WHERE person.tenant_id = settings.tenant_id AND user_id = assigned_to
        )
""",
    f"""{PERSON} owner_id
            JOIN pipeline_stages AS stage ON stage.tenant_id = settings.tenant_id AND stage.id = stage_id
        WHERE resource_type = 'deal' AND stage.kind = 'open' AND make_interval(mins => closing_minutes) = lead
""": """            JOIN pipeline_stages AS stage ON stage.tenant_id = settings.tenant_id AND stage.id = stage_id
        WHERE resource_type = 'deal' AND stage.kind = 'open' AND lead = (
            SELECT make_interval(mins => closing_minutes) FROM notification_settings AS person
            WHERE person.tenant_id = settings.tenant_id AND user_id = owner_id
        )
""",
}


def upgrade() -> None:
    for before, after in CHANGES.items():
        amend(FUNCTION, before, after, role="crm_maintenance")


def downgrade() -> None:
    """They are found as before."""
    for before, after in CHANGES.items():
        amend(FUNCTION, after, before, role="crm_maintenance")
