"""Activities of whole days, of nobody but oneself, and in the order of an agenda."""

from migrations.row_rules import audited
from migrations.rules import run, versioned

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

DERIVED_BEFORE = ("title_folded", "type_rank", "priority_rank")
DERIVED = (*DERIVED_BEFORE, "closed_at")


def _triggers(derived: tuple[str, ...]) -> str:
    return f"""
        DROP TRIGGER version ON activities;
        DROP TRIGGER audit ON activities;
        {versioned("activities", derived)}
        {audited("activities", "activity", derived)}
    """


def upgrade() -> None:
    run(f"""
        ALTER TABLE activities ADD COLUMN all_day boolean NOT NULL DEFAULT false;
        -- The older tasks are told apart while the table is written anew, so that no trigger sees a change.
        ALTER TABLE activities
            DROP CONSTRAINT activities_link_check,
            ALTER COLUMN all_day TYPE boolean USING
                type = 'task' AND coalesce(due_date = date_trunc('day', due_date, 'UTC'), false),
            ADD CONSTRAINT activities_all_day_check
                CHECK (NOT all_day OR (due_date AT TIME ZONE 'UTC')::time = '00:00'),
            ADD COLUMN closed_at timestamptz GENERATED ALWAYS AS
                (CASE WHEN status <> 'scheduled' THEN coalesce(completed_at, updated_at) END) STORED;
        DROP INDEX activities_live_status_due_date_idx;
        CREATE INDEX activities_live_status_due_date_idx ON activities (tenant_id, status, due_date, id)
            INCLUDE (all_day) WHERE deleted_at IS NULL;
        DROP INDEX activities_live_due_date_idx;
        CREATE INDEX activities_live_due_date_idx ON activities (tenant_id, due_date, id) INCLUDE (all_day)
            WHERE deleted_at IS NULL;
        CREATE INDEX activities_live_closed_at_idx ON activities (tenant_id, closed_at, id) WHERE deleted_at IS NULL;
        CREATE INDEX activities_closed_by_idx ON activities (tenant_id, assigned_to, closed_at, id)
            WHERE deleted_at IS NULL;
        CREATE INDEX activities_open_idx ON activities (tenant_id, assigned_to, due_date, id)
            WHERE deleted_at IS NULL AND status = 'scheduled';
        {_triggers(DERIVED)}
    """)


def downgrade() -> None:
    run(f"""
        {_triggers(DERIVED_BEFORE)}
        DROP INDEX activities_live_closed_at_idx, activities_closed_by_idx, activities_open_idx,
            activities_live_status_due_date_idx, activities_live_due_date_idx;
        ALTER TABLE activities
            DROP CONSTRAINT activities_all_day_check, DROP COLUMN closed_at, DROP COLUMN all_day;
        CREATE INDEX activities_live_status_due_date_idx ON activities (tenant_id, status, due_date, id)
            WHERE deleted_at IS NULL;
        CREATE INDEX activities_live_due_date_idx ON activities (tenant_id, due_date, id) WHERE deleted_at IS NULL;
        -- What belongs to nothing may stay; the next one that does is refused again.
        ALTER TABLE activities ADD CONSTRAINT activities_link_check
            CHECK (customer_id IS NOT NULL OR deal_id IS NOT NULL) NOT VALID;
    """)
