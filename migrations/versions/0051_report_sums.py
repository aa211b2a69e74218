"""What reports add up is kept up to date: a report of a million records takes no longer than one of a thousand."""

from pathlib import Path

from migrations.rules import TRANSITIONS, granted, isolate, on_each_statement, own_only, owned_by, run

revision = "0051"
down_revision = "0050"
branch_labels = None
depends_on = None

SQL = Path(__file__).with_name("0051")
# Whoever holds this lock is the only one who changes sums.
LOCK = "hashtextextended('crm_report_sums', 0)"
ME = "current_setting('crm.user', true)"
OWN = {
    "report_changes": f"person = {ME}",
    "report_sums": f"by_person AND person = {ME}",
    "customer_values": "customer_id IN (SELECT id FROM customers)",
}
KEY = "tenant_id, series, person, hour, whole_day, facet, part"
MEASURES = ("rows", "amount", "weighted", "closed", "seconds")
TYPES = {"rows": "bigint", "closed": "bigint"}
COLUMNS = f"{KEY}, {', '.join(MEASURES)}"
MIDNIGHT = "(at AT TIME ZONE 'UTC')::time = '00:00'"
# What each row of a table counts as, in each of its series: as a query over {rows}.
FACTS = {
    "customers": """
        SELECT tenant_id, 'customers' AS series, '' AS person, created_at AS at, false AS whole_day,
               status AS facet, '' AS part, 0 AS amount, 0 AS probability, NULL::numeric AS took
        FROM {rows} WHERE deleted_at IS NULL""",
    "deals": f"""
        SELECT tenant_id, series, coalesce(owner, '') AS person, at, {MIDNIGHT} AND dated AS whole_day,
               facet::text AS facet, currency AS part, amount, chance AS probability,
               CASE WHEN actual_close_date IS NOT NULL
                    THEN extract(epoch FROM greatest(actual_close_date - created_at, '0')) END AS took
        FROM {{rows}} CROSS JOIN LATERAL (
            VALUES ('deals.created', created_at, false, owner_id, stage_id, probability),
                   ('deals.expected', expected_close_date, true, owner_id, stage_id, probability),
                   ('deals.closed', actual_close_date, true, owner_id, stage_id, probability),
                   -- Which customers something has changed for.
                   ('deals.customer', timestamptz 'epoch', false, NULL, customer_id, 0)
        ) AS axes (series, at, dated, owner, facet, chance)
        WHERE deleted_at IS NULL AND at IS NOT NULL""",
    "activities": """
        SELECT tenant_id, 'activities' AS series, coalesce(assigned_to, '') AS person,
               coalesce(due_date, created_at) AS at, all_day AND due_date IS NOT NULL AS whole_day, type AS facet,
               -- What has no due date never becomes overdue.
               CASE WHEN status = 'scheduled' AND due_date IS NULL THEN 'someday' ELSE status END AS part,
               0 AS amount, 0 AS probability, NULL::numeric AS took
        FROM {rows} WHERE deleted_at IS NULL""",
}


def facts(table: str, rows: str, sign: str = "") -> str:
    """What these rows of the table add to each series, or with the sign `-` take away."""
    return f"""
        SELECT tenant_id, series, person, floor(extract(epoch FROM at) / 3600)::integer AS hour, whole_day, facet, part,
               {sign}count(*) AS rows, {sign}sum(amount)::numeric AS amount,
               {sign}sum(amount * probability)::numeric AS weighted,
               {sign}count(took) AS closed, {sign}coalesce(sum(took), 0) AS seconds
        FROM ({FACTS[table].format(rows=rows)}) AS facts GROUP BY 1, 2, 3, 4, 5, 6, 7"""


def changed(table: str, event: str) -> str:
    """What a statement added to each series and took away."""
    if event == "INSERT":
        return facts(table, "new_rows")
    if event == "DELETE":
        return facts(table, "old_rows", "-")
    return f"""
        SELECT {KEY}, {", ".join(f"sum({measure})" for measure in MEASURES)}
        FROM ({facts(table, "new_rows")} UNION ALL {facts(table, "old_rows", "-")}) AS changes GROUP BY {KEY}
        HAVING {" OR ".join(f"sum({measure}) <> 0" for measure in MEASURES)}"""


