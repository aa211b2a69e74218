"""Rules as the migrations before 0009 made them: by triggers that fire for each row, and counts that are appended.

Kept as they were, so that these migrations do what they did. Newer ones use migrations.rules.
"""

from migrations.rules import NEVER_AUDITED, array, counts


def audited(
    table: str,
    resource_type: str,
    derived: tuple[str, ...] = (),
    *,
    events: str = "INSERT OR UPDATE OR DELETE",
    name: str = "audit",
    when: str = "true",
) -> str:
    """Each change of a row writes one audit entry, in the same transaction, whoever makes it and however."""
    return f"""
        CREATE TRIGGER {name} AFTER {events} ON {table} FOR EACH ROW WHEN ({when})
            EXECUTE FUNCTION crm_audit('{resource_type}', {array((*NEVER_AUDITED, *derived))});
    """


def counted(table: str, facet: str = "''", live: str = "deleted_at IS NULL", *, appended: bool = False) -> str:
    """The database keeps how many live rows there are of each facet: see app/records/counts.py. Each statement appends
    what it changed, so that no writer waits for another. `appended` says that rows only ever come.
    """
    parts = {
        "INSERT": ("NEW TABLE AS new_rows", counts(facet, live, "new_rows", "count(*)")),
        "DELETE": ("OLD TABLE AS old_rows", counts(facet, live, "old_rows", "-count(*)")),
        "UPDATE": (
            "OLD TABLE AS old_rows NEW TABLE AS new_rows",
            f"""
            SELECT tenant_id, facet, sum(rows) FROM (
                {counts(facet, live, "new_rows", "count(*)")}
                UNION ALL {counts(facet, live, "old_rows", "-count(*)")}
            ) AS changes (tenant_id, facet, rows) GROUP BY tenant_id, facet HAVING sum(rows) <> 0""",
        ),
    }
    return "".join(
        f"""
        CREATE OR REPLACE FUNCTION crm_count_{table}_{event.lower()}() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
            INSERT INTO record_counts (tenant_id, counted, facet, rows)
            SELECT tenant_id, '{table}', facet, rows FROM ({changes}) AS appended (tenant_id, facet, rows);
            IF random() < 0.02 THEN
                PERFORM crm_fold_counts('{table}');
            END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER count_{event.lower()} AFTER {event} ON {table} REFERENCING {rows}
            FOR EACH STATEMENT EXECUTE FUNCTION crm_count_{table}_{event.lower()}();
        """
        for event, (rows, changes) in parts.items()
        if event == "INSERT" or not appended
    )


def trashed_with(table: str, *children: str) -> str:
    """What goes into the trash with a row, and comes back with it; `children` are 'table.column'."""
    return f"""
        CREATE TRIGGER trash AFTER UPDATE OF deleted_at ON {table}
            FOR EACH ROW WHEN (OLD.deleted_at IS DISTINCT FROM NEW.deleted_at)
            EXECUTE FUNCTION crm_trash_along({", ".join(f"'{child}'" for child in children)});
    """
