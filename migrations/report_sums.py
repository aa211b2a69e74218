"""What keeps the sums of reports: triggers that append what changed, and functions that add it up. docs/reports.md says
how.

Migrations 0051, 0055, 0057, 0066, 0077 and 0078 all make today's form: whoever changes it adds a migration that calls
drop_functions() and make_functions(). What triggers do may use no column that 0051 does not have yet. What is there is
added up once, by 0079: so those before it that did, or that built indexes for it, do nothing any more.
"""

from migrations.rules import TRANSITIONS, on_each_statement, owned_by, run

# Whoever holds this lock is the only one who changes sums.
LOCK = "hashtextextended('crm_report_sums', 0)"
KEY = "tenant_id, series, person, hour, whole_day, facet, part"
MEASURES = ("rows", "amount", "weighted", "closed", "seconds")
TYPES = {"rows": "bigint", "closed": "bigint"}
COLUMNS = f"{KEY}, {', '.join(MEASURES)}"
MIDNIGHT = "(at AT TIME ZONE 'UTC')::time = '00:00'"
# The series of deals that people see though they belong to others: because the customers are theirs.
SHARED = "starts_with(series, 'shared.')"
# Deals with the person of their customer, if it is another one than their owner. Each customer is looked up.
VIEWER = "CASE WHEN assigned_to IS DISTINCT FROM owner_id THEN assigned_to END AS viewer"
VIEWED = f"""(
    SELECT deals.*, {VIEWER}
    FROM {{rows}} AS deals LEFT JOIN LATERAL (
        SELECT assigned_to FROM customers WHERE tenant_id = deals.tenant_id AND id = deals.customer_id OFFSET 0
    ) AS customers ON true
) AS deals"""
# What each row of a table counts as, in each of its series: as a query over {rows}.
FACTS = {
    "customers": """
        SELECT tenant_id, 'customers' AS series, coalesce(assigned_to, '') AS person, created_at AS at,
               false AS whole_day, status AS facet, '' AS part, 0 AS amount, 0 AS probability, NULL::numeric AS took
        FROM {rows} WHERE deleted_at IS NULL""",
    # Their rows say who sees them, too, as in VIEWED.
    "deals": f"""
        SELECT tenant_id, series, person, at, {MIDNIGHT} AND dated AS whole_day, facet::text AS facet, part, amount,
               chance AS probability, took
        FROM {{rows}} CROSS JOIN LATERAL (
            VALUES (coalesce(owner_id, ''), currency::text, currency || ' ' || coalesce(owner_id, ''),
                    CASE WHEN actual_close_date IS NOT NULL
                         THEN extract(epoch FROM greatest(actual_close_date - created_at, '0')) END)
        ) AS deal (owner, of_owner, of_viewer, lasted) CROSS JOIN LATERAL (
            VALUES ('deals.created', created_at, false, owner, stage_id, of_owner, probability, lasted),
                   ('deals.expected', expected_close_date, true, owner, stage_id, of_owner, probability, lasted),
                   ('deals.closed', actual_close_date, true, owner, stage_id, of_owner, probability, lasted),
                   ('shared.created', created_at, false, viewer, stage_id, of_viewer, probability, lasted),
                   ('shared.expected', expected_close_date, true, viewer, stage_id, of_viewer, probability, lasted),
                   ('shared.closed', actual_close_date, true, viewer, stage_id, of_viewer, probability, lasted),
                   -- Which customers something has changed for, also when their newest deal was created.
                   ('deals.customer', timestamptz 'epoch', false, '', customer_id, of_owner, 0,
                    extract(epoch FROM created_at))
        ) AS axes (series, at, dated, person, facet, part, chance, took)
        WHERE deleted_at IS NULL AND at IS NOT NULL AND person IS NOT NULL""",
    "activities": """
        SELECT tenant_id, 'activities' AS series, coalesce(assigned_to, '') AS person,
               coalesce(due_date, created_at) AS at, all_day AND due_date IS NOT NULL AS whole_day, type AS facet,
               -- What has no due date never becomes overdue.
               CASE WHEN status = 'scheduled' AND due_date IS NULL THEN 'someday' ELSE status END AS part,
               0 AS amount, 0 AS probability, NULL::numeric AS took
        FROM {rows} WHERE deleted_at IS NULL""",
}


