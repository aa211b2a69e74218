"""Visits of stages that have ended know when their deal was created and whose it is.

So the funnel reads an index of visits only. One that has not ended is not in it, and needs no copy.
"""

from migrations.report_sums import drop_functions, make_functions
from migrations.rules import amend, run, within_years

revision = "0066"
down_revision = "0065"
branch_labels = None
depends_on = None

HISTORY = "crm_stage_history()"
# Before and after it, in what ends a visit.
ENDED = (
    "reason = CASE WHEN deal.stage_id <> before.stage_id THEN reason ELSE deal.lost_reason END\n",
    """reason = CASE WHEN deal.stage_id <> before.stage_id THEN reason ELSE deal.lost_reason END,
                deal_created_at = CASE WHEN deal.stage_id <> before.stage_id AND deal.deleted_at IS NULL
                                       THEN deal.created_at END,
                deal_owner_id = CASE WHEN deal.stage_id <> before.stage_id THEN deal.owner_id END
""",
)
END = """    END IF;
    RETURN NULL;
"""
# Planned each time, as the statements before it are, for as many deals as there are.
CHANGED = f"""    END IF;
    IF TG_OP = 'INSERT' THEN
        RETURN NULL;
    END IF;
    IF EXISTS (
        SELECT tenant_id, id, owner_id, created_at, deleted_at IS NULL FROM new_rows
        EXCEPT SELECT tenant_id, id, owner_id, created_at, deleted_at IS NULL FROM old_rows
    ) THEN
        EXECUTE $q$
            UPDATE stage_history
            SET deal_created_at = CASE WHEN deal.deleted_at IS NULL THEN deal.created_at END,
                deal_owner_id = deal.owner_id
            FROM new_rows AS deal JOIN old_rows AS before USING (tenant_id, id)
            WHERE (deal.owner_id, deal.created_at, deal.deleted_at IS NULL)
                  IS DISTINCT FROM (before.owner_id, before.created_at, before.deleted_at IS NULL)
              AND stage_history.tenant_id = deal.tenant_id AND deal_id = deal.id AND left_at IS NOT NULL
        $q$;
{END}"""


def upgrade() -> None:
    run("""
        ALTER TABLE stage_history ADD COLUMN deal_created_at timestamptz, ADD COLUMN deal_owner_id text,
            DROP CONSTRAINT stage_history_years_check
    """)
    # Migration 0067 looks at what is there, while others go on.
    run(within_years("stage_history").replace(";", " NOT VALID;"))
    for before, after in (ENDED, (END, CHANGED)):
        amend(HISTORY, before, after)
    drop_functions()
    make_functions(customers_kept=False)


def downgrade() -> None:
    for before, after in (ENDED, (END, CHANGED)):
        amend(HISTORY, after, before)
    # DROP COLUMN drops the check, too.
    run("ALTER TABLE stage_history DROP COLUMN deal_created_at, DROP COLUMN deal_owner_id")
    run(within_years("stage_history"))
    drop_functions()
    make_functions(visits_copy=False, customers_kept=False)
