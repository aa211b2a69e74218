"""What people are told, and when they are reminded."""

from pathlib import Path

from migrations.rules import array, as_role, granted, isolate, on_each_statement, owned_by, run, within_years

revision = "0029"
down_revision = "0026"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0029")
TABLES = ("notifications", "notification_settings", "reminder_progress")
# What notifications are about. Jobs and imports come and go without an erasure.
FORGOTTEN = {
    "customers": "customer",
    "deals": "deal",
    "activities": "activity",
    "notes": "note",
    "webhooks": "webhook",
}
FUNCTIONS = (
    "crm_begin_notifications()",
    "crm_forget_notifications()",
    "crm_prune_notifications(bigint, bigint)",
    "crm_remind(bigint)",
)
READ_FOR_REMINDERS = {
    "activities": "tenant_id, id, status, assigned_to, due_date, all_day, remind_at, deleted_at",
    "customers": "tenant_id, id, assigned_to, next_follow_up_at, deleted_at",
    "deals": "tenant_id, id, owner_id, stage_id, expected_close_date, deleted_at",
    "pipeline_stages": "tenant_id, id, kind",
}
WRITABLE = (
    "hidden, emailed, digest, digest_at, quiet_from, quiet_to, timezone, locale, follow_up_minutes, closing_minutes"
)


def upgrade() -> None:
    for part in ("notifications", "reminders"):
        run((SQL / f"{part}.sql").read_text())
    for table in TABLES:
        run(isolate(table))
    for table in ("notifications", "notification_settings"):
        # The service itself, which is nobody, sees those of all persons of a tenant.
        run(f"""
            CREATE POLICY person ON {table} AS RESTRICTIVE USING (
                current_user <> ALL ({array(("crm_service", "crm_service_own"))}::name[])
                OR coalesce(current_setting('crm.user', true), '') IN ('', user_id)
            );
            CREATE POLICY maintenance ON {table} TO crm_maintenance USING (true);
        """)
    run(granted("notifications", "SELECT, INSERT, UPDATE (read_at, data)"))
    run(granted("notification_settings", f"SELECT, UPDATE ({WRITABLE})"))
    for table in ("notifications", "reminder_progress", "activities"):
        run(within_years(table))
    for table, columns in READ_FOR_REMINDERS.items():
        run(f"""
            CREATE POLICY maintenance ON {table} FOR SELECT TO crm_maintenance USING (true);
            GRANT SELECT ({columns}) ON {table} TO crm_maintenance;
        """)
    run("""
        CREATE POLICY maintenance ON reminder_progress TO crm_maintenance USING (true);
        GRANT SELECT, UPDATE ON reminder_progress TO crm_maintenance;
        GRANT SELECT, INSERT, UPDATE (data), DELETE ON notifications TO crm_maintenance;
        GRANT SELECT, INSERT ON notification_settings TO crm_maintenance;
        GRANT SELECT (job_id) ON imports TO crm_maintenance;
        GRANT SELECT (user_id, kind) ON jobs TO crm_maintenance;
        GRANT EXECUTE ON FUNCTION crm_prune_notifications(bigint, bigint), crm_remind(bigint) TO crm_service;
    """)
    for table, kind in FORGOTTEN.items():
        run(on_each_statement("notified", "DELETE", table, f"crm_forget_notifications('{kind}')"))
    # Everybody who is there has settings; of what happened before, nobody is told.
    run("""
        ALTER TABLE users NO FORCE ROW LEVEL SECURITY;
        ALTER TABLE notification_settings NO FORCE ROW LEVEL SECURITY;
        INSERT INTO notification_settings (tenant_id, user_id) SELECT tenant_id, id FROM users;
        ALTER TABLE users FORCE ROW LEVEL SECURITY;
        ALTER TABLE notification_settings FORCE ROW LEVEL SECURITY;
    """)
    as_role("crm_maintenance", "SELECT crm_lead_feed('notifications', gen_random_uuid(), 0)")
    run(owned_by("crm_maintenance", *FUNCTIONS))


def downgrade() -> None:
    """Notifications are lost, and so are the times of reminders."""
    run("""
        DROP FUNCTION crm_remind, crm_prune_notifications;
        DROP FUNCTION crm_begin_notifications, crm_forget_notifications CASCADE;
        DROP TABLE notifications, notification_settings, reminder_progress;
        DROP INDEX activities_remind_at_idx, activities_due_idx, customers_follow_up_idx, deals_closing_idx,
            imports_job_idx;
    """)
    for table, columns in READ_FOR_REMINDERS.items():
        run(f"DROP POLICY maintenance ON {table}; REVOKE SELECT ({columns}) ON {table} FROM crm_maintenance")
    run("ALTER TABLE activities DROP CONSTRAINT activities_years_check, DROP COLUMN remind_at")
    run(within_years("activities"))
    run("""
        REVOKE SELECT (job_id) ON imports FROM crm_maintenance;
        REVOKE SELECT (user_id, kind) ON jobs FROM crm_maintenance;
        ALTER TABLE feed_places NO FORCE ROW LEVEL SECURITY;
        ALTER TABLE feed_readers NO FORCE ROW LEVEL SECURITY;
        DELETE FROM feed_places WHERE reader = 'notifications';
        DELETE FROM feed_readers WHERE reader = 'notifications';
        ALTER TABLE feed_places FORCE ROW LEVEL SECURITY;
        ALTER TABLE feed_readers FORCE ROW LEVEL SECURITY;
    """)
