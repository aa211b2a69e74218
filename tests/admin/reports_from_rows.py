"""The reports by statements over the rows themselves, in the place of the sums: what the sums are compared with.

Rows in the trash do not count. Row-level security decides which people's rows do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, datetime
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

from msgspec import json
from sqlalchemy import ColumnElement, literal_column, text

from app.admin.activities import queries as activities
from app.admin.deals.schemas import Deal
from app.admin.reports import from_sums
from app.admin.reports.queries import NEWEST_DEALS
from app.admin.reports.rows import FunnelRows, OverviewRows, PeriodRow, SummaryRows, TeamRows
from app.admin.reports.sums import Between
from app.db.statements import DIALECT
from app.records.calendar import TODAY_SQL, at_midnight, midnight, next_moment
from app.records.calendar import first_moment as first_moment_of
from app.records.transaction import Transaction


def _sql(expression: ColumnElement[Any]) -> str:
    return f"({expression.compile(dialect=DIALECT)})"


def _at_midnight(column: str) -> str:
    return _sql(at_midnight(literal_column(column)))


def in_period(column: str, whole_day: str) -> str:
    """Whether a time is between `from` and `to`. Whole days are compared as calendar days."""
    return " AND ".join(
        f"(CAST(:{end} AS timestamptz) IS NULL OR {column} {compare}"
        f" CASE WHEN {whole_day} THEN CAST(:{end}_day AS timestamptz) ELSE CAST(:{end} AS timestamptz) END)"
        for end, compare in (("from", ">="), ("to", "<"))
    )


def first_moment(midnight: str) -> str:
    """The first moment of a day in a `zone`. PostgreSQL takes the second of two midnights, as there are in Havana."""
    return f"(({midnight} - interval '1 microsecond') AT TIME ZONE zone + interval '1 microsecond')"


IS_OVERDUE = _sql(activities.IS_OVERDUE)
# What "now", "this week" and "this month" mean to the tenant.
CALENDAR = f"""
    local AS MATERIALIZED (
        SELECT default_currency AS currency, timezone AS zone, now() AT TIME ZONE timezone AS now FROM settings
    ),
    calendar AS MATERIALIZED (
        SELECT currency, zone, now::date AS today, date_trunc('week', now)::date AS monday,
               -- A day more at either end: a whole day's midnight is that of UTC.
               {first_moment("(least(now::date - 29, date_trunc('week', now)::date) - 1)::timestamp")} AS first_moment,
               {first_moment("date_trunc('week', now) + interval '8 days'")} AS last_moment,
               {first_moment("date_trunc('month', now)")} AS month,
               {first_moment("date_trunc('month', now) + interval '1 month'")} AS next_month,
               date_trunc('month', now) AT TIME ZONE 'UTC' AS month_midnight,
               (date_trunc('month', now) + interval '1 month') AT TIME ZONE 'UTC' AS next_month_midnight
        FROM local
    )"""
# Each table is read once, and the figures are added up from small groups. The calendar is read by subselects, since a
# join would keep the database from using several processes.
_OVERVIEW = f"""
    WITH {CALENDAR},
    customer_counts AS (
        SELECT status, count(*) AS count,
               count(*) FILTER (WHERE created_at >= (SELECT month FROM calendar)) AS this_month
        FROM customers WHERE deleted_at IS NULL GROUP BY status
    ),
    deal_groups AS MATERIALIZED (
        SELECT stage_id, currency, owner_id, count(*) AS count, sum(amount) AS value,
               sum(amount * probability) / 100 AS weighted,
               count(*) FILTER (
                   WHERE actual_close_date >= (SELECT month - interval '1 day' FROM calendar)
                     AND actual_close_date < (SELECT next_month + interval '1 day' FROM calendar)
                     AND CASE WHEN {_at_midnight("actual_close_date")}
                              THEN actual_close_date >= (SELECT month_midnight FROM calendar)
                               AND actual_close_date < (SELECT next_month_midnight FROM calendar)
                              ELSE actual_close_date >= (SELECT month FROM calendar)
                               AND actual_close_date < (SELECT next_month FROM calendar) END
               ) AS closed_this_month,
               count(*) FILTER (
                   WHERE actual_close_date BETWEEN now() - interval '90 days' AND greatest(now(), {TODAY_SQL})
               ) AS closed_lately
        FROM deals WHERE deleted_at IS NULL GROUP BY stage_id, currency, owner_id
    ),
    deal_sums AS (
        SELECT stage_id, currency, sum(count)::bigint AS count, sum(value) AS value, sum(weighted) AS weighted,
               sum(closed_this_month)::bigint AS closed_this_month
        FROM deal_groups GROUP BY stage_id, currency
    ),
    activity_groups AS MATERIALIZED (
        SELECT type, CASE WHEN {IS_OVERDUE} THEN 'overdue' ELSE status END AS status,
               CASE WHEN coalesce(due_date, created_at) >= (SELECT first_moment FROM calendar)
                     AND coalesce(due_date, created_at) < (SELECT last_moment FROM calendar)
                    THEN (coalesce(due_date, created_at)
                          AT TIME ZONE CASE WHEN all_day AND due_date IS NOT NULL THEN 'UTC'
                                            ELSE (SELECT zone FROM calendar) END)::date END AS date,
               count(*) AS count
        FROM activities WHERE deleted_at IS NULL GROUP BY 1, 2, 3
    ),
    activity_counts AS (
        SELECT type, status, sum(count)::bigint AS count,
               coalesce(sum(count) FILTER (WHERE date >= monday AND date < monday + 7), 0)::bigint AS this_week
        FROM activity_groups, calendar GROUP BY type, status
    ),
    day_counts AS (
        SELECT date, type, sum(count)::bigint AS count
        FROM activity_groups, calendar WHERE date BETWEEN today - 29 AND today GROUP BY date, type
    ),
    -- People who see only their own records may have deals with customers that they do not see.
    best_customers AS (
        SELECT customer_id, count(*) AS deals_count,
               coalesce(sum(amount) FILTER (WHERE currency = (SELECT currency FROM calendar)), 0) AS deals_value
        FROM deals WHERE deleted_at IS NULL AND customer_id IN (SELECT id FROM customers)
        GROUP BY customer_id ORDER BY deals_value DESC, deals_count DESC, customer_id LIMIT 5
    ),
    best_people AS (
        SELECT owner_id, coalesce(sum(closed_lately) FILTER (WHERE kind = 'won'), 0)::bigint AS deals_closed,
               coalesce(sum(value) FILTER (WHERE kind = 'open' AND deal_groups.currency = calendar.currency), 0)
                   AS pipeline_value
        FROM calendar, deal_groups JOIN pipeline_stages ON pipeline_stages.id = stage_id
        WHERE owner_id IS NOT NULL
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
                'id', crm_user_json(owner_id), 'name', (SELECT name FROM users WHERE id = owner_id),
                'email', (SELECT email FROM users WHERE id = owner_id),
                'deals_closed', deals_closed, 'pipeline_value', trim_scale(pipeline_value)
            ) ORDER BY deals_closed DESC, pipeline_value DESC, owner_id), '[]') FROM best_people
        )
    )::text
