"""What an upgrade does, shown by a migration of the next release; and what the migrations make."""

from __future__ import annotations

import psycopg
import pytest

from app.db.migrations import MigrationError, Migrations
from app.db.revisions import MIGRATIONS
from app.identity.migrations import IDENTITY
from app.settings import Settings
from migrations.describe import describe, scratch_database
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
WRITE_ANEW = 'run("ALTER TABLE customers ALTER COLUMN contacted TYPE boolean USING NOT contacted")'


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
