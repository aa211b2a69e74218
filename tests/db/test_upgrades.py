"""What an upgrade does, shown by a migration of the next release; and what the migrations make."""

from __future__ import annotations

import asyncio
from functools import partial

import psycopg
import pytest
from msgspec.structs import replace
from sqlalchemy.engine import make_url

from app.admin.reports import service
from app.admin.reports.schemas import DealReportQuery
from app.db.migrations import MigrationError, Migrations
from app.db.revisions import MIGRATIONS
from app.identity.migrations import IDENTITY
from app.settings import Settings
from migrations.describe import describe, scratch_database
from tests.admin.test_report_sums import Make, compare, times_in_stages
from tests.conftest import renamed
from tests.db.conftest import NextRelease

SHOUT = """
ACTOR = '{"user_name": "crm db upgrade"}'
run("ALTER TABLE customers NO FORCE ROW LEVEL SECURITY")
for (tenant,) in rows("SELECT DISTINCT tenant_id FROM customers ORDER BY 1"):
    rows("SELECT set_config('crm.tenant', %s, true), set_config('crm.actor', %s, true)", [tenant, ACTOR])
    rows("UPDATE customers SET name = upper(name) WHERE tenant_id = %s", [tenant])
    told.append(f"The customers of {tenant!r} shout.")
run("ALTER TABLE customers FORCE ROW LEVEL SECURITY")
"""
# Deals that were in their second stage, each for longer than the one before; a third of them is in the trash.
SOLD = """
WITH stages AS (SELECT id, row_number() OVER (ORDER BY "order") AS number FROM pipeline_stages),
customer AS (INSERT INTO customers (tenant_id, name) VALUES (%(tenant)s, 'Ada') RETURNING id)
INSERT INTO deals (tenant_id, title, stage_id, customer_id, currency, probability, owner_id, created_at)
SELECT %(tenant)s, 'X', stages.id, customer.id, 'USD', 0, (ARRAY['ada', '7', NULL])[1 + n %% 3],
       now() - n * interval '1 hour'
FROM stages CROSS JOIN customer CROSS JOIN generate_series(1, %(deals)s) AS n WHERE number = 2
"""
MOVED = """
UPDATE deals SET stage_id = (SELECT id FROM pipeline_stages ORDER BY "order" LIMIT 1) WHERE id % 5 > 0;
UPDATE deals SET deleted_at = now() WHERE id % 3 = 0;
"""
COPIES = """
SELECT deals.deleted_at IS NULL AS is_live, deal_created_at IS NOT DISTINCT FROM created_at,
       deal_owner_id IS NOT DISTINCT FROM owner_id, count(*)
FROM stage_history JOIN deals ON deals.id = deal_id WHERE left_at IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1
"""
INDEXES = "SELECT indexname FROM pg_indexes WHERE indexname ~ 'stage_history_(times|time|took)_idx'"
# What counts the times in stages, but for what adds up the changes that wait.
COUNTING = """
SELECT pg_get_functiondef(oid) FROM pg_proc WHERE prosrc ~ 'deals.durations' AND proowner::regrole::text = current_user
"""
FINER = "SELECT 'deals.times' IN (SELECT series FROM report_sums), 'deals.times' IN (SELECT series FROM report_changes)"
WRITE_ANEW = 'run("ALTER TABLE customers ALTER COLUMN contacted TYPE boolean USING NOT contacted")'

REPORTS: list[Make] = [
    partial(service.funnel, query=DealReportQuery()),
    partial(service.funnel, query=DealReportQuery(owner_id=["ada"])),
    partial(times_in_stages, between=None, people=None),
    partial(times_in_stages, between=None, people=["7", ""]),
]


def test_rows_that_a_migration_changes_are_audited_and_told(next_release: NextRelease) -> None:
    migrations, connection = next_release(SHOUT)
    for tenant in ("zeta", "acme"):
        connection.execute("SELECT set_config('crm.tenant', %s, false)", [tenant])
        connection.execute("INSERT INTO customers (tenant_id, name) VALUES (%s, 'Ada')", [tenant])
    assert migrations.upgrade() == ["The customers of 'acme' shout.", "The customers of 'zeta' shout."]
    assert connection.execute("SELECT name, version FROM customers").fetchall() == [("ADA", 2)]
    audited = connection.execute("SELECT user_name, new_values FROM audit_entries WHERE action = 'update'").fetchall()
    assert audited == [("crm db upgrade", {"name": "ADA"})]
    assert migrations.upgrade() == []


def test_a_migration_is_told_of_as_it_begins_where_the_database_is_in_use(settings: Settings) -> None:
    with scratch_database(settings.migration_dsn) as dsn:
        told: list[tuple[str, str | None]] = []
        migrations = Migrations(dsn, dsn, lambda line: told.append((line, migrations.current())), line=IDENTITY)
        migrations.upgrade("0001")
        assert told == []  # it was empty: nobody waits
        migrations.upgrade("0003")
    (_, first), (line, second) = told
    assert (first, second) == ("0001", "0002")
    assert line == "Running upgrade 0002 -> 0003, A registration is one statement, whether the email is known or not."