"""


OVERVIEW = text(f"SELECT ({_OVERVIEW})")

_OWNED = "(CAST(:owners AS text[]) IS NULL OR owner_id = ANY (:owners) OR (:nobody AND owner_id IS NULL))"
_CHOSEN = f"""
    chosen AS NOT MATERIALIZED (
        SELECT deals.id, stage_id, kind, currency, amount, deals.created_at, actual_close_date
        FROM deals JOIN pipeline_stages ON pipeline_stages.id = stage_id
        WHERE deleted_at IS NULL
          AND (CAST(:from AS timestamptz) IS NULL OR deals.created_at >= :from)
          AND (CAST(:to AS timestamptz) IS NULL OR deals.created_at < :to)
          AND {_OWNED}
    )"""

SUMMARY = text(f"""
    WITH {_CHOSEN},
    sums AS MATERIALIZED (
        SELECT currency, kind, count(*) AS count, sum(amount) AS value, count(actual_close_date) AS dated,
               extract(epoch FROM sum(greatest(actual_close_date - created_at, interval '0'))) AS seconds,
               count(*) FILTER (WHERE created_at >= now() - interval '30 days') AS fresh
        FROM chosen GROUP BY currency, kind
    )
    SELECT json_build_object(
        'sums', (SELECT coalesce(json_agg(sums), '[]') FROM sums),
        'fresh', (SELECT coalesce(sum(fresh), 0)::bigint FROM sums)
    )::text
