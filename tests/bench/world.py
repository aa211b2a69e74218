"""Tenants of any size, made by the database itself in minutes: set-based, without triggers, indexes built afterwards.

`crm seed` makes what people look at; this makes what is measured. A size is a tenant of that name.
"""

from __future__ import annotations

import re
from importlib import import_module

import psycopg

from app.dev.fake_data import FIRST_NAMES, LAST_NAMES, TAGS, TASKS, TRADES
from migrations.rules import counts

TABLES = (
    *("customers", "customer_tags", "contacts", "deals", "stage_history", "activities", "notes", "audit_entries"),
    "duplicate_groups",
)
# Of the customers one in so many has this in its company's name: 50 of a million.
RARE_ONE_IN, RARE = 20_000, "Zyxmark"

RANDOM = """
CREATE FUNCTION pg_temp.r(n bigint, salt int, below int) RETURNS int LANGUAGE sql IMMUTABLE
RETURN (hashint8extended(n, salt) & 2147483647) % below
"""

# {base} are the ids before; a row's number i says everything else about it.
CUSTOMERS = """
INSERT INTO customers (tenant_id, id, name, email, phone, company, status, assigned_to, contacted, next_follow_up_at,
                       tags, created_at, updated_at)
SELECT %(tenant)s, %(customers)s + i, first || ' ' || last,
       CASE WHEN r(i, 1, 20) > 0 THEN lower(first) || '.' || i || '@example.com' END,
       CASE WHEN r(i, 2, 10) < 7 THEN '+49 30 ' || 100000 + r(i, 3, 899999) END,
       CASE WHEN i %% %(rare_one_in)s = 7 THEN %(rare)s WHEN r(i, 4, 5) > 0
            THEN (%(lasts)s::text[])[1 + r(i, 5, 40)] || ' ' || (%(trades)s::text[])[1 + r(i, 6, 18)] END,
       (ARRAY['lead','lead','lead','lead','lead','lead','lead','lead','prospect','prospect','prospect','prospect',
              'active','active','active','active','active','inactive','inactive','churned'])[1 + r(i, 7, 20)],
       CASE WHEN r(i, 8, 10) > 0 THEN 'agent-' || 1 + floor(40 * power(r(i, 9, 100000) / 100000.0, 2)) END,
       r(i, 10, 2) = 0,
       CASE WHEN r(i, 11, 10) < 3 THEN now() + make_interval(secs => r(i, 12, 5184000)) END,
       (SELECT coalesce(array_agg(t ORDER BY t), '{}') FROM unnest(%(tags)s::bigint[]) WITH ORDINALITY AS u (t, n)
        WHERE r(i, 20 + n::int, 5) = 0),
       at, at
FROM (SELECT i, (%(firsts)s::text[])[1 + r(i, 13, 40)] AS first, (%(lasts)s::text[])[1 + r(i, 14, 40)] AS last,
             now() - make_interval(secs => r(i, 15, 63072000)) AS at
      FROM generate_series(1, %(count)s) AS i) AS made
"""
CUSTOMER_TAGS = """
INSERT INTO customer_tags (tenant_id, customer_id, tag_id)
SELECT tenant_id, id, unnest(tags) FROM customers WHERE tenant_id = %(tenant)s
"""
CONTACTS = """
INSERT INTO contacts (tenant_id, id, customer_id, first_name, last_name, email, is_primary, created_at, updated_at)
SELECT %(tenant)s, %(contacts)s + i, %(customers)s + 2 * i, (%(firsts)s::text[])[1 + r(i, 30, 40)],
       (%(lasts)s::text[])[1 + r(i, 31, 40)], 'contact.' || i || '@example.com', true, at, at
FROM (SELECT i, now() - make_interval(secs => r(i, 32, 63072000)) AS at
      FROM generate_series(1, %(count)s / 2) AS i) AS made
"""
DEALS = """
INSERT INTO deals (tenant_id, id, title, customer_id, stage_id, amount, currency, probability, expected_close_date,
                   actual_close_date, owner_id, stage_entered_at, created_at, updated_at)
SELECT %(tenant)s, %(deals)s + i, 'Deal ' || i, %(customers)s + 1 + r(i, 40, %(count)s), stage.id,
       round((power(r(i, 41, 1000) / 1000.0, 3) * 100000 + 100)::numeric, 2),
       CASE WHEN r(i, 42, 20) > 0 THEN 'USD' ELSE 'EUR' END, stage.probability,
       CASE WHEN r(i, 43, 5) > 0 THEN at + make_interval(secs => r(i, 44, 15552000)) END,
       CASE WHEN stage.kind <> 'open' THEN at + (now() - at) * 0.5 END,
       'agent-' || 1 + floor(40 * power(r(i, 45, 100000) / 100000.0, 2)), at, at, at
FROM (SELECT i, now() - make_interval(secs => r(i, 46, 63072000)) AS at, 1 + r(i, 47, 6) AS place
      FROM generate_series(1, %(count)s) AS i) AS made
JOIN (SELECT id, kind, probability, row_number() OVER (ORDER BY "order") AS place
      FROM pipeline_stages WHERE tenant_id = %(tenant)s) AS stage USING (place)
"""
# From a second to a hundred days, whenever the deal was created.
STAGE_HISTORY = """
WITH moved AS (
    SELECT deals.*, first, created_at + make_interval(secs => exp(r(id, 49, 160000) / 10000.0)) AS moved_at
    FROM deals, (SELECT min(id) AS first FROM pipeline_stages WHERE tenant_id = %(tenant)s) AS stages
    WHERE tenant_id = %(tenant)s
)
INSERT INTO stage_history (tenant_id, deal_id, from_stage_id, to_stage_id, user_id, user_name, entered_at, left_at,
                           deal_created_at, deal_owner_id)
SELECT tenant_id, id, NULL, first, owner_id, owner_id, created_at,
       CASE WHEN stage_id <> first THEN moved_at END, created_at, owner_id
FROM moved
UNION ALL
SELECT tenant_id, id, first, stage_id, owner_id, owner_id, moved_at, NULL, NULL, NULL
FROM moved WHERE stage_id <> first
"""
ACTIVITIES = """
INSERT INTO activities (tenant_id, id, title, type, status, customer_id, deal_id, assigned_to, due_date, completed_at,
                        priority, created_at, updated_at)
SELECT %(tenant)s, %(activities)s + i, (%(tasks)s::text[])[1 + r(i, 50, 8)] || ' ' || i,
       (ARRAY['call','email','meeting','task','note'])[1 + r(i, 51, 5)], status,
       %(customers)s + 1 + r(i, 52, %(count)s),
       CASE WHEN r(i, 53, 2) = 0 THEN %(deals)s + 1 + r(i, 54, %(count)s) END,
       'agent-' || 1 + floor(40 * power(r(i, 55, 100000) / 100000.0, 2)),
       CASE WHEN r(i, 56, 10) > 0 THEN at + make_interval(secs => r(i, 57, 5184000)) END,
       CASE WHEN status = 'completed' THEN at + (now() - at) * 0.5 END,
       (ARRAY['low','normal','normal','high'])[1 + r(i, 58, 4)], at, at
FROM (SELECT i, now() - make_interval(secs => r(i, 59, 63072000)) AS at,
             (ARRAY['scheduled','completed','completed','completed','cancelled'])[1 + r(i, 60, 5)] AS status
      FROM generate_series(1, 2 * %(count)s) AS i) AS made
"""
NOTES = """
INSERT INTO notes (tenant_id, id, content, customer_id, author_id, author_name, created_at, updated_at)
SELECT %(tenant)s, %(notes)s + i, 'Remark ' || i || ' of ' || (%(firsts)s::text[])[1 + r(i, 70, 40)],
       %(customers)s + 2 * i, 'agent-' || 1 + r(i, 71, 40), 'Agent', at, at
FROM (SELECT i, now() - make_interval(secs => r(i, 72, 63072000)) AS at
      FROM generate_series(1, %(count)s / 2) AS i) AS made
"""
# Pairs of customers that follow on each other: one of twenty has such a one.
DUPLICATE_GROUPS = """
INSERT INTO duplicate_groups (tenant_id, kind, score, reasons, members)
SELECT %(tenant)s, 'customers', 60 + r(i, 80, 41), '{same name}',
       ARRAY[%(customers)s + 20 * i - 1, %(customers)s + 20 * i]
FROM generate_series(1, %(count)s / 20) AS i
"""
AUDIT = """
INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action, user_id, user_name, user_role, new_values,
                           created_at)
SELECT tenant_id, 'customer', id, 'create', 'seed', 'Seed', 'admin', jsonb_build_object('name', name), created_at
FROM customers WHERE tenant_id = %(tenant)s
UNION ALL
SELECT tenant_id, 'deal', id, 'create', 'seed', 'Seed', 'admin', jsonb_build_object('title', title), created_at
FROM deals WHERE tenant_id = %(tenant)s
"""
STATEMENTS = (CUSTOMERS, CUSTOMER_TAGS, CONTACTS, DEALS, STAGE_HISTORY, ACTIVITIES, NOTES, DUPLICATE_GROUPS, AUDIT)