# How long a visit of a stage took, as a number: 64 of them for each doubling, from a second on. The sums count some
# together as one, since a period has a sum of each one in each of its days.
COUNTED_TOGETHER = 8
TIME_BUCKET = "floor(64 * ln(greatest(1.0, extract(epoch FROM left_at - entered_at)::float8)) / ln(2::float8))::integer"
HOUR = "floor(extract(epoch FROM created_at) / 3600)::integer"
NOTHING = "0 AS amount, 0 AS weighted, 0 AS closed, 0 AS seconds"


def facts(table: str, rows: str, sign: str = "") -> str:
    """What these rows of the table add to each series, or with the sign `-` take away."""
    return added_up(FACTS[table].format(rows=VIEWED.format(rows=rows) if table == "deals" else rows), sign)


def added_up(rows: str, sign: str = "") -> str:
    """These rows of series together."""
    return f"""
        SELECT tenant_id, series, person, floor(extract(epoch FROM at) / 3600)::integer AS hour, whole_day, facet, part,
               {sign}count(*) AS rows, {sign}sum(amount)::numeric AS amount,
               {sign}sum(amount * probability)::numeric AS weighted,
               {sign}count(took) AS closed, {sign}coalesce(sum(took), 0) AS seconds
        FROM ({rows}) AS facts GROUP BY 1, 2, 3, 4, 5, 6, 7"""


def changed(table: str, event: str) -> str:
    """What a statement added to each series and took away."""
    if event == "INSERT":
        return facts(table, "new_rows")
    if event == "DELETE":
        return facts(table, "old_rows", "-")
    return difference(facts(table, "new_rows"), facts(table, "old_rows", "-"))


def difference(*changes: str) -> str:
    """These changes together, without those that come to nothing."""
    return f"""
        SELECT {KEY}, {", ".join(f"sum({measure})" for measure in MEASURES)}
        FROM ({" UNION ALL ".join(changes)}) AS changes GROUP BY {KEY}
        HAVING {" OR ".join(f"sum({measure}) <> 0" for measure in MEASURES)}"""


# For whom the way of a deal counts.
WAYS_OF = """CROSS JOIN LATERAL (
    VALUES ('deals.ways', coalesce(owner_id, ''), ''), ('shared.ways', viewer, ' ' || coalesce(owner_id, ''))
) AS whose (series, person, part) WHERE person IS NOT NULL"""


def of_visits(visits: str) -> str:
    """What visits of stages add to the funnel: of each deal the stages that it ever entered (`deals.ways`), and how
    long each visit took that has ended (`deals.durations`).

    A visit is of a deal (tenant_id, deal_id, owner_id, viewer, created_at), which is added or taken away (sign). Some
    are known, but did not begin yet (has_begun), or did not end yet (has_ended). A `way` is the stages that a deal ever
    entered, as one text.
    """
    return f"""
        SELECT tenant_id, series, person, {HOUR} AS hour, false AS whole_day, way AS facet, part,
               sum(sign)::bigint AS rows, {NOTHING}
        FROM (
            SELECT tenant_id, sign, owner_id, viewer, created_at, string_agg(DISTINCT to_stage_id::text, ',') AS way
            FROM {visits} WHERE has_begun GROUP BY tenant_id, deal_id, sign, owner_id, viewer, created_at
        ) AS ways {WAYS_OF} GROUP BY 1, 2, 3, 4, 5, 6, 7 HAVING sum(sign) <> 0
        UNION ALL
        SELECT tenant_id, series, person, {HOUR}, false, to_stage_id::text, ({TIME_BUCKET} / {COUNTED_TOGETHER})::text,
               sum(sign)::bigint, {NOTHING}
        FROM {visits} CROSS JOIN LATERAL (
            VALUES ('deals.durations', coalesce(owner_id, '')), ('shared.durations', viewer)
        ) AS whose (series, person)
        WHERE has_ended AND left_at IS NOT NULL AND person IS NOT NULL
        GROUP BY 1, 2, 3, 4, 5, 6, 7 HAVING sum(sign) <> 0"""


