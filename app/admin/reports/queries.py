"""The reports' statements: one each, so that all figures of a report are of one moment. They add up; the report shapes.

Trashed rows never count, and row-level security decides whose rows do.
"""

from __future__ import annotations

from sqlalchemy import text

# What "now", "this week" and "this month" mean to the tenant.
CALENDAR = """
    calendar AS MATERIALIZED (
        SELECT default_currency AS currency, timezone AS zone,
               (now() AT TIME ZONE timezone)::date AS today,
               date_trunc('week', now() AT TIME ZONE timezone) AT TIME ZONE timezone AS week,
               date_trunc('month', now() AT TIME ZONE timezone) AT TIME ZONE timezone AS month
        FROM settings
    )"""
OVERVIEW = text(f"""
    WITH {CALENDAR},
    customer_counts AS (
        SELECT status, count(*) AS count, count(*) FILTER (WHERE created_at >= month) AS this_month
        FROM customers, calendar WHERE deleted_at IS NULL GROUP BY status
    ),
    deal_sums AS (
        SELECT stage_id, deals.currency, count(*) AS count, sum(amount) AS value,
               sum(amount * probability) / 100 AS weighted,
               count(*) FILTER (WHERE actual_close_date >= month AND actual_close_date < month + interval '1 month')
                   AS closed_this_month
        FROM deals, calendar WHERE deleted_at IS NULL GROUP BY stage_id, deals.currency
    ),
    activity_counts AS (
        SELECT type, CASE WHEN status = 'scheduled' AND due_date < now() THEN 'overdue' ELSE status END AS status,
               count(*) AS count,
               count(*) FILTER (WHERE coalesce(due_date, created_at) >= week
                                  AND coalesce(due_date, created_at) < week + interval '7 days') AS this_week
        FROM activities, calendar WHERE deleted_at IS NULL GROUP BY 1, 2
    ),
    day_counts AS (
        SELECT (coalesce(due_date, created_at) AT TIME ZONE zone)::date AS date, type, count(*) AS count
        FROM activities, calendar
        WHERE deleted_at IS NULL
          AND coalesce(due_date, created_at) >= (today - 29)::timestamp AT TIME ZONE zone
          AND coalesce(due_date, created_at) < (today + 1)::timestamp AT TIME ZONE zone
        GROUP BY 1, 2
    ),
    newest_deals AS (
        SELECT id, title, trim_scale(amount) AS amount, currency, stage_id, customer_id, owner_id, created_at
        FROM deals WHERE deleted_at IS NULL ORDER BY created_at DESC, id DESC LIMIT 5
    ),
    best_customers AS (
        SELECT customer_id, count(*) AS deals_count,
               coalesce(sum(amount) FILTER (WHERE deals.currency = calendar.currency), 0) AS deals_value
        FROM deals, calendar WHERE deleted_at IS NULL
        GROUP BY customer_id ORDER BY deals_value DESC, deals_count DESC, customer_id LIMIT 5
    ),
    best_people AS (
        SELECT owner_id,
               count(*) FILTER (WHERE kind = 'won' AND actual_close_date BETWEEN now() - interval '90 days' AND now())
                   AS deals_closed,
               coalesce(sum(amount) FILTER (WHERE kind = 'open' AND deals.currency = calendar.currency), 0)
                   AS pipeline_value
        FROM calendar, deals JOIN pipeline_stages ON pipeline_stages.id = stage_id
        WHERE deleted_at IS NULL AND owner_id IS NOT NULL
        GROUP BY owner_id ORDER BY deals_closed DESC, pipeline_value DESC, owner_id LIMIT 5
    )
    SELECT json_build_object(
        'currency', (SELECT currency FROM calendar),
        'today', (SELECT today FROM calendar),
        'stages', (SELECT json_agg(json_build_object('id', id, 'name', name, 'kind', kind) ORDER BY "order", id)
                   FROM pipeline_stages),
        'customers', (SELECT coalesce(json_agg(customer_counts), '[]') FROM customer_counts),
        'deals', (SELECT coalesce(json_agg(deal_sums), '[]') FROM deal_sums),
        'activities', (SELECT coalesce(json_agg(activity_counts), '[]') FROM activity_counts),
        'days', (SELECT coalesce(json_agg(day_counts), '[]') FROM day_counts),
        'recent_deals', (
            SELECT coalesce(json_agg(json_build_object(
                'id', id, 'title', title, 'amount', amount, 'currency', currency,
                'stage', (SELECT name FROM pipeline_stages WHERE pipeline_stages.id = stage_id),
                'customer_id', customer_id, 'customer_name', crm_customer_name(customer_id),
                'owner_id', crm_show_user(owner_id), 'created_at', created_at
            ) ORDER BY created_at DESC, id DESC), '[]') FROM newest_deals
        ),
        'top_customers', (
            SELECT coalesce(json_agg(json_build_object(
                'id', customer_id, 'name', crm_customer_name(customer_id),
                'email', (SELECT email FROM customers WHERE id = customer_id),
                'company', (SELECT company FROM customers WHERE id = customer_id),
                'deals_count', deals_count, 'deals_value', trim_scale(deals_value)
            ) ORDER BY deals_value DESC, deals_count DESC, customer_id), '[]') FROM best_customers
        ),
        'top_performers', (
            SELECT coalesce(json_agg(json_build_object(
                'id', crm_show_user(owner_id), 'name', (SELECT name FROM users WHERE id = owner_id),
                'email', (SELECT email FROM users WHERE id = owner_id),
                'deals_closed', deals_closed, 'pipeline_value', trim_scale(pipeline_value)
            ) ORDER BY deals_closed DESC, pipeline_value DESC, owner_id), '[]') FROM best_people
        )
    )::text
""")

