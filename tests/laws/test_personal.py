"""Each column says whether it holds personal data, and an erasure reaches those that do."""

from __future__ import annotations

import psycopg
import pytest

from app.models import Base
from app.records.personal import EMPTIED, NOT_PERSONAL, PERSONAL

PAGE = "app/records/personal.py"
COLUMNS = """
    SELECT column_name::text FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = %s AND column_name <> 'tenant_id'
      AND (data_type IN ('text', 'character varying', 'character', 'json', 'jsonb', 'bytea', 'xml')
           OR udt_name IN ('_text', '_varchar', '_jsonb', '_json', '_bytea'))
    ORDER BY 1
"""
# The tables whose rows are erased with a customer: what goes into the trash with it, and what refers to any of that and
# is no record of its own.
REACHED = """
    WITH RECURSIVE tree (name) AS (
        SELECT 'customers' UNION SELECT child FROM crm_cascades() JOIN tree ON parent = tree.name
    )
    SELECT name FROM tree UNION
    SELECT child.relname FROM tree JOIN pg_class AS parent ON parent.relname = tree.name
        JOIN pg_constraint ON confrelid = parent.oid JOIN pg_class AS child ON child.oid = conrelid
    WHERE contype = 'f' AND child.relnamespace = 'public'::regnamespace
"""
every_table = pytest.mark.parametrize("table", sorted(Base.metadata.tables))


@every_table
def test_each_column_of_text_json_or_bytes_says_whether_it_is_personal(table: str, catalog: psycopg.Connection) -> None:
    present = {name for (name,) in catalog.execute(COLUMNS, [table])}
    personal, others = set(PERSONAL.get(table, "").split()), set(NOT_PERSONAL.get(table, "").split())
    for name in sorted(present - personal - others):
        pytest.fail(
            f"say in {PAGE} whether {table}.{name} holds what is known of a customer or contact: add {name!r} to"
            f" PERSONAL or to NOT_PERSONAL, under {table!r}"
        )
    assert personal & others == set(), f"{PAGE} has these of {table} in both lists"
    assert (personal | others) - present == set(), f"{PAGE} names columns that {table} does not have"


def test_the_lists_name_tables_that_are_there() -> None:
    assert PERSONAL.keys() | NOT_PERSONAL.keys() <= Base.metadata.tables.keys()


@pytest.mark.parametrize("table", sorted(PERSONAL))
def test_an_erasure_reaches_each_table_with_personal_columns(table: str, catalog: psycopg.Connection) -> None:
    reached = {name for (name,) in catalog.execute(REACHED)}
    assert table in reached | EMPTIED, (
        f"{table} has personal columns, and an erasure does not reach it: let a migration run"
        f" cascade_soft_delete(…, '{table}.…'), give it a foreign key to what it belongs to, or let crm_erase_record"
        f" empty it and add it to EMPTIED in {PAGE}"
    )


def test_what_the_log_says_of_each_reference_is_found_by_an_index(catalog: psycopg.Connection) -> None:
    references = {name for (name,) in catalog.execute("SELECT reference FROM crm_cascades()")}
    for name in references:
        found = catalog.execute("SELECT to_regclass(%s)", [f"audit_entries_{name}_idx"]).fetchone()
        assert found != (None,), f"let a migration run logged_under({name!r})"
