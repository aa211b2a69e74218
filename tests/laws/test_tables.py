"""What the database ensures for each table, also against raw SQL of the service's role."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import String

from app.models import Base, Record
from app.settings import Settings
from tests.callers import Caller
from tests.laws.routes import COLLECTIONS, make

TABLES = sorted(Base.metadata.tables)
AUDITED = sorted(model.__tablename__ for model in Record.__subclasses__())

# Tables that only functions of the database read and write.
NOT_THE_SERVICES = {"audit_progress", "feed_readers", "reminder_progress", "removed_objects", "routines"}

every_audited_table = pytest.mark.parametrize("table", AUDITED)


def enter(connection: psycopg.Connection, tenant: str) -> None:
    connection.execute("SELECT set_config('crm.tenant', %s, false)", [tenant])


def test_a_table_keeps_tenants_apart_even_from_its_owner(catalog: psycopg.Connection) -> None:
    tables = catalog.execute(
        "SELECT relname, relrowsecurity AND relforcerowsecurity, pg_get_userbyid(relowner) FROM pg_class"
        " WHERE oid = ANY (%s::regclass[])",
        [TABLES],
    ).fetchall()
    assert sorted(name for name, _, _ in tables) == TABLES
    assert [name for name, forced, _ in tables if not forced] == []
    acted_as = {"crm_service", "crm_service_own", "crm_search", "crm_maintenance", "crm_auditor"}
    assert [name for name, _, owner in tables if owner in acted_as] == []


def test_every_key_names_the_tenant(catalog: psycopg.Connection) -> None:
    """Primary, unique and foreign keys: without the tenant they would reveal, or refer to, other tenants' rows."""
    keys = catalog.execute(
        """
        SELECT indrelid::regclass::text, indexrelid::regclass::text, indkey[0] = attnum
        FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attname = 'tenant_id'
        WHERE indrelid = ANY (%s::regclass[]) AND indisunique
        UNION ALL
        SELECT conrelid::regclass::text, conname, conkey[1] = attnum
        FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attname = 'tenant_id'
        WHERE conrelid = ANY (%s::regclass[]) AND contype = 'f'
        """,
        [TABLES, TABLES],
    ).fetchall()
    assert {table for table, _, _ in keys} == {*TABLES}
    assert [name for _, name, begins_with_tenant in keys if not begins_with_tenant] == []


def test_no_constraint_waits_for_the_commit(catalog: psycopg.Connection) -> None:
    """A dry run never commits: it would not see what such a constraint refuses."""
    late = "SELECT conname FROM pg_constraint WHERE conrelid = ANY (%s::regclass[]) AND condeferred"
    assert catalog.execute(late, [TABLES]).fetchall() == []


def test_without_a_tenant_there_are_no_rows(service_connection: psycopg.Connection, admin: Caller) -> None:
    for table in NOT_THE_SERVICES:
        with pytest.raises(errors.InsufficientPrivilege):
            service_connection.execute(f"SELECT FROM {table}")
    admin.customer(email="ada@example.com")
    admin.tag()
    for _ in range(2):
        for table in {*TABLES} - NOT_THE_SERVICES:
            assert service_connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
        enter(service_connection, "")


def test_the_service_never_truncates(service_connection: psycopg.Connection) -> None:
    for table in TABLES:
        with pytest.raises(errors.InsufficientPrivilege):
            service_connection.execute(f"TRUNCATE {table} CASCADE")


@every_audited_table
def test_a_row_can_not_be_moved_into_or_made_in_another_tenant(
    table: str, service_connection: psycopg.Connection, admin: Caller
) -> None:
    seed(admin, table)
    enter(service_connection, admin.tenant)
    with pytest.raises(errors.InsufficientPrivilege):
        service_connection.execute(f"UPDATE {table} SET tenant_id = 'elsewhere'")


@every_audited_table
def test_every_bulk_change_by_raw_sql_leaves_one_exact_entry_a_row(
    table: str, settings: Settings, admin: Caller
) -> None:
    for _ in range(3):
        seed(admin, table)
    before = len(admin.audit())
    column = longest_text(table)
    other = "'Asia/Tokyo'" if column == "timezone" else f"coalesce({column}, '') || ' x'"
    with psycopg.connect(settings.database_dsn) as connection:
        connection.execute("SET ROLE crm_service")
        enter(connection, admin.tenant)
        update = f"UPDATE {table} SET {column} = {other} RETURNING id, {column}, version"
        changed = connection.execute(update).fetchall()
        same = connection.execute(f"UPDATE {table} SET {column} = {column} RETURNING id, version").fetchall()
    assert dict(same) == {row[0]: row[2] for row in changed}
    entries = admin.audit()
    assert len(entries) == before + len(changed)
    for record_id, new, _ in changed:
        # Only this statement was made without a person.
        (entry,) = [entry for entry in entries if (entry["resource_id"], entry["user_id"]) == (record_id, None)]
        assert {name: change["new"] for name, change in entry["changes"].items()} == {column: new}