_CHOSEN = """
    chosen AS (
        SELECT deals.*, pipeline_stages.kind FROM deals JOIN pipeline_stages ON pipeline_stages.id = stage_id
        WHERE deleted_at IS NULL
          AND (CAST(:from AS timestamptz) IS NULL OR deals.created_at >= :from)
          AND (CAST(:to AS timestamptz) IS NULL OR deals.created_at <= :to)
          AND (CAST(:owners AS text[]) IS NULL OR owner_id = ANY (:owners) OR (:nobody AND owner_id IS NULL))
    )"""

SUMMARY = text(f"""
    WITH {_CHOSEN}
    SELECT json_build_object(
        'by_status', (
            SELECT coalesce(json_agg(sums), '[]') FROM (
                SELECT kind AS status, currency, count(*) AS count, sum(amount) AS total, avg(amount) AS average
                FROM chosen GROUP BY kind, currency
                ORDER BY array_position(ARRAY['open', 'won', 'lost'], kind), currency
            ) AS sums
        ),
        'new_deals_last_30_days', (SELECT count(*) FROM chosen WHERE created_at >= now() - interval '30 days'),
        'average_days_to_close', (
            SELECT round((extract(epoch FROM avg(actual_close_date - created_at)) / 86400)::numeric, 2)
            FROM chosen WHERE kind = 'won'
        )
    )::text
""")

