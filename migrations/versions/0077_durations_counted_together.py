"""How long visits of stages took is counted by an eighth of the numbers, and so under another name.

While the sums are made of the ones before, nobody waits. What was changed meanwhile is counted once nobody can change
more.
"""

from migrations.report_sums import COUNTED_TOGETHER, LOCK, SPREAD_COLUMNS, drop_functions, make_functions
from migrations.rules import rows, run, tenants

revision = "0077"
down_revision = "0076"
branch_labels = None
depends_on = None

SUMS = f"""
WITH finer AS (DELETE FROM report_sums WHERE tenant_id = %s AND series = 'deals.times' RETURNING *)
INSERT INTO report_sums ({SPREAD_COLUMNS})
SELECT tenant_id, 'deals.durations', by_person, span, person, hour, whole_day, facet,
       (part::integer / {COUNTED_TOGETHER})::text, sum(rows), 0, 0, 0, 0
FROM finer GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9 HAVING sum(rows) <> 0
"""
CHANGES = f"""
UPDATE report_changes SET series = 'deals.durations', part = (part::integer / {COUNTED_TOGETHER})::text
WHERE tenant_id = %s AND series = 'deals.times'
"""


def upgrade() -> None:
    run(f"SELECT pg_advisory_xact_lock({LOCK})")
    _each(SUMS)
    drop_functions()
    make_functions(customers_kept=False)
    _each(CHANGES)


def _each(statement: str) -> None:
    for tenant in tenants():
        rows("SELECT set_config('crm.tenant', %s, true)", [tenant])
        rows(statement, [tenant])


def downgrade() -> None:
    """Nothing: migration 0051 drops the sums."""
