"""The rules that the database keeps by itself, each as a function that makes it for one table.

A new resource's migration calls those that its declaration names: docs/adding-a-resource.md shows it.

Row-level security is forced on the tables' owner too. A migration that changes rows must lift it for its own
transaction: ALTER TABLE … NO FORCE ROW LEVEL SECURITY, and back. For the triggers it sets crm.tenant and crm.actor.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from alembic import op

NEVER_AUDITED = ("tenant_id", "version", "updated_at")
# A search looks through everything that was inserted since the index was last merged (kilobytes). PostgreSQL's own
# limit of 4 MB makes a search for a rare word three times as slow after an import.
PENDING = 256
FIRST_TIME, LAST_TIME = "'0002-01-01 00:00:00+00'", "'9999-12-31 23:59:59.999999+00'"
TIMES = """
SELECT attname::text FROM pg_attribute
WHERE attrelid = %s::regclass AND atttypid = 'timestamptz'::regtype AND attgenerated = '' AND NOT attisdropped
ORDER BY attnum
"""
LINKS = """
SELECT split_part(named, '.', 2) FROM pg_trigger, unnest(string_to_array(encode(tgargs, 'escape'), '\\000')) AS named
WHERE tgfoid = 'crm_cascade_soft_delete'::regproc AND split_part(named, '.', 1) = %s ORDER BY 1
"""
TRANSITIONS = {
    "INSERT": "NEW TABLE AS new_rows",
    "UPDATE": "OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "DELETE": "OLD TABLE AS old_rows",
}


def run(statements: str) -> None:
    """Execute SQL without parameters: `:name` and `%` have no special meaning."""
    op.get_bind().connection.cursor().execute(statements)


def rows(query: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
    """Execute SQL with psycopg's placeholders, and return its rows, if it has any."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute(query, parameters)
    return list(cursor.fetchall()) if cursor.description else []


@contextmanager
def transaction() -> Iterator[None]:
    """A transaction of its own, inside an `autocommit_block`."""
    driver: Any = op.get_bind().connection.driver_connection
    with driver.transaction():
        yield


def tenants() -> list[str]:
    """All of them. The owner would have to lift row-level security, which locks their settings."""
    run("SET LOCAL ROLE crm_maintenance")
    found = rows("SELECT tenant_id FROM settings ORDER BY 1")
    run("RESET ROLE")
    return [tenant for (tenant,) in found]


def isolate(table: str) -> str:
    """Let every statement see and write only the rows of the transaction's tenant; without a tenant, none."""
    return f"""
        ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
        ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
        CREATE POLICY tenant ON {table}
            USING (tenant_id = current_setting('crm.tenant', true))
            WITH CHECK (tenant_id = current_setting('crm.tenant', true));
    """


def own_only(table: str, condition: str) -> str:
    """Say which rows are a person's own. Whoever is limited to own records reads as the role crm_service_own, and
    `crm_owns(table, id)` asks as that role.
    """
    # This policy must not apply to roles that only inherit crm_service_own, as the owner does on PostgreSQL 15.
    return f"""
        CREATE POLICY own ON {table} AS RESTRICTIVE FOR SELECT TO crm_service_own
            USING (current_user <> 'crm_service_own' OR {condition});
    """


def versioned(table: str, derived: tuple[str, ...] = ()) -> str:
    """Raise the version of a row with each real change. `derived` are columns that the database computes."""
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
    """Write one audit entry for each changed row, in the same transaction, for every way to change it. All rows of a
    statement need one INSERT. Inserts with a value in the column `built_in` are not audited.
    """
    arguments = f"'{resource_type}', {array((*NEVER_AUDITED, *derived))}"
    function = f"crm_audit({arguments}, '{built_in}')" if built_in else f"crm_audit({arguments})"
    return "".join(on_each_statement("audit", event, table, function) for event in events)


def on_each_statement(name: str, event: str, table: str, function: str) -> str:
    """Make a trigger `<name>_<event>`. Its function reads all rows of a statement from old_rows and new_rows.

    Triggers of one event fire in the order of their names. So the audit entry of a row comes before the entries of the
    changes that follow from it.
    """
    return f"""
        CREATE TRIGGER {name}_{event.lower()} AFTER {event} ON {table} REFERENCING {TRANSITIONS[event]}
            FOR EACH STATEMENT EXECUTE FUNCTION {function};
    """


def owned_by(role: str, *functions: str) -> str:
    """Let functions run as this role. To own them, it must have the right CREATE on the schema for a moment."""
    return f"""
        GRANT CREATE ON SCHEMA public TO {role};
        {"".join(f"ALTER FUNCTION {function} OWNER TO {role};" for function in functions)}
        REVOKE CREATE ON SCHEMA public FROM {role};
    """


def as_role(role: str, statements: str) -> None:
    """Execute SQL as this role, which may replace the functions that it owns."""
    ((before,),) = rows("SELECT current_setting('role')")
    run(f"GRANT CREATE ON SCHEMA public TO {role}; SET LOCAL ROLE {role}; {statements}")
    rows("SELECT set_config('role', %s, true)", [before])
    run(f"REVOKE CREATE ON SCHEMA public FROM {role}")


def amend(function: str, before: str, after: str, *, role: str | None = None) -> None:
    """Change one part of a function, whatever else earlier migrations have changed in it. `role` owns it, if not the
    tables' owner.
    """
    ((definition,),) = rows("SELECT pg_get_functiondef(%s::regprocedure)", [function])
    if definition.count(before) != 1:
        raise ValueError(f"{function} does not have exactly once: {before}")
    changed = definition.replace(before, after)
    if role is None:
        run(changed)
    else:
        as_role(role, changed)


