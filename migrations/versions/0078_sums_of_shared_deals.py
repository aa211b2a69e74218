"""Sums of the deals that people see though they belong to others, because the customers are theirs.

Of each customer with deals it is also kept whose it is and which deal is its newest, for the best customers and the
newest deals of a person. Migration 0079 adds up what is there.
"""

from migrations.report_sums import drop_functions, make_functions
from migrations.rules import amend, run, within_years

revision = "0078"
down_revision = "0077"
branch_labels = None
depends_on = None

OWN = "ALTER POLICY own ON {0} USING (current_user <> 'crm_service_own' OR {1})"
ME = "current_setting('crm.user', true)"
# One by one, where few are read: a person can have a hundred thousand customers.
POLICIES = {
    "deals": f"""owner_id = {ME} OR EXISTS (
        SELECT FROM customers WHERE customers.id = customer_id AND customers.assigned_to = {ME}
    )""",
    "customer_values": "EXISTS (SELECT FROM customers WHERE customers.id = customer_id OFFSET 0)",
    "report_changes": f"""CASE series
        WHEN 'deals.customer' THEN EXISTS (SELECT FROM customers WHERE customers.id = facet::bigint OFFSET 0)
        ELSE person = {ME}
    END""",
}
# What lies at the ends of a period is read by time. Row-level security would look at each deal of that time, and for
# many it would read all customers of the person first.
READ_BY_TIME = "".join(
    f"""
    IF "column" = '{column}' THEN
        RETURN QUERY SELECT deals.* FROM deals CROSS JOIN LATERAL (
            SELECT FROM customers
            WHERE tenant_id = deals.tenant_id AND id = deals.customer_id AND assigned_to = {ME} OFFSET 0
        ) AS mine
        WHERE deals.tenant_id = current_setting('crm.tenant') AND {column} >= first AND {column} < last
            AND deals.deleted_at IS NULL AND owner_id IS DISTINCT FROM {ME};
    END IF;"""
    for column in ("created_at", "expected_close_date", "actual_close_date")
)
SHARED = f"""
-- The live deals of others at the person's own customers, with this time from one moment until before another.
CREATE FUNCTION crm_shared_deals("column" text, first timestamptz, last timestamptz) RETURNS SETOF deals
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off AS $$
BEGIN{READ_BY_TIME}
END $$;
GRANT EXECUTE ON FUNCTION crm_shared_deals(text, timestamptz, timestamptz) TO crm_service;
"""
REMOVE = "crm_remove(text, jsonb, text)"
# Before and after it: erasures delete customers together with their deals.
REMOVING = (
    "    EXECUTE removing USING tenant, tree;\n",
    """    PERFORM crm_unshare_deals(tenant, crm_ids(tree, 'customers'));
    EXECUTE removing USING tenant, tree;
""",
)
BEFORE = {
    "deals": f"""owner_id = {ME}
        OR customer_id IN (SELECT customers.id FROM customers WHERE customers.assigned_to = {ME})""",
    "customer_values": "customer_id IN (SELECT id FROM customers)",
    "report_changes": f"person = {ME}",
}


def upgrade() -> None:
    run("""
        ALTER TABLE customer_values ADD COLUMN assigned_to text, ADD COLUMN newest_at timestamptz,
            ADD COLUMN newest_id bigint;
        GRANT SELECT (customer_id, created_at) ON deals TO crm_maintenance;
    """)
    run(within_years("customer_values"))
    for table, condition in POLICIES.items():
        run(OWN.format(table, condition))
    drop_functions()
    make_functions()
    amend(REMOVE, *REMOVING)
    run(SHARED)


def downgrade() -> None:
    run("DROP FUNCTION crm_shared_deals")
    amend(REMOVE, *reversed(REMOVING))
    drop_functions()
    for table, condition in BEFORE.items():
        run(OWN.format(table, condition))
    run("""
        REVOKE SELECT (customer_id, created_at) ON deals FROM crm_maintenance;
        ALTER TABLE customer_values DROP COLUMN assigned_to, DROP COLUMN newest_at, DROP COLUMN newest_id;
        DELETE FROM report_changes WHERE starts_with(series, 'shared.');
        DELETE FROM report_sums WHERE starts_with(series, 'shared.');
    """)
    make_functions(customers_kept=False)