# Of some deals the visits, known as above.
HISTORY = """
    visits AS MATERIALIZED (
        SELECT sides.tenant_id, sides.id AS deal_id, sign, owner_id, viewer, created_at, to_stage_id, entered_at,
               left_at, NOT (before_move AND back = 1) AS has_begun, NOT (before_move AND back = 2) AS has_ended
        FROM sides CROSS JOIN LATERAL (
            SELECT to_stage_id, entered_at, left_at, row_number() OVER (ORDER BY id DESC) AS back
            FROM stage_history WHERE tenant_id = sides.tenant_id AND deal_id = sides.id OFFSET 0
        ) AS history
    )"""
# Of the deals whose stage, owner, customer, day or trash a statement changed, before and after it. The history has the
# moves of this statement already: before it, the last visit (`back` is 1) had not begun, and the one before had not
# ended.
MOVED = f"""
    WITH changed AS MATERIALIZED (
        SELECT earlier.tenant_id, earlier.id, earlier.stage_id <> later.stage_id AS is_moved,
               earlier.owner_id AS old_owner, earlier.customer_id AS old_customer, earlier.created_at AS old_time,
               earlier.deleted_at IS NULL AS was_live,
               later.owner_id AS new_owner, later.customer_id AS new_customer, later.created_at AS new_time,
               later.deleted_at IS NULL AS is_live
        FROM old_rows AS earlier JOIN new_rows AS later USING (tenant_id, id)
        WHERE (earlier.stage_id, earlier.owner_id, earlier.customer_id, earlier.created_at, earlier.deleted_at IS NULL)
            IS DISTINCT FROM
            (later.stage_id, later.owner_id, later.customer_id, later.created_at, later.deleted_at IS NULL)
    ),
    sides AS (
        SELECT * FROM {
    VIEWED.format(
        rows='''(
            SELECT tenant_id, id, 1 AS sign, false AS before_move, new_owner AS owner_id, new_customer AS customer_id,
                   new_time AS created_at
            FROM changed WHERE is_live
            UNION ALL
            SELECT tenant_id, id, -1, is_moved, old_owner, old_customer, old_time FROM changed WHERE was_live
        )'''
    )
}
    ),
    {HISTORY}
    {of_visits("visits")}"""
# A new deal has entered its stage only.
BEGUN = f"""
    SELECT tenant_id, series, person, {HOUR}, false, stage_id::text, part, count(*), {NOTHING}
    FROM {VIEWED.format(rows="new_rows")} {WAYS_OF} AND deleted_at IS NULL GROUP BY 1, 2, 3, 4, 5, 6, 7"""
VISITS = f"""(
    SELECT deals.tenant_id, deal_id, {{sign}} AS sign, owner_id, viewer, created_at, to_stage_id, entered_at, left_at,
           true AS has_begun, true AS has_ended
    FROM {{rows}} JOIN {VIEWED.format(rows="deals")} ON deals.tenant_id = rows.tenant_id AND deals.id = deal_id
    WHERE deleted_at IS NULL
) AS visits"""