def searchable(table: str, document: str, query: str | None = None) -> str:
    """Let `crm_search` look through an expression of the table, or by a query of its own.

    Its parameters are $1 the tenant, $2 the grams and $3 the patterns of all fragments, $4 whether the trash is left
    out, $5 how many ids are wanted, $6 the grams and $7 the pattern of the longest fragment.
    """
    if query is None:
        query = f"""
        SELECT id FROM {table}
        WHERE tenant_id = $1 AND crm_grams({document}) COLLATE "C" @> $2 AND {document} LIKE ALL ($3)
            AND (deleted_at IS NULL OR NOT $4)
        LIMIT $5"""
    parameters = "text, text[], text[], boolean, bigint, text[], text"
    return f"""
        CREATE INDEX {table}_search_idx ON {table} USING gin (crm_grams({document}) COLLATE "C")
            WITH (gin_pending_list_limit = {PENDING});
        CREATE POLICY search ON {table} FOR SELECT TO crm_search USING (true);
        GRANT SELECT ON {table} TO crm_search;
        CREATE FUNCTION crm_search_{table}({parameters}) RETURNS SETOF bigint LANGUAGE sql STABLE AS $q${query}$q$;
        {owned_by("crm_search", f"crm_search_{table}({parameters})")}
    """


def granted(table: str, rights: str) -> str:
    """Grant rights to the service. Never TRUNCATE, which ignores row-level security."""
    return f"GRANT {rights} ON {table} TO crm_service;"


def counted(
    table: str,
    facet: str = "''",
    live: str = "deleted_at IS NULL",
    *,
    appended: bool = False,
    events: Iterable[str] = TRANSITIONS,
) -> str:
    """Keep the number of live rows for each value of `facet` (see app/records/counts.py). Each statement adds what it
    changed. `appended` means append-only: rows are never updated or deleted.
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
        -- PostgreSQL caches the plan, which was made while the table of counts was small: so the index is forced.
        CREATE FUNCTION crm_count_{table}_{event.lower()}() RETURNS trigger LANGUAGE plpgsql
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
        if event in events and (event == "INSERT" or not appended)
    )


def limited(table: str) -> str:
    """Refuse records beyond what the organization may have. The table is `counted`, and crm_is_record names it."""
    return "".join(on_each_statement("quota", event, table, "crm_limit_records()") for event in ("INSERT", "UPDATE"))


def counts(facet: str, live: str, rows: str, count: str) -> str:
    return f"SELECT tenant_id, ({facet})::text, {count} FROM {rows} WHERE {live} GROUP BY 1, 2"


def cascade_soft_delete(parent: str, *children: str) -> str:
    """Put these children, as 'table.column', into the trash with their parent, and restore them with it. It keeps the
    children of earlier calls.
    """
    before = rows(
        "SELECT encode(tgargs, 'escape') FROM pg_trigger WHERE tgrelid = %s::regclass AND tgname = %s",
        [parent, "trash_update"],
    )
    already = [child for (arguments,) in before for child in arguments.split("\\000") if child]
    arguments = ", ".join(f"'{child}'" for child in (*already, *children))
    drop = f"DROP TRIGGER IF EXISTS trash_update ON {parent};"
    return drop + on_each_statement("trash", "UPDATE", parent, f"crm_cascade_soft_delete({arguments})")


def trashed(table: str) -> str:
    """Let the trash be read by time, and keep out of it what belongs to a customer on hold. It comes after each
    `cascade_soft_delete` that names the table, because such a record can't be moved away either.
    """
    return f"""
        CREATE INDEX {table}_trashed_at_idx ON {table} (tenant_id, deleted_at, id) WHERE deleted_at IS NOT NULL;
        {kept_while_held(table)}
    """


def kept_while_held(table: str) -> str:
    """Do the second part of `trashed` again, for a table that has come to belong to one more."""
    refuse = "EXECUTE FUNCTION crm_keep_held()"
    moved = "".join(f" OR OLD.{link} IS DISTINCT FROM NEW.{link}" for (link,) in rows(LINKS, [table]))
    return f"""
        DROP TRIGGER IF EXISTS held ON {table};
        DROP TRIGGER IF EXISTS held_delete ON {table};
        CREATE CONSTRAINT TRIGGER held AFTER UPDATE ON {table} FOR EACH ROW
            WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL{moved}) {refuse};
        CREATE CONSTRAINT TRIGGER held_delete AFTER DELETE ON {table} FOR EACH ROW {refuse};
    """


def logged_under(reference: str) -> str:
    """Let an erasure find what once belonged to a record, by what the audit log says of its deletion."""
    return f"""
        CREATE INDEX audit_entries_{reference}_idx ON audit_entries (tenant_id, (old_values ->> '{reference}'))
            WHERE action = 'delete';
    """


def within_years(table: str) -> str:
    """Refuse times that Python and JSON can't say, in all columns of the table that hold one."""
    columns = [column for (column,) in rows(TIMES, [table])]
    checked = " AND ".join(f"{column} BETWEEN {FIRST_TIME} AND {LAST_TIME}" for column in columns)
    return f"ALTER TABLE {table} ADD CONSTRAINT {table}_years_check CHECK ({checked});"


def array(names: tuple[str, ...]) -> str:
    return "'{" + ",".join(names) + "}'"