def fill(connection: psycopg.Connection, sizes: list[int]) -> None:
    """Make the tenants of these sizes that are not there yet, over a superuser's autocommit connection."""
    made = {row[0] for row in connection.execute("SELECT tenant_id FROM settings")}
    missing = [size for size in sizes if str(size) not in made]
    if not missing:
        return
    connection.execute(RANDOM)
    connection.execute("SET session_replication_role = replica; SET maintenance_work_mem = '1GB'")
    # Built at once they take a fraction of the time that row by row does.
    dropped = connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = ANY (%s::regclass[]) AND NOT indisunique",
        [list(TABLES)],
    ).fetchall()
    with connection.transaction():
        for index, _ in dropped:
            connection.execute(f"DROP INDEX {index}")
        for size in missing:
            _fill_one(connection, size)
        for _, definition in dropped:
            connection.execute(definition)
        # No trigger counted what came in.
        connection.execute("DELETE FROM record_counts")
        for table, facet in import_module("migrations.versions.0001_schema").COUNTED.items():
            connection.execute(_recounted(table, *facet))
        connection.execute(_recounted("duplicate_groups", "kind", "true"))
        for size in missing:
            connection.execute("SELECT crm_add_up_reports(%s)", [str(size)])
    connection.execute("SET session_replication_role = origin")
    connection.execute("VACUUM ANALYZE")
    connection.execute("CHECKPOINT")