def test_what_a_migration_wrote_anew_is_vacuumed(next_release: NextRelease) -> None:
    migrations, connection = next_release(WRITE_ANEW)
    connection.execute("INSERT INTO customers (tenant_id, name) SELECT 'acme', n FROM generate_series(1, 500) AS n")
    migrations.upgrade()
    seen = "SELECT relallvisible, relpages, reltuples FROM pg_class WHERE relname = 'customers'"
    ((visible, pages, rows),) = connection.execute(seen).fetchall()
    assert visible == pages > 0
    assert rows == 500


def test_a_database_that_a_newer_release_made_is_left_alone(settings: Settings) -> None:
    with scratch_database(settings.migration_dsn) as dsn:
        migrations = Migrations(dsn, dsn)
        migrations.upgrade()
        with psycopg.connect(dsn) as owner:
            owner.execute("UPDATE crm_migrations SET version_num = '9999'")
        with pytest.raises(MigrationError, match="at revision 9999, which this release does not know"):
            migrations.upgrade()


def test_what_the_schema_file_says_is_what_the_migrations_make(settings: Settings) -> None:
    with scratch_database(settings.migration_dsn) as dsn:
        Migrations(dsn, dsn).upgrade()
        assert (MIGRATIONS / "schema.sql").read_text() == describe(dsn), "run crm db schema"


def test_a_downgrade_to_base_leaves_nothing(settings: Settings) -> None:
    with scratch_database(settings.migration_dsn) as dsn:
        empty = describe(dsn)
        migrations = Migrations(dsn, dsn)
        migrations.upgrade()
        assert describe(dsn) != empty
        migrations.downgrade("base")
        assert describe(dsn) == empty


@pytest.mark.slow
def test_visits_of_an_older_release_are_counted_by_the_newest(settings: Settings) -> None:
    with scratch_database(settings.migration_dsn) as dsn:
        name = str(make_url(dsn).database)
        here = replace(settings, database_url=renamed(settings.database_dsn, name), migration_database_url=dsn)
        with psycopg.connect(dsn, autocommit=True) as owner, psycopg.connect(dsn) as busy:
            copied: list[int] = []

            def tell(line: str) -> None:
                if line.startswith("Waiting"):
                    copied.extend(
                        count for (count,) in owner.execute("SELECT count(deal_created_at) FROM stage_history")
                    )
                    busy.rollback()

            migrations = Migrations(dsn, here.database_dsn, tell)
            migrations.upgrade("0059")
            owner.execute("ALTER TABLE stage_history SET (autovacuum_enabled = off)")
            # More than are written at a time, and an organization of few.
            for tenant, deals in (("acme", 2100), ("zeta", 4)):
                owner.execute("SELECT set_config('crm.tenant', %s, false)", [tenant])
                owner.execute(
                    "INSERT INTO settings (tenant_id, default_currency, timezone) VALUES (%s, 'USD', 'UTC')", [tenant]
                )
                owner.execute("SELECT crm_create_default_stages()")
                owner.execute(SOLD, {"tenant": tenant, "deals": deals})
                owner.execute(MOVED)
            # As the form of migration 0064 was that some databases have run.
            owner.execute("CREATE INDEX stage_history_took_idx ON stage_history (tenant_id, to_stage_id, time_bucket)")
            migrations.check_sums()
            for _ in range(2):
                migrations.upgrade("0066")
                owner.execute("SELECT set_config('crm.tenant', 'acme', false)")
                busy.execute("SELECT set_config('crm.tenant', 'acme', true)")
                busy.execute("SELECT FROM deals WHERE id % 5 > 0 ORDER BY id DESC LIMIT 1 FOR UPDATE")
                copied.clear()
                migrations.upgrade("0067")
                # While somebody held a deal of the second batch, the first was committed.
                assert 0 < copied[0] < 1100
                found = owner.execute(COPIES).fetchall()
                assert [row[:3] for row in found] == [(False, False, True), (True, True, True)]
                assert sum(row[3] for row in found) == 1680
                migrations.upgrade("0076")
                _count_as_before(owner)
                migrations.upgrade()
                migrations.check()
                migrations.check_sums()
                assert owner.execute(INDEXES).fetchall() == [("stage_history_times_idx",)]
                for tenant in ("acme", "zeta"):
                    asyncio.run(compare(here, tenant, iter(REPORTS)))
                migrations.downgrade("0065")
                migrations.check_sums()


def _count_as_before(owner: psycopg.Connection) -> None:
    """As migrations before 0077 counted the times in stages, of which some wait to be added up."""
    for (definition,) in owner.execute(COUNTING).fetchall():
        owner.execute(definition.replace("deals.durations", "deals.times").replace(" / 8)::text", ")::text"))
    for tenant in ("acme", "zeta"):
        owner.execute("SELECT crm_add_up_reports(%s), set_config('crm.tenant', %s, false)", [tenant, tenant])
        owner.execute("UPDATE deals SET owner_id = CASE owner_id WHEN 'ada' THEN '7' ELSE 'ada' END")
        assert owner.execute(FINER).fetchall() == [(True, True)]