def summed(table: str) -> str:
    """Keep what reports add up of this table: each statement appends what it changed."""
    return "".join(
        f"""
        CREATE FUNCTION crm_sum_{table}_{event.lower()}() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
            INSERT INTO report_changes ({COLUMNS}) {changed(table, event)};
            RETURN NULL;
        END $$;
        {on_each_statement("sum", event, table, f"crm_sum_{table}_{event.lower()}()")}
        """
        for event in TRANSITIONS
    )


def spread(changes: str) -> str:
    """CTEs, of which `spread` has these changes added up for each span: an hour, a day, 8 and 64 days, and all of time
    (0), each from the one before. Hours are kept of activities only, and not of those long ago. Of people nothing is
    kept by the hour, nor by the type of activity.
    """
    sums = ", ".join(f"sum({measure})::{TYPES.get(measure, 'numeric')} AS {measure}" for measure in MEASURES)

    def added_up(span: int, source: str) -> str:
        hour = f"hour - mod(mod(hour, {span}) + {span}, {span})" if span else "0"
        return f"""(
            SELECT tenant_id, series, {span} AS span, person, {hour} AS hour, whole_day, facet, part, {sums}
            FROM {source} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
        )"""

    return f"""
    days AS {added_up(24, f"{changes} WHERE series <> 'deals.customer'")},
    eights AS {added_up(192, "days")},
    longest AS {added_up(1536, "eights")},
    ever AS {added_up(0, "longest")},
    periods AS (
        SELECT * FROM days UNION ALL SELECT * FROM eights UNION ALL SELECT * FROM longest UNION ALL SELECT * FROM ever
    ),
    hours AS (
        SELECT * FROM {added_up(1, changes)} AS hours
        WHERE series = 'activities' AND hour >= extract(epoch FROM now()) / 3600 - 40 * 24
    ),
    spread AS (
        SELECT tenant_id, series, true AS by_person, span, person, hour, whole_day,
               CASE series WHEN 'activities' THEN '' ELSE facet END AS facet, part, {sums}
        FROM periods WHERE series <> 'customers' GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
        UNION ALL
        SELECT tenant_id, series, false, span, '', hour, whole_day, facet, part, {sums}
        FROM (SELECT * FROM periods UNION ALL SELECT * FROM hours) AS everybody
        GROUP BY tenant_id, series, span, hour, whole_day, facet, part
    )"""