def _recounted(table: str, facet: str = "''", live: str = "deleted_at IS NULL") -> str:
    return f"""
        INSERT INTO record_counts (tenant_id, counted, facet, rows)
        SELECT tenant_id, '{table}', facet, rows
        FROM ({counts(facet, live, table, "count(*)")}) AS counts (tenant_id, facet, rows)
    """


def forget(connection: psycopg.Connection, tenant: str) -> None:
    """Delete what was created in a tenant."""
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        for table in (*TABLES, "record_counts", "report_changes", "report_sums", "customer_values"):
            connection.execute(f"DELETE FROM {table} WHERE tenant_id = %s", [tenant])


def _fill_one(connection: psycopg.Connection, size: int) -> None:
    tenant = str(size)
    connection.execute(
        "INSERT INTO settings (tenant_id, default_currency, timezone) VALUES (%s, 'USD', 'UTC')", [tenant]
    )
    connection.execute("SELECT set_config('crm.tenant', %s, true)", [tenant])
    connection.execute("SELECT crm_create_default_stages()")
    tags = [
        connection.execute(
            "INSERT INTO tags (tenant_id, name, color) VALUES (%s, %s, %s) RETURNING id", [tenant, name, color]
        ).fetchone()
        for name, color in TAGS.items()
    ]
    values = {
        "tenant": tenant,
        "count": size,
        "tags": [row[0] for row in tags if row],
        "firsts": FIRST_NAMES,
        "lasts": LAST_NAMES,
        "trades": TRADES,
        "tasks": TASKS,
        "rare": RARE,
        "rare_one_in": RARE_ONE_IN,
    }
    tables = ("customers", "contacts", "deals", "activities", "notes")
    for table in tables:
        row = connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()
        values[table] = row[0] if row else 0
    for statement in STATEMENTS:
        connection.execute(re.sub(r"\br\(", "pg_temp.r(", statement), values)
    for table in tables:
        connection.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")
