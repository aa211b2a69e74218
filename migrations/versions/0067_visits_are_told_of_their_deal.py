"""What is asked about their deals is copied into the visits that have ended already.

A batch at a time is committed, so whoever changes a deal waits for no more than a batch, and what is begun anew goes on
where it was. The trigger of migration 0066 writes all others.
"""

from alembic import op

from migrations.report_sums import tell
from migrations.rules import rows, run, tenants, transaction

revision = "0067"
down_revision = "0066"
branch_labels = None
depends_on = None

DEALS = 2000
LAST_OF_BATCH = f"""
SELECT max(id) FROM (
    SELECT id FROM deals WHERE tenant_id = current_setting('crm.tenant') AND id > %s ORDER BY id LIMIT {DEALS}
) AS batch
"""
# A batch is looked up, whatever the statistics say of tables that are being written.
LOOK_UP = "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"


def upgrade() -> None:
    run("ALTER TABLE stage_history VALIDATE CONSTRAINT stage_history_years_check")
    organizations = tenants()
    with op.get_context().autocommit_block():
        for tenant in organizations:
            last: int | None = 0
            while last is not None:
                last = _copy_batch(tenant, last)


def _copy_batch(tenant: str, after: int) -> int | None:
    """The last deal of the batch, None if there was none."""
    with transaction():
        rows("SELECT set_config('crm.tenant', %s, true)", [tenant])
        last: int | None = rows(LAST_OF_BATCH, [after])[0][0]
        if last is not None:
            run(f"{LOOK_UP}; {tell(f'AND deals.id > {after} AND deals.id <= {last} ')}")
        return last


def downgrade() -> None:
    """Nothing: migration 0066 drops the columns."""