def passed_on(persons: str) -> str:
    """What the deals of customers are counted for, when these get another person or none: the customers are added or
    taken away (`sign`) for a person (assigned_to). They are locked already.

    Who changes such a deal meanwhile waits, and so does who makes one, since that holds the customer FOR KEY SHARE. So
    what is counted here is what is there, and what comes later is counted for the new person.
    """
    shared = (FACTS["deals"].format(rows=f"(SELECT * FROM sides WHERE sign = {one}) AS deals") for one in (1, -1))
    added, taken = (f"{rows} AND {SHARED}" for rows in shared)
    return f"""
        PERFORM FROM deals JOIN {persons} ON persons.tenant_id = deals.tenant_id AND persons.id = customer_id
        ORDER BY deals.id FOR SHARE OF deals;
        INSERT INTO report_changes ({COLUMNS})
        WITH sides AS MATERIALIZED (
            SELECT deals.*, sign, false AS before_move, {VIEWER}
            FROM {persons} JOIN deals ON deals.tenant_id = persons.tenant_id AND customer_id = persons.id
            WHERE deleted_at IS NULL
        ),
        {HISTORY}
        {difference(added_up(added), added_up(taken, "-"))}
        UNION ALL {of_visits("visits")}
        UNION ALL
        -- Whose customer it is, is kept with what it is worth.
        SELECT DISTINCT tenant_id, 'deals.customer', '', 0, false, customer_id::text, '', 0, {NOTHING} FROM sides;"""


OLD_AND_NEW = """(
            SELECT later.tenant_id, later.id, sign, person AS assigned_to
            FROM old_rows AS earlier JOIN new_rows AS later USING (tenant_id, id)
            CROSS JOIN LATERAL (VALUES (1, later.assigned_to), (-1, earlier.assigned_to)) AS persons (sign, person)
            WHERE earlier.assigned_to IS DISTINCT FROM later.assigned_to
        ) AS persons"""
REASSIGNED = f"""
    IF EXISTS (
        SELECT FROM old_rows AS earlier JOIN new_rows AS later USING (tenant_id, id)
        WHERE earlier.assigned_to IS DISTINCT FROM later.assigned_to
    ) THEN
        PERFORM FROM customers JOIN old_rows AS earlier USING (tenant_id, id)
        WHERE customers.assigned_to IS DISTINCT FROM earlier.assigned_to
        ORDER BY customers.id FOR UPDATE OF customers;
        {passed_on(OLD_AND_NEW)}
    END IF;"""
# Before customers are deleted together with their deals, by one statement: after it nobody knows whose they were.
OLD = """(
        SELECT tenant_id, id, -1 AS sign, assigned_to
        FROM customers WHERE tenant_id = tenant AND id = ANY (removed)
    ) AS persons"""
REMOVED = f"""
CREATE FUNCTION crm_unshare_deals(tenant text, removed bigint[]) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off AS $$
BEGIN
    PERFORM FROM customers WHERE tenant_id = tenant AND id = ANY (removed) ORDER BY id FOR UPDATE;
    {passed_on(OLD)}
END $$;
"""


def summed(table: str) -> str:
    """Keep what reports add up of this table: each statement appends what it changed."""
    also = {
        ("deals", "INSERT"): append(BEGUN),
        ("deals", "UPDATE"): append(MOVED),
        ("customers", "UPDATE"): REASSIGNED,
    }
    return "".join(
        on_change(table, event, append(changed(table, event)) + also.get((table, event), "")) for event in TRANSITIONS
    )


def append(change: str) -> str:
    """Append this change."""
    return f"INSERT INTO report_changes ({COLUMNS}) {change};"


def on_change(table: str, event: str, appends: str) -> str:
    """A trigger that appends changes."""
    # The plan of what looks into large tables is kept, and may have been made while they were small.
    indexed = " SET enable_seqscan = off" if " JOIN " in appends or table == "stage_history" else ""
    return f"""
        CREATE FUNCTION crm_sum_{table}_{event.lower()}() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp{indexed} AS $$
        BEGIN
            {appends}
            RETURN NULL;
        END $$;
        {on_each_statement("sum", event, table, f"crm_sum_{table}_{event.lower()}()")}
    """


