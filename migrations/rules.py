"""The rules that the database keeps by itself, as statements for one table.

Row-level security is forced on the tables' owner too, so a migration that changes rows must lift it for its own
transaction: ALTER TABLE … NO FORCE ROW LEVEL SECURITY, and back.
"""

from collections.abc import Iterable
from typing import Any

from alembic import op

NEVER_AUDITED = ("tenant_id", "version", "updated_at")
TRANSITIONS = {
    "INSERT": "NEW TABLE AS new_rows",
    "UPDATE": "OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "DELETE": "OLD TABLE AS old_rows",
}


def run(statements: str) -> None:
    """Execute SQL as it stands: neither ':name' nor '%' means anything but itself."""
    op.get_bind().connection.cursor().execute(statements)


def rows(query: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
    """What a query with the driver's own placeholders answers; nothing where it answers no rows."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute(query, parameters)
    return list(cursor.fetchall()) if cursor.description else []


def act_in(tenant: str) -> None:
    """Make the changes that follow this tenant's, audited as the upgrade's own."""
    actor = '{"user_name": "crm db upgrade"}'
    rows("SELECT set_config('crm.tenant', %s, true), set_config('crm.actor', %s, true)", [tenant, actor])


def isolate(table: str) -> str:
    """Every statement sees and writes the rows of the transaction's tenant only; without a tenant, none."""
    return f"""
        ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY tenant ON {table}
            USING (tenant_id = current_setting('crm.tenant', true))
            WITH CHECK (tenant_id = current_setting('crm.tenant', true));
    """


def own_only(table: str, condition: str) -> str:
    """What belongs to a person, said once: those limited to their own records read as crm_service_own, and
    `crm_owns(table, id)` asks as that role.
    """
    # A member that inherits the role, as an owner on PostgreSQL 15 does, is not meant.
    return f"""
        CREATE POLICY own ON {table} AS RESTRICTIVE FOR SELECT TO crm_service_own
            USING (current_user <> 'crm_service_own' OR {condition});
    """


def versioned(table: str, derived: tuple[str, ...] = ()) -> str:
    """Each real change of a row raises its version. `derived` are columns that the database computes."""
    return f"""
        CREATE TRIGGER version BEFORE UPDATE ON {table}
            FOR EACH ROW EXECUTE FUNCTION crm_version({array((*NEVER_AUDITED, *derived))});
    """


def audited(
    table: str,
    resource_type: str,
    derived: tuple[str, ...] = (),
    *,
    events: Iterable[str] = TRANSITIONS,
    built_in: str | None = None,
) -> str:
    """Each changed row gets one audit entry, in the same transaction, whoever changes it and however: one INSERT for
    all rows of a statement. A new row is no change of anybody's where its column `built_in` is set.
    """
    arguments = f"'{resource_type}', {array((*NEVER_AUDITED, *derived))}"
    function = f"crm_audit({arguments}, '{built_in}')" if built_in else f"crm_audit({arguments})"
    return "".join(on_each_statement("audit", event, table, function) for event in events)


def rederived(
    table: str,
    resource_type: str,
    derived: tuple[str, ...],
    *,
    events: Iterable[str] = TRANSITIONS,
    built_in: str | None = None,
) -> str:
    """The triggers of `versioned` and `audited` anew: other columns are derived now."""
    return f"""
        DROP TRIGGER version ON {table};
        {"".join(f"DROP TRIGGER audit_{event.lower()} ON {table};" for event in events)}
        {versioned(table, derived)}
        {audited(table, resource_type, derived, events=events, built_in=built_in)}
    """


def on_each_statement(name: str, event: str, table: str, function: str) -> str:
    """A trigger `<name>_<event>` whose function reads all rows of a statement from old_rows and new_rows.

    Those of one event fire in the order of their names: a row's audit entry comes before those of what follows from it.
    """
    return f"""
        CREATE TRIGGER {name}_{event.lower()} AFTER {event} ON {table} REFERENCING {TRANSITIONS[event]}
            FOR EACH STATEMENT EXECUTE FUNCTION {function};
    """


def owned_by(role: str, *functions: str) -> str:
    """Let functions run as this role; only who may make things in the schema can be given one."""
    return f"""
        GRANT CREATE ON SCHEMA public TO {role};
        {"".join(f"ALTER FUNCTION {function} OWNER TO {role};" for function in functions)}
        REVOKE CREATE ON SCHEMA public FROM {role};
    """


def searchable(table: str) -> str:
    """Let `crm_search` read the table."""
    return f"""
        CREATE POLICY search ON {table} FOR SELECT TO crm_search USING (true);
        GRANT SELECT ON {table} TO crm_search;
    """


def granted(table: str, rights: str) -> str:
    """What the service may do; TRUNCATE, which ignores row-level security, is never among it."""
    return f"GRANT {rights} ON {table} TO crm_service;"


def counted(table: str, facet: str = "''", live: str = "deleted_at IS NULL", *, appended: bool = False) -> str:
    """The database keeps how many live rows there are of each facet: see app/records/counts.py. Each statement adds
    what it changed. `appended` says that rows only ever come.
    """
    parts = {
        "INSERT": counts(facet, live, "new_rows", "count(*)"),
        "DELETE": counts(facet, live, "old_rows", "-count(*)"),
        "UPDATE": f"""
            SELECT tenant_id, facet, sum(rows) FROM (
                {counts(facet, live, "new_rows", "count(*)")}
                UNION ALL {counts(facet, live, "old_rows", "-count(*)")}
            ) AS changes (tenant_id, facet, rows) GROUP BY tenant_id, facet HAVING sum(rows) <> 0""",
    }
    return "".join(
        f"""
        -- Plans are kept, and made while the table of counts is small: by its index also when it has many versions.
        CREATE OR REPLACE FUNCTION crm_count_{table}_{event.lower()}() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
        SET enable_seqscan = off SET enable_bitmapscan = off AS $$
        BEGIN
            PERFORM crm_add_count(tenant_id, '{table}', facet, rows::bigint)
            FROM ({changes}) AS changes (tenant_id, facet, rows);
            RETURN NULL;
        END $$;
        {on_each_statement("count", event, table, f"crm_count_{table}_{event.lower()}()")}
        """
        for event, changes in parts.items()
        if event == "INSERT" or not appended
    )


def recounted(table: str, facet: str = "''", live: str = "deleted_at IS NULL") -> str:
    """Count from the rows themselves, as a role that row-level security lets see all of them."""
    return f"""
        INSERT INTO record_counts (tenant_id, counted, facet, rows)
        SELECT tenant_id, '{table}', facet, rows
        FROM ({counts(facet, live, table, "count(*)")}) AS counts (tenant_id, facet, rows);
    """


def counts(facet: str, live: str, rows: str, count: str) -> str:
    return f"SELECT tenant_id, ({facet})::text, {count} FROM {rows} WHERE {live} GROUP BY 1, 2"


def trashed_with(table: str, *children: str) -> str:
    """What goes into the trash with a row, and comes back with it; `children` are 'table.column'."""
    along = ", ".join(f"'{child}'" for child in children)
    return on_each_statement("trash", "UPDATE", table, f"crm_trash_along({along})")


def array(names: tuple[str, ...]) -> str:
    return "'{" + ",".join(names) + "}'"