@every_audited_table
def test_what_the_database_derives_is_no_change(table: str, service_connection: psycopg.Connection) -> None:
    derived = service_connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attgenerated <> ''", [table]
    ).fetchall()
    triggers = service_connection.execute(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger"
        " WHERE tgrelid = %s::regclass AND tgname IN ('audit_update', 'version')",
        [table],
    ).fetchall()
    assert len(triggers) == 2
    assert [(name, trigger) for (name,) in derived for (trigger,) in triggers if name not in trigger] == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entries SET user_id = 'somebody else'",
        "DELETE FROM audit_entries",
        "INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action) VALUES ('t', 'tag', 1, 'create')",
        "ALTER TABLE customers DISABLE TRIGGER audit_update",
        "ALTER TABLE customers NO FORCE ROW LEVEL SECURITY",
        "UPDATE customer_tags SET tag_id = 1",
        "DELETE FROM customers",
    ],
)
def test_the_service_can_not_rewrite_history(
    statement: str, service_connection: psycopg.Connection, admin: Caller
) -> None:
    admin.customer()
    enter(service_connection, admin.tenant)
    with pytest.raises(errors.InsufficientPrivilege):
        service_connection.execute(statement)


def test_a_customer_can_not_wear_another_tenants_tag(
    service_connection: psycopg.Connection, admin: Caller, stranger: Caller
) -> None:
    admin.customer()
    enter(service_connection, admin.tenant)
    with pytest.raises(errors.ForeignKeyViolation):
        service_connection.execute("UPDATE customers SET tags = %s", [[stranger.tag()["id"]]])


def test_the_search_function_stays_in_its_tenant(
    service_connection: psycopg.Connection, admin: Caller, stranger: Caller
) -> None:
    mine = admin.customer("Unmistakable")["id"]
    stranger.customer("Unmistakable")
    search = "SELECT crm_search('customers', ARRAY['mistak'], true, false, NULL)"
    assert service_connection.execute(search).fetchall() == []
    enter(service_connection, admin.tenant)
    assert service_connection.execute(search).fetchall() == [(mine,)]


@pytest.mark.parametrize(
    "call",
    [
        "crm_list_stored_files()",
        "crm_trash_attachment('t', 1)",
        "crm_delete_upload('t', 1)",
        "crm_purge_attachments(now())",
        "crm_purge_tenant('t', now(), '{notes}', 1)",
        "crm_deleted_under('t', 'note', 'customer_id', '{1}')",
    ],
)
def test_what_works_across_tenants_is_not_for_the_service(call: str, service_connection: psycopg.Connection) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        service_connection.execute(f"SELECT * FROM {call}")


PARAMETER = {path.removeprefix("/admin/").replace("-", "_"): name for name, path in COLLECTIONS.items()}


def longest_text(table: str) -> str:
    """The column with the most room: whatever it holds, a few more letters are allowed."""
    columns = [column for column in Base.metadata.tables[table].columns if column.computed is None]
    lengths = {column.name: column.type.length or 0 for column in columns if isinstance(column.type, String)}
    return max(lengths, key=lambda name: lengths[name] if name != "tenant_id" else 0)


def seed(caller: Caller, table: str) -> None:
    if table in PARAMETER:
        make(caller, PARAMETER[table])
    else:
        caller.ok("GET", f"/admin/{table}")


def test_times_are_of_years_that_can_be_read(catalog: psycopg.Connection) -> None:
    columns = catalog.execute(
        """
        SELECT attrelid::regclass::text, attname, pg_get_constraintdef(pg_constraint.oid)
        FROM pg_attribute
        LEFT JOIN pg_constraint ON conrelid = attrelid AND conname = attrelid::regclass::text || '_years_check'
        WHERE attrelid = ANY (%s::regclass[]) AND atttypid = 'timestamptz'::regtype
            AND attgenerated = '' AND NOT attisdropped
        """,
        [TABLES],
    ).fetchall()
    assert columns
    assert [(table, name) for table, name, check in columns if f"({name} >=" not in (check or "")] == []


@pytest.mark.parametrize("moment", ["0001-12-31", "10000-01-01", "infinity", "-infinity", "0044-03-15 BC"])
def test_a_time_that_python_does_not_know_is_refused(
    moment: str, service_connection: psycopg.Connection, admin: Caller
) -> None:
    admin.customer()
    enter(service_connection, admin.tenant)
    with pytest.raises(errors.CheckViolation):
        service_connection.execute("UPDATE customers SET next_follow_up_at = %s", [moment])
    service_connection.execute("UPDATE customers SET next_follow_up_at = '9999-12-31'")


def test_an_amount_is_a_number(service_connection: psycopg.Connection, admin: Caller) -> None:
    make(admin, "deal_id")
    enter(service_connection, admin.tenant)
    with pytest.raises(errors.FeatureNotSupported):  # it has no place in the order of amounts
        service_connection.execute("UPDATE deals SET amount = 'NaN'")
