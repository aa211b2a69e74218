"""`crm seed`: any number of made-up customers with everything that belongs to them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import psycopg

from app.cli.environment import TenantName, data_dir_option, environment
from app.db.revisions import is_current
from app.dev.fake_data import SELLERS, TAGS, Batch, FakeData, Stage, with_ids
from app.models import Activity, Contact, Customer, Deal, Note, Project

BATCH = 2_000
SEED_ACTOR = '{"user_id": "seed", "user_name": "Seed", "user_role": "admin"}'
# The resource types of the audit entries, which are written here for many rows at once.
AUDITED = {
    Customer: "customer",
    Contact: "contact",
    Deal: "deal",
    Project: "project",
    Activity: "activity",
    Note: "note",
}
ADDED_UP = {"customers", "deals", "activities"}
NEVER_AUDITED = {"tenant_id", "version", "updated_at", "stage_entered_at"}


@click.command()
@click.option("--customers", "count", type=click.IntRange(1), required=True, help="How many.")
@click.option("--tenant", type=TenantName(), default="default", show_default=True, help="The organization.")
@click.option("--seed", "number", type=int, default=1, show_default=True, help="The same number gives the same data.")
@click.option("--today", type=click.DateTime(["%Y-%m-%d"]), help="The last day of the data.  [default: today]")
@data_dir_option
def seed(count: int, tenant: str, number: int, today: datetime | None, data_dir: Path | None) -> None:
    """Fill a tenant with made-up customers, their contacts, deals, projects, activities and notes. Never in production.

    It needs the login that owns the tables. Other writers wait while it works.

    \b
    Example:
      crm seed --customers 1000000 --tenant big
    """
    with environment(data_dir) as env:
        if env.settings.production:
            raise click.ClickException("Made-up data is not for production.")
        if env.has_embedded_database and not is_current(env.settings.database_dsn):
            # Inside the block, because the tools for migrations take longer to load than the rest.
            from app.db.migrations import Migrations

            Migrations(env.settings.migration_dsn, env.settings.database_dsn).upgrade()
        day = (today or datetime.now(UTC)).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
        with psycopg.connect(env.settings.migration_dsn) as connection:
            fill(connection, count, tenant, number, day, env.settings.default_currency)


def fill(connection: psycopg.Connection, count: int, tenant: str, number: int, today: datetime, currency: str) -> None:
    """Store the customers in batches, over a connection of the tables' owner. `today` is midnight UTC."""
    with connection.transaction():
        _enter(connection, tenant)
        connection.execute(
            "INSERT INTO settings (tenant_id, default_currency, timezone)"
            " VALUES (%s, %s, 'UTC') ON CONFLICT DO NOTHING",
            [tenant, currency],
        )
        connection.execute("SELECT crm_create_default_stages()")
        stages = connection.execute(
            'SELECT id, kind, probability FROM pipeline_stages WHERE is_active ORDER BY "order"'
        )
        pipeline = [Stage(*row) for row in stages]
        connection.cursor().executemany(
            "INSERT INTO users (tenant_id, id, name, email, role) VALUES (%s, %s, %s, %s, 'agent')"
            " ON CONFLICT DO NOTHING",
            [(tenant, *person) for person in SELLERS],
        )
        tag_ids = [_tag(connection, tenant, name, color) for name, color in TAGS.items()]
    data = FakeData(number, today, pipeline, tag_ids, currency)
    with click.progressbar(length=count, label=f"Customers of {tenant}") as bar:
        for start in range(0, count, BATCH):
            size = min(BATCH, count - start)
            with connection.transaction():
                _enter(connection, tenant)
                _store(connection, tenant, data.batch(size))
            bar.update(size)
    # The history of the stages came without triggers.
    connection.execute("SELECT crm_add_up_reports(%s)", [tenant])
    connection.execute("ANALYZE")