FUNNEL = text(f"""
    WITH {_CHOSEN},
    stays AS (
        SELECT stage_history.*, "order", kind FROM stage_history
        JOIN pipeline_stages ON pipeline_stages.id = to_stage_id
        WHERE deal_id IN (SELECT id FROM chosen)
    ),
    ways AS (
        SELECT deal_id, array_agg(DISTINCT to_stage_id) AS entered,
               max("order") FILTER (WHERE kind IN ('open', 'won')) AS furthest
        FROM stays GROUP BY deal_id
    ),
    steps AS (
        SELECT id, name, display_name, kind, "order",
               (SELECT before.id FROM pipeline_stages AS before
                WHERE before.kind = 'open' AND before."order" < pipeline_stages."order"
                ORDER BY before."order" DESC LIMIT 1) AS previous
        FROM pipeline_stages
    ),
    counts AS (
        SELECT steps.id, count(*) FILTER (WHERE steps.id = ANY (entered)) AS entered,
               count(*) FILTER (WHERE previous = ANY (entered)) AS came_from,
               count(*) FILTER (
                   WHERE previous = ANY (entered) AND (steps.id = ANY (entered) OR furthest > "order")
               ) AS came_on
        FROM steps CROSS JOIN ways GROUP BY steps.id
    ),
    times AS (
        SELECT to_stage_id AS id,
               percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY extract(epoch FROM left_at - entered_at))
                   AS seconds
        FROM stays WHERE left_at IS NOT NULL GROUP BY to_stage_id
    ),
    present AS (
        SELECT stage_id AS id, sum(count)::bigint AS current, json_object_agg(currency, trim_scale(value)) AS values
        FROM (SELECT stage_id, currency, count(*) AS count, sum(amount) AS value FROM chosen GROUP BY 1, 2) AS sums
        GROUP BY stage_id
    )
    SELECT json_build_object(
        'currency', (SELECT default_currency FROM settings),
        'stages', (
            SELECT coalesce(json_agg(json_build_object(
                'stage', name, 'display_name', display_name, 'kind', kind, 'first', previous IS NULL,
                'entered', coalesce(counts.entered, 0), 'came_from', coalesce(came_from, 0),
                'came_on', coalesce(came_on, 0), 'current', coalesce(present.current, 0),
                'values', coalesce(present.values, '{{}}'), 'seconds', times.seconds
            ) ORDER BY "order", steps.id), '[]')
            FROM steps LEFT JOIN counts USING (id) LEFT JOIN present USING (id) LEFT JOIN times USING (id)
        )
    )::text
""")

TEAM = text("""
    WITH closings AS (
        SELECT owner_id, currency, kind, count(*) AS count, sum(amount) AS value,
               extract(epoch FROM sum(actual_close_date - deals.created_at)) AS seconds
        FROM deals JOIN pipeline_stages ON pipeline_stages.id = stage_id
        WHERE deleted_at IS NULL AND owner_id IS NOT NULL
          AND (kind = 'open' OR ((CAST(:from AS timestamptz) IS NULL OR actual_close_date >= :from)
                             AND (CAST(:to AS timestamptz) IS NULL OR actual_close_date <= :to)))
        GROUP BY owner_id, currency, kind
    ),
    work AS (
        SELECT assigned_to, count(*) FILTER (WHERE status = 'completed') AS completed,
               count(*) FILTER (WHERE status = 'scheduled' AND due_date < now()) AS overdue
        FROM activities
        WHERE deleted_at IS NULL AND assigned_to IS NOT NULL
          AND (CAST(:from AS timestamptz) IS NULL OR coalesce(due_date, created_at) >= :from)
          AND (CAST(:to AS timestamptz) IS NULL OR coalesce(due_date, created_at) <= :to)
        GROUP BY assigned_to
    ),
    people AS (
        SELECT owner_id AS id FROM closings UNION SELECT assigned_to FROM work UNION SELECT id FROM users
    )
    SELECT json_build_object(
        'currency', (SELECT default_currency FROM settings),
        'people', (
            SELECT coalesce(json_agg(json_build_object(
                'id', crm_show_user(people.id), 'name', users.name, 'email', users.email,
                'closings', (SELECT coalesce(json_agg(closings), '[]') FROM closings WHERE owner_id = people.id),
                'completed', coalesce(work.completed, 0), 'overdue', coalesce(work.overdue, 0)
            )), '[]')
            FROM people LEFT JOIN users ON users.id = people.id LEFT JOIN work ON work.assigned_to = people.id
            WHERE CAST(:only AS text) IS NULL OR people.id = :only
        )
    )::text
""")