SPREAD = "tenant_id, series, by_person, span, person, hour, whole_day, facet, part"
SPREAD_COLUMNS = f"{SPREAD}, {', '.join(MEASURES)}"
FOLD = f"""
-- Adds about so many changes to the sums, and returns how many. Somebody else may be doing it: then none.
CREATE FUNCTION crm_fold_report_changes(most bigint) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off AS $$
DECLARE
    folded bigint;
    empty tid[];
    tenants text[];
    customers bigint[];
BEGIN
    IF NOT pg_try_advisory_xact_lock({LOCK}) THEN
        RETURN 0;
    END IF;
    WITH first AS (
        SELECT tenant_id, series, id FROM report_changes
        ORDER BY tenant_id, series, id LIMIT least(greatest(most, 1), 10000)
    ),
    gone AS (
        DELETE FROM report_changes USING first
        WHERE report_changes.tenant_id = first.tenant_id AND report_changes.series = first.series
            AND report_changes.id = first.id
        RETURNING report_changes.*
    ),
    {spread("gone")},
    added AS (
        INSERT INTO report_sums AS sums ({SPREAD_COLUMNS}) SELECT {SPREAD_COLUMNS} FROM spread
        ON CONFLICT ({SPREAD}) DO UPDATE
        SET {", ".join(f"{measure} = sums.{measure} + excluded.{measure}" for measure in MEASURES)}
        RETURNING ctid, {" AND ".join(f"{measure} = 0" for measure in MEASURES)} AS is_empty
    ),
    changed AS (SELECT DISTINCT tenant_id, facet::bigint AS customer_id FROM gone WHERE series = 'deals.customer')
    SELECT (SELECT count(*) FROM gone), (SELECT array_agg(ctid) FROM added WHERE is_empty),
           (SELECT array_agg(tenant_id ORDER BY tenant_id, customer_id) FROM changed),
           (SELECT array_agg(customer_id ORDER BY tenant_id, customer_id) FROM changed)
    INTO folded, empty, tenants, customers;
    DELETE FROM report_sums WHERE ctid = ANY (empty);
    PERFORM crm_value_customers(tenants, customers);
    RETURN folded;
END $$;
GRANT EXECUTE ON FUNCTION crm_fold_report_changes(bigint) TO crm_service;

-- Deletes a batch of sums by the hour that are too old to be asked for; returns how many.
CREATE FUNCTION crm_prune_report_sums(most bigint) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off AS $$
DECLARE
    pruned bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock({LOCK}) THEN
        RETURN 0;
    END IF;
    DELETE FROM report_sums WHERE (tenant_id, series, by_person, span, person, hour, whole_day, facet, part) IN (
        SELECT {SPREAD} FROM report_sums
        WHERE tenant_id IN (SELECT tenant_id FROM settings) AND series = 'activities' AND NOT by_person AND span = 1
            AND person = '' AND hour < extract(epoch FROM now()) / 3600 - 41 * 24
        LIMIT least(greatest(most, 1), 10000)
    );
    GET DIAGNOSTICS pruned = ROW_COUNT;
    RETURN pruned;
END $$;
GRANT EXECUTE ON FUNCTION crm_prune_report_sums(bigint) TO crm_service;
"""
ALL = " UNION ALL ".join(facts(table, table) for table in FACTS)
REBUILD = f"""
-- Adds up a tenant's rows anew, as the owner. Nobody waits for it: what others commit meanwhile stays in the changes.
CREATE FUNCTION crm_add_up_reports(tenant text) RETURNS void LANGUAGE plpgsql SET work_mem = '128MB' AS $$
BEGIN
    PERFORM pg_advisory_xact_lock({LOCK});
    PERFORM set_config('crm.tenant', tenant, true);
    DELETE FROM report_sums WHERE tenant_id = tenant;
    DELETE FROM customer_values WHERE tenant_id = tenant;
    -- One statement, which sees the rows and the changes at the same moment.
    WITH seen AS (DELETE FROM report_changes WHERE tenant_id = tenant),
    rows AS MATERIALIZED (SELECT * FROM ({ALL}) AS facts WHERE tenant_id = tenant),
    {spread("rows")}
    INSERT INTO report_sums ({SPREAD_COLUMNS}) SELECT {SPREAD_COLUMNS} FROM spread;
    PERFORM crm_value_customers(array_agg(tenant), array_agg(customer_id))
    FROM (SELECT DISTINCT customer_id FROM deals WHERE tenant_id = tenant AND deleted_at IS NULL) AS customers;
END $$;
"""


def upgrade() -> None:
    run((SQL / "report_sums.sql").read_text())
    for table, own in OWN.items():
        run(isolate(table) + own_only(table, own) + granted(table, "SELECT"))
    for table in FACTS:
        run(summed(table))
    run(FOLD + REBUILD)
    run("GRANT EXECUTE ON FUNCTION crm_value_customers(text[], bigint[]) TO crm_maintenance")
    run(owned_by("crm_maintenance", "crm_fold_report_changes(bigint)", "crm_prune_report_sums(bigint)"))


def downgrade() -> None:
    for table in FACTS:
        for event in TRANSITIONS:
            run(f"DROP FUNCTION crm_sum_{table}_{event.lower()}() CASCADE")
    run("""
        DROP FUNCTION crm_fold_report_changes, crm_prune_report_sums, crm_add_up_reports, crm_value_customers;
        DROP TABLE report_changes, report_sums, customer_values;
        DROP INDEX deals_live_actual_close_date_idx;
        REVOKE SELECT (customer_id, currency, amount) ON deals FROM crm_maintenance;
    """)