def spread(changes: str) -> str:
    """CTEs, of which `spread` has these changes added up for each span: an hour, a day, 8 days (`eights`), 64 days
    (`longest`) and all of time (0), each from the one before. Hours are kept of activities only, and not of those long
    ago. Of people nothing is kept by the hour, and the type of activity and the times in stages only for all of time.

    Shared deals are added up without their owners, and with them: not by the day, and as a span below nothing (~span).
    """
    sums = ", ".join(f"sum({measure})::{TYPES.get(measure, 'numeric')} AS {measure}" for measure in MEASURES)

    def spanned(span: int, source: str) -> str:
        hour = f"hour - mod(mod(hour, {span}) + {span}, {span})" if span else "0"
        return f"""(
            SELECT tenant_id, series, {span} AS span, person, {hour} AS hour, whole_day, facet, part, {sums}
            FROM {source} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
        )"""

    return f"""
    days AS {spanned(24, f"{changes} WHERE series <> 'deals.customer'")},
    eights AS {spanned(192, "days")},
    longest AS {spanned(1536, "eights")},
    ever AS {spanned(0, "longest")},
    periods AS (
        SELECT * FROM days UNION ALL SELECT * FROM eights UNION ALL SELECT * FROM longest UNION ALL SELECT * FROM ever
    ),
    hours AS (
        SELECT * FROM {spanned(1, changes)} AS hours
        WHERE series = 'activities' AND hour >= extract(epoch FROM now()) / 3600 - 40 * 24
    ),
    spread AS (
        SELECT tenant_id, series, true AS by_person, span, person, hour, whole_day,
               CASE WHEN series = 'activities' AND span <> 0 THEN '' ELSE facet END AS facet,
               CASE WHEN {SHARED} THEN split_part(part, ' ', 1) ELSE part END AS part, {sums}
        FROM periods WHERE series NOT IN ('deals.durations', 'shared.durations') OR span = 0
        GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
        UNION ALL
        SELECT tenant_id, series, true, ~span, person, hour, whole_day, facet, part, {", ".join(MEASURES)}
        FROM periods WHERE {SHARED} AND series <> 'shared.durations' AND span <> 24
        UNION ALL
        SELECT tenant_id, series, false, span, '', hour, whole_day, facet, part, {sums}
        FROM (SELECT * FROM periods WHERE NOT {SHARED} UNION ALL SELECT * FROM hours) AS everybody
        GROUP BY tenant_id, series, span, hour, whole_day, facet, part
    )"""


SPREAD = "tenant_id, series, by_person, span, person, hour, whole_day, facet, part"
SPREAD_COLUMNS = f"{SPREAD}, {', '.join(MEASURES)}"
# What else is kept of a customer: whose it is, and in the row of currency '' its newest deal. Both are as they are when
# the changes are added up: what comes later waits as a change again.
NOW = """
        SELECT assigned_to, newest.created_at, newest.id
        FROM customers AS customer LEFT JOIN LATERAL (
            SELECT created_at, id FROM deals
            WHERE tenant_id = customer.tenant_id AND customer_id = customer.id AND deleted_at IS NULL
                AND kept.currency = ''
            ORDER BY created_at DESC, id DESC LIMIT 1
        ) AS newest ON true
        WHERE tenant_id = kept.tenant_id AND customer.id = kept.customer_id OFFSET 0"""
KEPT = "(kept.assigned_to, kept.newest_at, kept.newest_id) IS DISTINCT FROM (now.assigned_to, now.created_at, now.id)"
KEEP_NEWEST = f"""UPDATE customer_values AS kept
    SET assigned_to = now.assigned_to, newest_at = now.created_at, newest_id = now.id
    FROM unnest(tenants, customers) AS changed (tenant_id, customer_id)
    JOIN customer_values AS there USING (tenant_id, customer_id) CROSS JOIN LATERAL ({NOW.replace("kept.", "there.")}
    ) AS now
    WHERE kept.tenant_id = there.tenant_id AND kept.customer_id = there.customer_id AND kept.currency = there.currency
        AND {KEPT};"""
