"""What the statements of lists, searches and reports read at full size, those inside functions included.

tests/bench/test_plans.py asks the same of small tables, where plans are made as if they were large.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import psycopg
from msgspec import json
from psycopg.errors import Diagnostic

from tests.bench.cases import CASES
from tests.bench.goals import Goal, Part, at_most
from tests.bench.load import recorded
from tests.bench.server import LOGIN, Bench
from tests.bench.test_plans import EVERY_FILTER, MEASURED, value_of
from tests.laws.routes import Operation
from tests.laws.test_lists import EVERY_ORDER

# So many rows are read or put in order within some milliseconds; a search counts no more than half as many.
MANY = 20_000
# What reads many rows all the same, by the beginning of its address, and why: the documents say what else was tried.
EXPLAINED = {
    "/admin/deals?expected_close_to=": "newest first, all that are expected later come before (docs/lists.md)",
    "/admin/customers?search=ad": "two letters are counted up to 10,000 (docs/lists.md)",
    "/admin/deals?search=ad": "two letters are counted up to 10,000 (docs/lists.md)",
    "/admin/reports/deals/funnel?owner_id=agent-1&from=": "medians of a person in a period (docs/reports.md)",
}
# Every statement that the server runs is told, with what it did.
TOLD = (
    "-c session_preload_libraries=auto_explain -c auto_explain.log_min_duration=0 -c auto_explain.log_analyze=on"
    " -c auto_explain.log_verbose=on -c auto_explain.log_timing=off -c auto_explain.log_nested_statements=on"
    " -c auto_explain.log_format=json -c auto_explain.log_level=notice -c client_min_messages=notice"
)
# To be told of takes its time, too.
LONGER = "SET LOCAL statement_timeout = '60s'"


class Found(NamedTuple):
    """A step of a plan, and the rows that it takes. `counted` is what only a total needs."""

    step: str
    rows: float
    counted: bool = False


class Asked(NamedTuple):
    """An address, and how long its answer took."""

    path: str
    ms: float


def measure(bench: Bench) -> Iterator[Goal]:
    """How many answers need many rows read, by whatever index, or put in order, of the largest tenant.

    Totals are exact. Where many rows match what nobody counts beforehand, to count them takes a part of a second: the
    page is read off an index all the same, and by cursor nothing is counted. These are told, and so is what is
    explained, with how long the answer takes. Neither is counted here.
    """
    worst = {asked: max(found, key=lambda it: (not it.counted, it.rows)) for asked, found in _dear(bench) if found}
    yield at_most(
        f"what is not answered, or reads or sorts more than {MANY:,} rows unexplained",
        0,
        sum(_is_unexplained(asked.path, found) for asked, found in worst.items()),
        "",
        parts=tuple(
            Part(
                f"`{asked.path}`: {' '.join((found.step, _why(asked.path))).strip()}, {asked.ms:.0f} ms, rows",
                found.rows,
            )
            for asked, found in worst.items()
        ),
    )


def _is_unexplained(path: str, found: Found) -> bool:
    return math.isinf(found.rows) or not (found.counted or _why(path))


def _why(path: str) -> str:
    return next((f"since {why}" for begins, why in EXPLAINED.items() if path.startswith(begins)), "")


def _dear(bench: Bench) -> Iterator[tuple[Asked, list[Found]]]:
    """Of each case, each order and each filter of a list, what its statements do."""
    with (
        recorded(bench, bench.large) as (client, sent),
        psycopg.connect(bench.superuser, options=TOLD) as connection,
    ):
        told: list[str] = []
        connection.add_notice_handler(lambda said: told.append(_plan_in(said)))
        connection.execute(f"SET SESSION AUTHORIZATION {LOGIN}")
        connection.commit()
        for path, headers in _paths(bench):
            sent.clear()
            told.clear()
            begun = time.perf_counter()
            answer = client.get(path, headers=headers)
            asked = Asked(path, 1000 * (time.perf_counter() - begun))
            if answer.status_code != 200:
                yield asked, [Found("not answered", math.inf)]
                continue
            for statement in sent:
                connection.execute(statement.encode())
                if "statement_timeout" in statement:
                    connection.execute(LONGER)
            connection.rollback()
            yield asked, [found for plan in filter(None, told) for found in _steps(json.decode(plan)["Plan"])]


def _paths(bench: Bench) -> Iterator[tuple[str, dict[str, str]]]:
    """And the headers that go along."""
    for case in CASES:
        yield case.at(bench, bench.large), case.headers
    orders = cast("list[tuple[Operation, str, str]]", [each.values for each in EVERY_ORDER])
    filters = cast("list[tuple[Operation, str, Any]]", [each.values for each in EVERY_FILTER])
    for operation, key, order in orders:
        if operation in MEASURED:
            yield f"{operation.path}?sort_by={key}&sort_order={order}", {}
    for operation, name, kind in filters:
        yield f"{operation.path}?{name}={quote(value_of(name, kind))}", {}


def _plan_in(said: Diagnostic) -> str:
    _, found, plan = (said.message_primary or "").partition("plan:\n")
    return plan if found else ""


def _steps(node: dict[str, Any], *, counted: bool = False) -> Iterator[Found]:
    """Those that take many rows."""
    counted |= "Group Key" not in node and any("count(*)" in column for column in node.get("Output", ()))
    inner = node.get("Plans", [])
    kind, table = node["Node Type"], node.get("Relation Name", node.get("Index Name"))
    if table is not None:
        read = _rows(node) + node.get("Rows Removed by Filter", 0) * node["Actual Loops"]
        found = Found(f"{'counts' if counted else 'reads'} {table}", read, counted)
    else:
        found = Found("sorts to count" if counted else "sorts", sum(map(_rows, inner)), counted)
    if (table is not None or kind == "Sort") and found.rows > MANY:
        yield found
    for each in inner:
        yield from _steps(each, counted=counted)


def _rows(node: dict[str, Any]) -> float:
    return float(node["Actual Rows"] * node["Actual Loops"])
