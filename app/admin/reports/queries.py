"""What reports read from the rows themselves. Rows in the trash do not count."""

from __future__ import annotations

from sqlalchemy import TextClause, literal_column, select, text

from app.admin.deals import queries as deals
from app.admin.deals.schemas import Deal
from app.admin.reports.sums import COUNTED_TOGETHER, ME
from app.db.statements import unprepared
from app.records.json_columns import labelled, nested_rows

_NEWEST = (
    select(*labelled(deals.COLUMNS))
    .where(deals.c.deleted_at.is_(None))
    .order_by(deals.c.created_at.desc(), deals.c.id.desc())
    .limit(literal_column("5"))
)
# As lists show them.
NEWEST_DEALS = select(nested_rows(_NEWEST, Deal).column)
# Of a person's customers those with the newest deals are read off an index, besides those that changed since. Row-level
# security shows a person only the changes of customers of its own.
_CHANGED = "SELECT DISTINCT facet::bigint AS customer_id FROM report_changes WHERE series = 'deals.customer'"
_NEWEST_OF_OWN = text(f"""
    WITH changed AS MATERIALIZED ({_CHANGED}),
    kept AS (
        SELECT customer_id FROM customer_values
        WHERE assigned_to = {ME} AND currency = '' AND customer_id NOT IN (SELECT customer_id FROM changed)
        ORDER BY newest_at DESC, newest_id DESC LIMIT 5
    )
    (SELECT id FROM deals WHERE owner_id = {ME} AND deleted_at IS NULL ORDER BY created_at DESC, id DESC LIMIT 5)
    UNION (
        SELECT newest.id
        FROM (SELECT * FROM kept UNION SELECT * FROM changed) AS chosen CROSS JOIN LATERAL (
            SELECT id, created_at FROM deals WHERE customer_id = chosen.customer_id AND deleted_at IS NULL
            ORDER BY created_at DESC, id DESC LIMIT 5
        ) AS newest ORDER BY newest.created_at DESC, newest.id DESC LIMIT 5
    )
""").columns(deals.c.id)
NEWEST_OF_OWN = unprepared(select(nested_rows(_NEWEST.where(deals.c.id.in_(_NEWEST_OF_OWN)), Deal).column))

# An index has the owners as they are, and so no `coalesce`. What is known when it is planned is left out of the plan.
_OWNED = """(CAST(:people AS text[]) IS NULL OR owner_id = ANY (:people)
    OR ('' = ANY (:people) AND owner_id IS NULL))"""
_TIMES = """
    SELECT coalesce(json_object_agg(to_stage_id, seconds), '{{}}')::text
    FROM (
        SELECT to_stage_id, percentile_cont(ARRAY[0.5, 0.9])
                   WITHIN GROUP (ORDER BY extract(epoch FROM left_at - entered_at)) AS seconds
        FROM ({0}) AS chosen CROSS JOIN LATERAL (
            SELECT to_stage_id, entered_at, left_at FROM stage_history
            WHERE deal_id = chosen.id AND left_at IS NOT NULL OFFSET 0
        ) AS visits GROUP BY to_stage_id
    ) AS times
"""
_CREATED = """
    AND (CAST(:first AS timestamptz) IS NULL OR deals.created_at >= :first)
    AND (CAST(:last AS timestamptz) IS NULL OR deals.created_at < :last)"""