# `gone` are the changes that are in the sums from then on, and wait no more.
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
        ORDER BY id LIMIT least(greatest(most, 1), 10000)
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
    changed AS (
        INSERT INTO customer_values AS kept (tenant_id, customer_id, currency, value, deals)
        SELECT tenant_id, facet::bigint, currency, sum(value), sum(deals)
        FROM gone CROSS JOIN LATERAL (VALUES (part, amount, 0), ('', 0, rows)) AS worth (currency, value, deals)
        WHERE series = 'deals.customer' GROUP BY 1, 2, 3
        ON CONFLICT (tenant_id, customer_id, currency) DO UPDATE
        SET value = kept.value + excluded.value, deals = kept.deals + excluded.deals
        RETURNING tenant_id, customer_id, currency
    )
    SELECT (SELECT count(*) FROM gone), (SELECT array_agg(ctid) FROM added WHERE is_empty),
           (SELECT array_agg(tenant_id ORDER BY tenant_id, customer_id) FROM changed WHERE currency = ''),
           (SELECT array_agg(customer_id ORDER BY tenant_id, customer_id) FROM changed WHERE currency = '')
    INTO folded, empty, tenants, customers;
    DELETE FROM report_sums WHERE ctid = ANY (empty);
    -- Of each currency, too, there stands how many deals there are in all.
    UPDATE customer_values AS kept SET deals = every.deals
    FROM unnest(tenants, customers) AS changed (tenant_id, customer_id) JOIN customer_values AS every
        ON every.tenant_id = changed.tenant_id AND every.customer_id = changed.customer_id AND every.currency = ''
    WHERE kept.tenant_id = changed.tenant_id AND kept.customer_id = changed.customer_id AND kept.currency <> ''
        AND kept.value <> 0 AND kept.deals <> every.deals;
    {KEEP_NEWEST}
    DELETE FROM customer_values AS kept USING unnest(tenants, customers) AS changed (tenant_id, customer_id)
    WHERE kept.tenant_id = changed.tenant_id AND kept.customer_id = changed.customer_id
        AND CASE currency WHEN '' THEN deals ELSE value END = 0;
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
ALL = " UNION ALL ".join(
    (*(facts(table, table) for table in FACTS), of_visits(VISITS.format(sign=1, rows="stage_history AS rows")))
)
# What a visit that has ended has of its deal: no time if that is in the trash.
OF_DEAL = "CASE WHEN deals.deleted_at IS NULL THEN deals.created_at END, deals.owner_id"
# Visits of the tenant whose copy of it is wrong, as it is of those that were loaded without triggers.
STRANGE = f"""
    deals JOIN stage_history AS visits ON visits.tenant_id = deals.tenant_id AND visits.deal_id = deals.id
    WHERE deals.tenant_id = current_setting('crm.tenant') AND left_at IS NOT NULL
        AND (deal_created_at, deal_owner_id)
            IS DISTINCT FROM ({OF_DEAL})"""


# A deal is locked before its visits, as by those who change it, and nobody changes it in between.
def tell(some: str = "") -> str:
    """Correct the tenant's visits, or those of some deals."""
    return f"""
    UPDATE stage_history SET (deal_created_at, deal_owner_id) = ROW (created, owner)
    FROM (
        SELECT visits.id, {OF_DEAL}
        FROM {STRANGE} {some}FOR SHARE OF deals
    ) AS strange (id, created, owner)
    WHERE stage_history.tenant_id = current_setting('crm.tenant') AND stage_history.id = strange.id;
"""


