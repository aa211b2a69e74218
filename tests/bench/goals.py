"""Each goal of speed, measured as a ratio within one run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import psycopg

from app.web.cursor import CursorSigner, Position
from tests.bench import create, direct, exports
from tests.bench.cases import BY_NAME, CASES
from tests.bench.labelled import CONTACTS, CUSTOMERS, quality
from tests.bench.load import NoAnswerError, pgbench, recorded, statements, wrk
from tests.bench.pairs import Ask
from tests.bench.pairs import ratio as in_turns
from tests.bench.server import Bench, resident_mb

CONNECTIONS = 8
# Pairs are measured in turns, and the middle one counts, since the machine is not always equally busy.
ROUNDS = 3
PAIRS = 400
LIST_GOAL = "list page by cursor, of pgbench's rate with the same SQL"
CREATE_GOAL = "create a customer, audited, of a bare INSERT … COMMIT"
SEARCH_GOAL = "search, two letters, to a primary-key read"
START_GOAL = "start to /ready, migrations done"
DIALECT = ("customers", "deals", "activities")


class Goal(NamedTuple):
    """What was promised, what was measured, and whether that is enough."""

    name: str
    bound: str
    limit: float
    measured: float
    unit: str
    met: bool
    note: str = ""

    @property
    def wanted(self) -> str:
        """As text."""
        return f"{self.bound} {self.limit:g}"

    def line(self) -> str:
        """For the terminal."""
        verdict = "met" if self.met else "NOT MET"
        return f"{self.name:62} {self.wanted:>8} {self.measured:8.2f} {self.unit:8} {verdict} {self.note}"


def at_most(name: str, limit: float, measured: float, unit: str = "x", note: str = "") -> Goal:
    """Met by this much or less."""
    return Goal(name, "≤", limit, measured, unit, measured <= limit, note)


def at_least(name: str, limit: float, measured: float, unit: str = "x", note: str = "") -> Goal:
    """Met by this much or more."""
    return Goal(name, "≥", limit, measured, unit, measured >= limit, note)


Ratio = Callable[[Callable[[], float], Callable[[], float]], float]


def ratio_of(rounds: int) -> Ratio:
    """The middle of so many ratios, each of two measurements one after the other."""
    return lambda one, other: statistics.median(one() / other() for _ in range(rounds))


def measure(bench: Bench, seconds: float, *, quick: bool) -> list[Goal]:
    """All of them."""
    small, large = bench.sizes[0], bench.large
    ratio = ratio_of(1 if quick else ROUNDS)
    pairs = 2 if quick else PAIRS

    def p50s(one: str, other: str, other_size: int = large) -> float:
        return in_turns(bench, Ask(one, large), Ask(other, other_size), pairs=pairs)

    def address(name: str) -> str:
        return BY_NAME[name].at(bench, large)

    first, last = first_page(bench), f"/admin/customers?cursor={_cursor(bench, 'end')}"
    sent = statements(bench, first, large)
    contact = address("one contact")
    return [
        at_least(
            LIST_GOAL,
            0.40,
            ratio(
                lambda: wrk(bench, first, large, connections=CONNECTIONS, seconds=seconds).rate,
                lambda: pgbench(bench, sent, connections=CONNECTIONS, seconds=seconds),
            ),
        ),
        at_most(
            f"page by number with its total, {large:,} customers to {small:,}",
            3,
            p50s("/admin/customers", "/admin/customers", small),
        ),
        *(
            at_most(
                f"a page by number in the middle, of {name}, {large:,} customers to page 1 of {small:,}",
                3,
                p50s(BY_NAME[f"{name}, middle page by number"].at(bench, large), f"/admin/{name}", small),
            )
            for name in ("customers", "deals")
        ),
        at_most("last page by cursor to the first", 1.5, p50s(last, first)),
        at_most(
            "search of a rare fragment, total included, to a primary-key read",
            10,
            p50s(address("customers found by a rare fragment"), contact),
        ),
        *(
            at_most(f"search, {name}, to a primary-key read", 20, p50s(address(f"customers found by {name}"), contact))
            for name in ("one letter", "two letters", "a rare pair of letters")
        ),
        *(
            at_most(
                f"search over everything, {name}, to a primary-key read",
                limit,
                p50s(address(f"everything found by {name}"), contact),
            )
            for name, limit in (("a rare fragment", 10), ("one letter", 20), ("two letters", 20))
        ),
        _statements(bench, address("one customer with all that hangs on it")),
        at_least(
            CREATE_GOAL,
            0.50,
            ratio(
                lambda: create.through_service(bench, connections=CONNECTIONS, seconds=seconds),
                lambda: direct.inserts(bench, triggers=False, connections=CONNECTIONS, seconds=seconds),
            ),
        ),
        at_most(
            "a dry run of a create to the create",
            1.3,
            ratio(
                partial(create.through_service, bench, connections=1, seconds=seconds),
                partial(create.through_service, bench, connections=1, seconds=seconds, dry_run=True),
            ),
        ),
        at_most(
            "overview report, cached, to a primary-key read",
            2,
            p50s(address("report: overview"), contact),
        ),
        *reports(bench, pairs),
        at_most(
            "a list in the console's dialect to the same under /admin",
            1.3,
            max(p50s(f"/console/admin/{name}?limit=20", f"/admin/{name}") for name in DIALECT),
        ),
        *duplicates(bench, pairs),
        *exported(bench),
        at_most(START_GOAL, 1.5, bench.start_seconds, "s"),
        at_most("resident memory of a worker, after all this", 120, max(map(resident_mb, bench.workers)), "MB"),
    ]


def reports(bench: Bench, pairs: int = PAIRS // 10) -> list[Goal]:
    """How much longer each report of the largest tenant takes than that of the smallest one."""
    small, large = bench.sizes[0], bench.large
    goals = []
    for case in CASES:
        if case.report:
            asks = (Ask(case.at(bench, size), size, anew=True) for size in (large, small))
            try:
                measured = in_turns(bench, *asks, pairs=min(pairs, PAIRS // 10))
            except NoAnswerError:
                measured = math.inf
            goals.append(at_most(f"{case.name}, {large:,} customers to {small:,}", 5, measured))
    return goals


def duplicates(bench: Bench, pairs: int = PAIRS) -> list[Goal]:
    """How long their list takes, and how good it is."""
    listed = in_turns(
        bench,
        Ask(BY_NAME["duplicates"].at(bench, bench.large), bench.large),
        Ask("/admin/customers", bench.large),
        pairs=pairs,
    )
    return [
        at_most("list of duplicates to the list of customers", 2, listed),
        *(
            at_least(f"{what} of the duplicates that are found among labelled {kind}", 0.9, getattr(found, what), "")
            for kind, found in (("customers", quality(CUSTOMERS)), ("contacts", quality(CONTACTS)))
            for what in ("precision", "recall")
        ),
    ]


def exported(bench: Bench) -> list[Goal]:
    """How fast a whole list is sent, and how much memory that takes."""
    size = bench.large
    exports.through_service(bench, bench.sizes[0])  # what is loaded with the first one
    with exports.growth(bench) as grown:
        took = exports.through_service(bench, size)
    name = f"export of {size:,} customers as CSV, of COPY with their columns"
    return [
        at_least(name, 0.25, exports.direct(bench, size) / took),
        at_most("memory that an export takes", 30, grown[0], "MB"),
    ]


def first_page(bench: Bench) -> str:
    """The page after the first, by cursor."""
    return f"/admin/customers?cursor={_cursor(bench, 'start')}"


def _cursor(bench: Bench, place: str) -> str:
    """A cursor to the second page, or to the last one, of customers by creation."""
    order = "DESC" if place == "start" else "ASC"
    with psycopg.connect(bench.superuser) as connection:
        row = connection.execute(
            f"SELECT created_at, id FROM customers WHERE tenant_id = %s AND deleted_at IS NULL"
            f" ORDER BY created_at {order}, id {order} OFFSET 20 LIMIT 1",
            [str(bench.large)],
        ).fetchone()
    assert row is not None
    position = Position(str(bench.large), "customers", {}, "created_at", "desc", [row[0], 0, row[1]])
    return CursorSigner(bench.settings.jwt_secrets).encode(position)


def _statements(bench: Bench, path: str) -> Goal:
    with recorded(bench, bench.large) as (client, sent):
        assert client.get(path).status_code == 200
        count = len(sent)
    return at_most("statements for one customer with its summary", 3, count, "")
