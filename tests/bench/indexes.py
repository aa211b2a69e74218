"""What each index costs a write, and which orders and filters of lists it serves.

On copies of the tables that hold one tenant and have the same indexes, but neither triggers nor keys to other tables:
nothing that is served is locked, and nothing is left behind.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple, cast

import click
import psycopg

from tests.bench.load import recorded
from tests.bench.server import Bench
from tests.bench.test_plans import EVERY_FILTER, MEASURED, nodes, value_of
from tests.laws.routes import Operation
from tests.laws.test_lists import EVERY_ORDER

TABLES = ("customers", "contacts", "deals", "activities", "notes", "attachments", "audit_entries")
# One that the bench fills, and the one that it does not.
FEW = ("customers", "attachments")
# So many rows, so often; and in a quick run.
ROWS, QUICK_ROWS = 500, 20
ROUNDS = 9
PLACE = "bench_copies"
# No tenant of the bench has files.
ATTACHMENTS = """
INSERT INTO attachments (tenant_id, file_name, content_type, size, sha256, uploaded_by, object_key, customer_id,
                         created_at)
SELECT tenant_id, 'offer.pdf', 'application/pdf', 1000, repeat('0', 64), 'agent-1', tenant_id || '/' || id, id,
       created_at
FROM public.customers WHERE tenant_id = %s
"""


class Cost(NamedTuple):
    """How much longer an INSERT of many rows takes with an index, of what it takes without; and what reads by it."""

    table: str
    name: str
    added: float
    serves: list[str]


def measure(bench: Bench, *, quick: bool) -> list[Cost]:
    """Every index of these tables that no constraint needs."""
    size = bench.sizes[1]
    tables, rounds = (FEW, 1) if quick else (TABLES, ROUNDS)
    serves = _served(bench, size, [each for each in MEASURED if not quick or _list_at(each.path) in tables])
    costs = []
    with psycopg.connect(bench.superuser) as connection:
        connection.execute(f"CREATE SCHEMA {PLACE}")
        connection.execute(f"SET LOCAL search_path = {PLACE}, public")
        for table in tables:
            names = _copy(connection, table, str(size))
            insert = _insert_of(connection, table, QUICK_ROWS if quick else ROWS)
            costs += [
                Cost(table, name, _cost(connection, insert, name, rounds), sorted(serves[name])) for name in names
            ]
        connection.rollback()
    for cost in costs:
        click.echo(f"{cost.name:45}{cost.added:10.1%}  {', '.join(cost.serves)}")
    return costs


def _copy(connection: psycopg.Connection, table: str, tenant: str) -> list[str]:
    """A copy with this tenant's rows; the names of its indexes that no constraint needs."""
    connection.execute(f"CREATE TABLE {PLACE}.{table} (LIKE public.{table} INCLUDING ALL EXCLUDING INDEXES)")
    if table == "attachments":
        connection.execute(ATTACHMENTS, [tenant])
    else:
        columns = ", ".join(_columns(connection, table))
        connection.execute(
            f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE"
            f" SELECT {columns} FROM public.{table} WHERE tenant_id = %s",
            [tenant],
        )
    found = connection.execute(
        "SELECT relname, pg_get_indexdef(indexrelid), EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)"
        " FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = %s::regclass ORDER BY relname",
        [f"public.{table}"],
    ).fetchall()
    for _, definition, _ in found:
        connection.execute(definition.replace(f" ON public.{table} ", f" ON {PLACE}.{table} "))
    connection.execute(f"ANALYZE {PLACE}.{table}")
    return [name for name, _, needed in found if not needed]


def _columns(connection: psycopg.Connection, table: str) -> list[str]:
    """All but those that the database works out."""
    found = connection.execute(
        "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
        " AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
        [f"public.{table}"],
    )
    return [name for (name,) in found]


def _insert_of(connection: psycopg.Connection, table: str, rows: int) -> str:
    """Some of the rows once more, as those of another tenant: there their keys are as unique as in theirs."""
    names = _columns(connection, table)
    others = {"tenant_id": "'another'", "object_key": "'another/' || id"}
    values = [others.get(name, name) for name in names]
    return (
        f"INSERT INTO {table} ({', '.join(names)}) OVERRIDING SYSTEM VALUE"
        f" SELECT {', '.join(values)} FROM {table} LIMIT {rows}"
    )


def _cost(connection: psycopg.Connection, insert: str, index: str, rounds: int) -> float:
    took: dict[bool, list[int]] = {True: [], False: []}
    for _ in range(rounds):
        for there in (True, False):
            with connection.transaction(force_rollback=True):
                if not there:
                    connection.execute(f"DROP INDEX {PLACE}.{index}")
                began = _on_processor(connection)
                connection.execute(insert.encode())
                took[there].append(_on_processor(connection) - began)
    # What disturbs a processor only adds to its time: the least is the nearest.
    return min(took[True]) / min(took[False]) - 1


def _on_processor(connection: psycopg.Connection) -> int:
    """Nanoseconds that this connection's server process had a processor: what else the machine does is not in them."""
    return int(Path(f"/proc/{connection.info.backend_pid}/schedstat").read_text().split()[0])


def _served(bench: Bench, size: int, lists: list[Operation]) -> dict[str, set[str]]:
    """By index, the lists' orders, and those filters that it serves beyond the list's own order.

    As planned with what is cheap only in small tables switched off.
    """
    serves: dict[str, set[str]] = defaultdict(set)
    with recorded(bench, size) as (client, sent), psycopg.connect(bench.settings.database_url) as connection:

        def used(path: str, **query: str) -> set[str]:
            sent.clear()
            answer = client.get(path, params=query)
            assert answer.status_code == 200, answer.text
            return {name for statement in sent[1:] for name in _indexes_of(connection, sent[0], statement)}

        for operation, key, order in cast("list[tuple[Operation, str, str]]", [each.values for each in EVERY_ORDER]):
            if operation in lists:
                for name in used(operation.path, sort_by=key, sort_order=order):
                    serves[name].add(f"{_list_at(operation.path)} by {key}")
        plain = {operation.path: used(operation.path) for operation in lists}
        for operation, field, kind in cast("list[tuple[Operation, str, Any]]", [it.values for it in EVERY_FILTER]):
            if operation in lists:
                for name in used(operation.path, **{field: value_of(field, kind)}) - plain[operation.path]:
                    serves[name].add(f"{_list_at(operation.path)} of {field}")
    return serves


def _list_at(path: str) -> str:
    return path.rsplit("/", 1)[1]


def _indexes_of(connection: psycopg.Connection, who: str, statement: str) -> set[str]:
    connection.execute(who.encode())
    connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
    row = connection.execute(b"EXPLAIN (FORMAT json) " + statement.encode()).fetchone()
    connection.rollback()
    assert row is not None
    return {node["Index Name"] for node in nodes(row[0][0]["Plan"]) if "Index Name" in node}
