"""Reminders of follow-ups and closings are found by time first, and then by person."""

from migrations.rules import as_role, rows

revision = "0038"
down_revision = "0036"
branch_labels = None
depends_on = None

FUNCTION = "crm_remind(bigint)"
# Else a plan may go through all records of each person. OFFSET keeps the planner from putting them together.
CHANGES = {
    """FROM leads JOIN customers ON next_follow_up_at > since + lead AND next_follow_up_at <= now() + lead
            JOIN notification_settings AS person ON person.tenant_id = customers.tenant_id AND user_id = assigned_to
        WHERE resource_type = 'customer' AND deleted_at IS NULL AND timezone('UTC', next_follow_up_at)::time <> '00:00'
            AND make_interval""": """FROM leads CROSS JOIN LATERAL (
            SELECT tenant_id, id, assigned_to, next_follow_up_at FROM customers
            WHERE next_follow_up_at > since + lead AND next_follow_up_at <= now() + lead AND deleted_at IS NULL
                AND timezone('UTC', next_follow_up_at)::time <> '00:00' OFFSET 0
        ) AS customers
            JOIN notification_settings AS person ON person.tenant_id = customers.tenant_id AND user_id = assigned_to
        WHERE resource_type = 'customer' AND make_interval""",
    """FROM leads JOIN deals ON expected_close_date > since + lead AND expected_close_date <= now() + lead
            JOIN notification_settings AS person ON person.tenant_id = deals.tenant_id AND user_id = owner_id
            JOIN pipeline_stages AS stage ON stage.tenant_id = deals.tenant_id AND stage.id = stage_id
        WHERE resource_type = 'deal' AND deals.deleted_at IS NULL AND stage.kind = 'open'
            AND timezone('UTC', expected_close_date)::time <> '00:00' AND make_interval""": """\
FROM leads CROSS JOIN LATERAL (
            SELECT tenant_id, id, owner_id, stage_id, expected_close_date FROM deals
            WHERE expected_close_date > since + lead AND expected_close_date <= now() + lead AND deleted_at IS NULL
                AND timezone('UTC', expected_close_date)::time <> '00:00' OFFSET 0
        ) AS deals
            JOIN notification_settings AS person ON person.tenant_id = deals.tenant_id AND user_id = owner_id
            JOIN pipeline_stages AS stage ON stage.tenant_id = deals.tenant_id AND stage.id = stage_id
        WHERE resource_type = 'deal' AND stage.kind = 'open' AND make_interval""",
}


def upgrade() -> None:
    _replace(CHANGES)
    as_role("crm_maintenance", f"ALTER FUNCTION {FUNCTION} SET jit TO off")


def downgrade() -> None:
    """They are found as before."""
    _replace({after: before for before, after in CHANGES.items()})
    as_role("crm_maintenance", f"ALTER FUNCTION {FUNCTION} RESET jit")


def _replace(changes: dict[str, str]) -> None:
    ((definition,),) = rows("SELECT pg_get_functiondef(%s::regprocedure)", [FUNCTION])
    for before, after in changes.items():
        if definition.count(before) != 1:
            raise ValueError(f"{FUNCTION} does not have exactly once: {before}")
        definition = definition.replace(before, after)
    as_role("crm_maintenance", definition)
