"""Stages with an order of their own each, and times of the years that Python and JSON know."""

from alembic import context

from migrations.rules import act_in, rows, run

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# Not UNIQUE: what a foreign key might refer to is a key, and who changes one keeps every deal of the stage waiting.
STAGES = """
ALTER TABLE pipeline_stages ADD CONSTRAINT pipeline_stages_order_key
    EXCLUDE (tenant_id WITH =, "order" WITH =) DEFERRABLE;
"""
AMBIGUOUS = """
SELECT DISTINCT tenant_id FROM pipeline_stages GROUP BY tenant_id, "order" HAVING count(*) > 1 ORDER BY 1
"""
RENUMBER = """
UPDATE pipeline_stages AS stage SET "order" = place
FROM (SELECT id, row_number() OVER (ORDER BY "order", id) AS place FROM pipeline_stages WHERE tenant_id = %(tenant)s)
    AS placed
WHERE tenant_id = %(tenant)s AND stage.id = placed.id AND "order" <> place
"""

FIRST, LAST = "'0002-01-01 00:00:00+00'", "'9999-12-31 23:59:59.999999+00'"
TIMES = """
SELECT relname::text, array_agg(attname::text ORDER BY attnum)
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname <> 'crm_migrations'
  AND atttypid = 'timestamptz'::regtype AND attgenerated = '' AND NOT attisdropped
GROUP BY relname ORDER BY relname
"""


def within(column: str) -> str:
    return f"{column} BETWEEN {FIRST} AND {LAST}"


def upgrade() -> None:
    told = context.config.attributes.setdefault("told", [])
    run("ALTER TABLE pipeline_stages NO FORCE ROW LEVEL SECURITY")
    for (tenant,) in rows(AMBIGUOUS):
        act_in(tenant)
        rows(RENUMBER, {"tenant": tenant})
        told.append(f"Pipeline stages of {tenant!r} shared an order: they are numbered anew.")
    run("ALTER TABLE pipeline_stages FORCE ROW LEVEL SECURITY")
    run(STAGES)
    for table, columns in rows(TIMES):
        run(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        # What was written stays as it was written, and sealed: this one is for entries to come.
        valid = "NOT VALID" if table == "audit_entries" else ""
        for column in columns if not valid else ():
            _bring_within(table, column, told)
        run(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        checked = " AND ".join(map(within, columns))
        run(f"ALTER TABLE {table} ADD CONSTRAINT {table}_years_check CHECK ({checked}) {valid}")


def _bring_within(table: str, column: str, told: list[str]) -> None:
    """What no list could show becomes the nearest time that can be shown."""
    for tenant, count in rows(
        f"SELECT tenant_id, count(*) FROM {table} WHERE NOT {within(column)} GROUP BY 1 ORDER BY 1"
    ):
        act_in(tenant)
        nearest = f"least(greatest({column}, {FIRST}), {LAST})"
        rows(f"UPDATE {table} SET {column} = {nearest} WHERE tenant_id = %s AND NOT {within(column)}", [tenant])
        told.append(
            f"{count} rows of {table} of {tenant!r} had a {column} outside of the years 2 to 9999: the nearest is set."
        )


def downgrade() -> None:
    for table, _ in rows(TIMES):
        run(f"ALTER TABLE {table} DROP CONSTRAINT {table}_years_check")
    run("ALTER TABLE pipeline_stages DROP CONSTRAINT pipeline_stages_order_key")