""")

_FUNNEL = f"""
    WITH {_CHOSEN},
    history AS NOT MATERIALIZED (
        SELECT deal_id, to_stage_id, entered_at, left_at FROM stage_history WHERE :of_chosen
    ),
    ways AS (SELECT array_agg(to_stage_id) AS entered FROM history GROUP BY deal_id),
    -- Thousands of deals take the same few ways.
    common_ways AS MATERIALIZED (
        SELECT entered, count(*) AS deals,
               (SELECT max("order") FROM pipeline_stages
                WHERE id = ANY (entered) AND kind IN ('open', 'won')) AS furthest
        FROM ways GROUP BY entered
    ),
    steps AS (
        SELECT id, name, display_name, kind, "order",
               (SELECT before.id FROM pipeline_stages AS before
                WHERE before.kind = 'open' AND before."order" < pipeline_stages."order"
                ORDER BY before."order" DESC LIMIT 1) AS previous
        FROM pipeline_stages
    ),
    counts AS (
        SELECT steps.id, sum(deals) FILTER (WHERE steps.id = ANY (entered))::bigint AS entered,
               sum(deals) FILTER (WHERE previous = ANY (entered))::bigint AS came_from,
               sum(deals) FILTER (
                   WHERE previous = ANY (entered) AND (steps.id = ANY (entered) OR furthest > "order")
               )::bigint AS came_on
        FROM steps CROSS JOIN common_ways GROUP BY steps.id
    ),
    times AS (
        SELECT to_stage_id AS id,
               percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY extract(epoch FROM left_at - entered_at))
                   AS seconds
        FROM history WHERE left_at IS NOT NULL GROUP BY to_stage_id
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
"""
FUNNEL = text(_FUNNEL.replace(":of_chosen", "deal_id IN (SELECT id FROM chosen)"))
_PLACE = "CASE WHEN kind = 'open' AND at < :today_{0} THEN -1 ELSE width_bucket(at, CAST(:{0}s AS timestamptz[])) END"
# A deal's place is the number of the period in which it is expected or was closed, from 1; -1 is overdue, null none.
FORECAST = text(f"""
    WITH dated AS (
        SELECT currency, kind, amount, deals.probability,
               CASE kind WHEN 'open' THEN expected_close_date ELSE actual_close_date END AS at
        FROM deals JOIN pipeline_stages ON pipeline_stages.id = stage_id
        WHERE deleted_at IS NULL AND {_OWNED}
    ),
    sums AS (
        SELECT CASE WHEN {_at_midnight("at")} THEN {_PLACE.format("midnight")}
                    WHEN at IS NOT NULL THEN {_PLACE.format("moment")} END AS place,
               currency, kind, count(*) AS count, sum(amount) AS value, sum(amount * probability) / 100 AS weighted
        FROM dated WHERE kind = 'open' OR at IS NOT NULL GROUP BY 1, 2, 3
    )
    SELECT coalesce(json_agg(sums), '[]')::text FROM sums