TELL = tell().strip()
COUNT_STRANGE = f"UNION ALL\n    SELECT 'stage_history', count(*) FROM {STRANGE} HAVING count(*) > 0"
# Before migration 0078 nothing else was kept of a customer.
VALUED_ONLY = """valued AS (
        INSERT INTO customer_values (tenant_id, customer_id, currency, value, deals)
        SELECT tenant, customer_id, currency, value, deals FROM worths WHERE value <> 0
        UNION ALL SELECT DISTINCT tenant, customer_id, '', 0, deals FROM worths
    ),"""
VALUED = """valued AS (
        INSERT INTO customer_values
            (tenant_id, customer_id, currency, value, deals, assigned_to, newest_at, newest_id)
        SELECT tenant, customer_id, currency, value, worths.deals, assigned_to, NULL, NULL
        FROM worths JOIN customers ON customers.tenant_id = tenant AND customers.id = customer_id WHERE value <> 0
        UNION ALL (
            SELECT DISTINCT ON (customer_id) tenant, customer_id, '', 0, worths.deals, assigned_to, created_at, deals.id
            FROM worths JOIN (SELECT tenant_id, id, assigned_to FROM customers) AS customers
                ON customers.tenant_id = tenant AND customers.id = customer_id
            JOIN deals USING (tenant_id, customer_id) WHERE deleted_at IS NULL
            ORDER BY customer_id, created_at DESC, deals.id DESC
        )
    ),"""
# `worths` are what each customer is worth in each currency, and how many deals it has.
REBUILD = f"""
-- Adds up a tenant's rows anew, as the owner. Nobody waits for it: what others commit meanwhile stays in the changes.
-- Only who changes a deal of which visits were loaded without triggers does: they are told of their deal here.
-- Where tables were filled and not analyzed yet, a nested loop would take hours.
CREATE FUNCTION crm_add_up_reports(tenant text) RETURNS void LANGUAGE plpgsql
SET work_mem = '128MB' SET enable_nestloop = off AS $$
BEGIN
    PERFORM pg_advisory_xact_lock({LOCK});
    PERFORM set_config('crm.tenant', tenant, true);
    {TELL}
    DELETE FROM report_sums WHERE tenant_id = tenant;
    DELETE FROM customer_values WHERE tenant_id = tenant;
    -- One statement, which sees the rows and the changes at the same moment.
    WITH seen AS (DELETE FROM report_changes WHERE tenant_id = tenant),
    worths AS (
        SELECT customer_id, currency, sum(amount) AS value, sum(count(*)) OVER (PARTITION BY customer_id) AS deals
        FROM deals WHERE tenant_id = tenant AND deleted_at IS NULL GROUP BY customer_id, currency
    ),
    {VALUED}
    rows AS MATERIALIZED (SELECT * FROM ({ALL}) AS facts WHERE tenant_id = tenant),
    {spread("rows")}
    INSERT INTO report_sums ({SPREAD_COLUMNS}) SELECT {SPREAD_COLUMNS} FROM spread;
END $$;
"""

COUNT_NOT_KEPT = f"""UNION ALL
    SELECT 'customer_values', count(*)
    FROM customer_values AS kept CROSS JOIN LATERAL ({NOW}
    ) AS now
    WHERE kept.tenant_id = tenant AND {KEPT}
        AND kept.customer_id NOT IN (SELECT customer_id FROM changed) HAVING count(*) > 0"""