def _store(connection: psycopg.Connection, tenant: str, batch: Batch) -> None:
    # The work of the triggers is done below for all rows at once. Nobody else can write meanwhile.
    for model in AUDITED:
        connection.execute(f"ALTER TABLE {model.__tablename__} DISABLE TRIGGER USER")
        # These work on all rows at once anyway, and without them totals would be wrong.
        for trigger in ("count_insert", *(["sum_insert"] if model.__tablename__ in ADDED_UP else [])):
            connection.execute(f"ALTER TABLE {model.__tablename__} ENABLE TRIGGER {trigger}")
    tables: dict[str, list[dict[str, Any]]] = {}
    ids: dict[str, list[int]] = {}
    for table, rows in batch._asdict().items():
        fresh = "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)"
        ids[table] = [row[0] for row in connection.execute(fresh, [table, len(rows)])]
        parents = {"customer_id": "customers", "deal_id": "deals", "project_id": "projects"}
        ids_by_column = {column: ids[parent] for column, parent in parents.items() if parent in ids and parent != table}
        tables[table] = with_ids(rows, iter(ids[table]), **ids_by_column)
    for table, rows in tables.items():
        if rows:
            _copy(connection, tenant, table, rows)
    connection.execute(
        "INSERT INTO customer_tags (tenant_id, customer_id, tag_id)"
        " SELECT tenant_id, id, unnest(tags) FROM customers WHERE id = ANY (%s)",
        [ids["customers"]],
    )
    for model, resource_type in AUDITED.items():
        made = model.__table__
        columns = [f'"{c.name}"' for c in made.columns if c.computed is None and c.name not in NEVER_AUDITED]
        connection.execute(
            "INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action, version, user_id, user_name,"
            " user_role, new_values, salt, new_digest, created_at)"
            " SELECT %s, %s, id, 'create', 1, 'seed', 'Seed', 'admin', new_values, salt,"
            " crm_values_digest(salt, new_values), created_at"
            " FROM (SELECT id, created_at, to_jsonb(made) AS new_values,"
            f" uuid_send(gen_random_uuid()) AS salt FROM (SELECT {', '.join(columns)} FROM {model.__tablename__}"
            " WHERE id = ANY (%s)) AS made OFFSET 0) AS entries",
            [tenant, resource_type, ids[model.__tablename__]],
        )
        connection.execute(f"ALTER TABLE {model.__tablename__} ENABLE TRIGGER USER")


def _copy(connection: psycopg.Connection, tenant: str, table: str, rows: list[dict[str, Any]]) -> None:
    # COPY does not work with row-level security, so it fills a temporary table, and INSERT copies from there.
    columns = ", ".join(rows[0])
    updated = ", updated_at" if "created_at" in rows[0] else ""
    connection.execute(f"CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT {columns} FROM {table} WITH NO DATA")
    with connection.cursor().copy(f"COPY incoming ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(tuple(row.values()))
    override = " OVERRIDING SYSTEM VALUE" if table == "stage_history" else ""
    connection.execute(
        f"INSERT INTO {table} (tenant_id, {columns}{updated}){override}"
        f" SELECT %s, {columns}{updated.replace('updated_at', 'created_at')} FROM incoming",
        [tenant],
    )
    connection.execute("DROP TABLE incoming")


def _enter(connection: psycopg.Connection, tenant: str) -> None:
    connection.execute(
        "SELECT set_config('crm.tenant', %s, true), set_config('crm.actor', %s, true),"
        " set_config('timezone', 'UTC', true), set_config('jit', 'off', true)",
        [tenant, SEED_ACTOR],
    )


def _tag(connection: psycopg.Connection, tenant: str, name: str, color: str) -> int:
    row = connection.execute(
        "INSERT INTO tags (tenant_id, name, color) VALUES (%s, %s, %s)"
        " ON CONFLICT (tenant_id, name_folded) DO UPDATE SET color = excluded.color RETURNING id",
        [tenant, name, color],
    ).fetchone()
    assert row is not None  # noqa: S101 -- the statement always returns one
    return int(row[0])