""")

TEAM = text(f"""
    -- '' stands for nobody: it is not the id of a person.
    WITH closings AS (
        SELECT coalesce(owner_id, '') AS id, currency, kind, count(*) AS count, sum(amount) AS value,
               count(actual_close_date) AS dated,
               extract(epoch FROM sum(greatest(actual_close_date - deals.created_at, interval '0'))) AS seconds
        FROM deals JOIN pipeline_stages ON pipeline_stages.id = stage_id
        WHERE deleted_at IS NULL
          AND (kind = 'open' OR ({in_period("actual_close_date", _at_midnight("actual_close_date"))}))
        GROUP BY 1, currency, kind
    ),
    work AS (
        SELECT coalesce(assigned_to, '') AS id, count(*) FILTER (WHERE status = 'completed') AS completed,
               count(*) FILTER (WHERE {IS_OVERDUE}) AS overdue
        FROM activities
        WHERE deleted_at IS NULL
          AND {in_period("coalesce(due_date, created_at)", "all_day AND due_date IS NOT NULL")}
        GROUP BY 1
    ),
    people AS (
        SELECT id FROM closings UNION SELECT id FROM work UNION SELECT id FROM users
    )
    SELECT json_build_object(
        'currency', (SELECT default_currency FROM settings),
        'people', (
            SELECT coalesce(json_agg(json_build_object(
                'id', crm_user_json(nullif(people.id, '')), 'name', users.name, 'email', users.email,
                'closings', (SELECT coalesce(json_agg(closings), '[]') FROM closings WHERE closings.id = people.id),
                'completed', coalesce(work.completed, 0), 'overdue', coalesce(work.overdue, 0)
            )), '[]')
            FROM people LEFT JOIN users ON users.id = people.id LEFT JOIN work ON work.id = people.id
            WHERE CAST(:only AS text) IS NULL OR people.id = :only
        )
    )::text
""")


def _ends(between: Between | None) -> dict[str, datetime | None]:
    first, last, first_day, last_day = between or Between()
    days = [None if day is None else midnight(day) for day in (first_day, last_day)]
    return {
        "from": first,
        "from_day": days[0],
        "to": last,
        "to_day": days[1],
    }


def _owned_by(people: Sequence[str] | None) -> dict[str, Any]:
    return {"owners": people, "nobody": people is not None and "" in people}


async def overview_rows(tx: Transaction) -> tuple[OverviewRows, list[Deal]]:
    newest = (await tx.connection.execute(NEWEST_DEALS)).scalar_one()
    return json.decode((await tx.connection.execute(OVERVIEW)).scalar_one(), type=OverviewRows), newest


async def summary_rows(tx: Transaction, between: Between | None, people: Sequence[str] | None) -> SummaryRows:
    found = await tx.connection.execute(SUMMARY, _ends(between) | _owned_by(people))
    return json.decode(found.scalar_one(), type=SummaryRows)


async def funnel_rows(tx: Transaction, between: Between | None, people: Sequence[str] | None) -> FunnelRows:
    found = await tx.connection.execute(FUNNEL, _ends(between) | _owned_by(people))
    return json.decode(found.scalar_one(), type=FunnelRows)


async def team_rows(tx: Transaction, between: Between | None, only: str | None) -> TeamRows:
    found = await tx.connection.execute(TEAM, _ends(between) | {"only": only})
    return json.decode(found.scalar_one(), type=TeamRows)


async def period_rows(
    tx: Transaction, starts: Sequence[date], last: date, today: date, zone: ZoneInfo, people: Sequence[str] | None
) -> list[PeriodRow]:
    parameters = {
        "today_moment": first_moment_of(today, zone),
        "today_midnight": midnight(today),
        # The last bound is where the last period ends.
        "moments": [*(first_moment_of(start, zone) for start in starts), next_moment(last, zone)],
        "midnights": [*map(midnight, starts), next_moment(last, ZoneInfo("UTC"))],
    }
    found = await tx.connection.execute(FORECAST, _owned_by(people) | parameters)
    return json.decode(found.scalar_one(), type=list[PeriodRow])


@contextmanager
def reports_from_rows() -> Iterator[None]:
    """Inside, reports are made of the rows."""
    made = (overview_rows, summary_rows, funnel_rows, team_rows, period_rows)
    with ExitStack() as stack:
        for each in made:
            stack.enter_context(patch.object(from_sums, each.__name__, each))
        yield