# The middle and the ninth tenth of the times in each stage, of the deals that were created in a period.
TIMES = unprepared(text(_TIMES.format(f"SELECT id FROM deals WHERE deleted_at IS NULL AND {_OWNED} {_CREATED}")))
# Of who sees only own records and has few customers: from each of these on, since to go through the deals of everybody
# takes longer than the database expects.
TIMES_OF_OWN = unprepared(
    text(
        _TIMES.format(f"""
            SELECT id FROM deals WHERE owner_id = {ME} AND deleted_at IS NULL AND {_OWNED} {_CREATED}
            UNION
            SELECT deals.id FROM customers CROSS JOIN LATERAL (
                SELECT * FROM deals WHERE deals.customer_id = customers.id AND deals.deleted_at IS NULL OFFSET 0
            ) AS deals
            WHERE customers.assigned_to = {ME} AND {_OWNED} {_CREATED}""")
    )
)
# Of the visits of a stage that took about as long (its bucket in the sums), some that follow on each other, the
# shortest first, or backwards: the index has them in order, and all that is asked about their deals. Null if all visits
# that are asked about are so few that it is faster to read them: a row takes as long as some twenty entries of the
# index.
_IN_ORDER = f"""ARRAY(
    SELECT extract(epoch FROM left_at - entered_at)::float8 FROM stage_history
    WHERE to_stage_id = stage
        AND time_bucket >= bucket * {COUNTED_TOGETHER} AND time_bucket < (bucket + 1) * {COUNTED_TOGETHER}
        AND left_at IS NOT NULL AND deal_created_at IS NOT NULL
        AND (CAST(:people AS text[]) IS NULL OR coalesce(deal_owner_id, '') = ANY (:people))
        AND (CAST(:first AS timestamptz) IS NULL OR deal_created_at >= :first)
        AND (CAST(:last AS timestamptz) IS NULL OR deal_created_at < :last)
    ORDER BY time_bucket {{0}}, left_at - entered_at {{0}} OFFSET skipped LIMIT most
)"""
_WANTED = "unnest(CAST(:stage AS bigint[]), CAST(:bucket AS integer[]))"
TIMES_AT = unprepared(
    text(f"""
        WITH reads AS (
            SELECT coalesce(sum(rows), 0) AS visits FROM {_WANTED} AS wanted (stage, bucket) JOIN report_sums AS sums
                ON series = 'deals.durations' AND NOT by_person AND span = 0 AND person = '' AND hour = 0
                AND NOT whole_day AND facet = stage::text AND part = bucket::text
        )
        SELECT coalesce(json_agg(
            CASE WHEN backwards THEN {_IN_ORDER.format("DESC")} ELSE {_IN_ORDER.format("")} END ORDER BY number
        ), 'null')::text
        FROM unnest(
            CAST(:stage AS bigint[]), CAST(:bucket AS integer[]), CAST(:backwards AS boolean[]),
            CAST(:skipped AS bigint[]), CAST(:most AS bigint[])
        ) WITH ORDINALITY AS wanted (stage, bucket, backwards, skipped, most, number)
        WHERE CAST(:visits AS bigint) IS NULL OR (SELECT visits FROM reads) <= 20 * :visits
    """)
)
# The best customers are read off an index; of those that changed since, the changes are added. Where few have deals in
# the organization's currency, those with the most deals come next.
_BEST = """
    home AS (SELECT default_currency AS currency FROM settings),
    changed AS MATERIALIZED (
        SELECT facet::bigint AS customer_id, sum(rows) AS deals,
               coalesce(sum(amount) FILTER (WHERE part = (SELECT currency FROM home)), 0) AS value
        FROM report_changes WHERE series = 'deals.customer' GROUP BY 1
    ),
    best AS (
        SELECT customer_id FROM customer_values
        WHERE {0} currency = (SELECT currency FROM home) AND customer_id NOT IN (SELECT customer_id FROM changed)
        ORDER BY value DESC, deals DESC, customer_id LIMIT 5
    ),
    busiest AS (
        SELECT customer_id FROM customer_values
        WHERE {0} currency = '' AND customer_id NOT IN (SELECT customer_id FROM changed)
        ORDER BY value DESC, deals DESC, customer_id LIMIT 10
    ),
    chosen AS (
        SELECT customer_id, 0 AS deals, 0 AS value FROM (SELECT * FROM best UNION SELECT * FROM busiest) AS kept
        UNION ALL SELECT customer_id, deals, value FROM changed
    ),
    valued AS (
        SELECT customer_id, chosen.deals + coalesce(kept.deals, 0) AS deals,
               chosen.value + coalesce(here.value, 0) AS value
        FROM chosen
        LEFT JOIN LATERAL (
            SELECT deals FROM customer_values AS kept
            WHERE kept.customer_id = chosen.customer_id AND currency = '' OFFSET 0
        ) AS kept ON true
        LEFT JOIN LATERAL (
            SELECT value FROM customer_values AS here
            WHERE here.customer_id = chosen.customer_id AND currency = (SELECT currency FROM home) OFFSET 0
        ) AS here ON true
    )"""


def _top_customers(of: str = "") -> TextClause:
    return text(f"""
        WITH {_BEST.format(of)}
        SELECT coalesce(json_agg(json_build_object(
            'id', customer_id, 'name', crm_customer_name(customer_id),
            'email', (SELECT email FROM customers WHERE id = customer_id),
            'company', (SELECT company FROM customers WHERE id = customer_id),
            'deals_count', deals, 'deals_value', trim_scale(value)
        ) ORDER BY value DESC, deals DESC, customer_id), '[]')::text
        FROM (
            SELECT * FROM valued WHERE deals > 0 ORDER BY value DESC, deals DESC, customer_id LIMIT 5
        ) AS top
    """)


TOP_CUSTOMERS = _top_customers()
TOP_OF_OWN = _top_customers(f"assigned_to = {ME} AND")
# A person's activities of the last days, by the type, which the sums of people do not have.
DAYS_OF_OWN = text(f"""
    SELECT coalesce(json_agg(json_build_object('date', date, 'type', type, 'count', count)), '[]')::text
    FROM (
        SELECT (at AT TIME ZONE CASE WHEN whole_day THEN 'UTC' ELSE :zone END)::date AS date, type, count(*) AS count
        FROM (
            SELECT type, due_date AS at, all_day AS whole_day FROM activities
            WHERE assigned_to = {ME} AND deleted_at IS NULL AND due_date >= :first AND due_date < :last
            UNION ALL
            SELECT type, created_at, false FROM activities
            WHERE assigned_to = {ME} AND deleted_at IS NULL AND due_date IS NULL
                AND created_at >= :first AND created_at < :last
        ) AS recent GROUP BY 1, 2
    ) AS days WHERE date BETWEEN :first_day AND :last_day
""")