# What the sums and the changes that wait say, taken away from what the rows say, must be nothing. So must
# `worths`, which is the same of customers.
COMPARE = f"""
-- How many sums of a tenant, of each series, are not those of its rows, at this moment. For the owner, who reads all.
CREATE FUNCTION crm_compare_report_sums(tenant text) RETURNS TABLE (compared text, wrong bigint) LANGUAGE plpgsql
SET work_mem = '128MB' SET enable_nestloop = off AS $$
BEGIN
    PERFORM set_config('crm.tenant', tenant, true);
    RETURN QUERY
    WITH rows AS MATERIALIZED (
        SELECT * FROM ({ALL}) AS facts WHERE tenant_id = tenant
        UNION ALL
        SELECT {KEY}, {", ".join(f"-{measure}" for measure in MEASURES)} FROM report_changes WHERE tenant_id = tenant
    ),
    {spread("rows")},
    expected AS (
        SELECT {SPREAD_COLUMNS} FROM spread
        WHERE span <> 1 AND ({" OR ".join(f"{measure} <> 0" for measure in MEASURES)})
    ),
    kept AS (SELECT {SPREAD_COLUMNS} FROM report_sums WHERE tenant_id = tenant AND span <> 1),
    changed AS (
        SELECT tenant_id, facet::bigint AS customer_id, currency, sum(value) AS value, sum(deals) AS deals
        FROM report_changes
        CROSS JOIN LATERAL (VALUES (part, amount, 0), ('', 0, rows)) AS worth (currency, value, deals)
        WHERE tenant_id = tenant AND series = 'deals.customer' GROUP BY 1, 2, 3
    ),
    worths AS (
        SELECT customer_id, currency, sum(value) AS value, sum(deals) AS deals
        FROM (
            SELECT customer_id, currency, amount AS value, 0 AS deals
            FROM deals WHERE tenant_id = tenant AND deleted_at IS NULL
            UNION ALL
            SELECT customer_id, '', 0, 1 FROM deals WHERE tenant_id = tenant AND deleted_at IS NULL
            UNION ALL SELECT customer_id, currency, -value, -deals FROM changed
            UNION ALL
            SELECT customer_id, currency, -value, CASE currency WHEN '' THEN -deals ELSE 0 END
            FROM customer_values WHERE tenant_id = tenant
        ) AS differences GROUP BY 1, 2 HAVING sum(value) <> 0 OR sum(deals) <> 0
    )
    SELECT series, count(*) FROM (
        (SELECT * FROM expected EXCEPT SELECT * FROM kept) UNION ALL (SELECT * FROM kept EXCEPT SELECT * FROM expected)
    ) AS different GROUP BY series
    UNION ALL
    SELECT 'customer_values', count(*) FROM worths HAVING count(*) > 0
    {COUNT_NOT_KEPT}
    {COUNT_STRANGE};
END $$;
"""


def make_functions(*, visits_copy: bool = True, customers_kept: bool = True) -> None:
    """Make all of it. Before migration 0066 visits do not have copies of what is asked about their deals, and before
    0078 nothing but what a customer is worth is kept of it.
    """
    for table in FACTS:
        run(summed(table))
    run(on_change("stage_history", "DELETE", append(of_visits(VISITS.format(sign=-1, rows="old_rows AS rows")))))
    made = REMOVED + FOLD + REBUILD + COMPARE
    if not visits_copy:
        made = made.replace(TELL, "").replace(COUNT_STRANGE, "")
    if not customers_kept:
        made = made.replace(KEEP_NEWEST, "").replace(VALUED, VALUED_ONLY).replace(COUNT_NOT_KEPT, "")
    run(made)
    run(owned_by("crm_maintenance", "crm_fold_report_changes(bigint)", "crm_prune_report_sums(bigint)"))


def drop_functions() -> None:
    """Drop all of it."""
    triggers = [(table, event) for table in FACTS for event in TRANSITIONS] + [("stage_history", "DELETE")]
    for table, event in triggers:
        run(f"DROP FUNCTION IF EXISTS crm_sum_{table}_{event.lower()}() CASCADE")
    run("""
        DROP FUNCTION crm_fold_report_changes, crm_prune_report_sums, crm_add_up_reports;
        DROP FUNCTION IF EXISTS crm_compare_report_sums;
        DROP FUNCTION IF EXISTS crm_unshare_deals;
    """)
