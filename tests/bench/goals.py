"""Each goal of speed, measured as a ratio within one run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import psycopg

from app.web.cursor import CursorSigner, Position
from tests.bench import create, direct, exports
from tests.bench.cases import BY_NAME, CASES, OF_OWN, Case
from tests.bench.labelled import CONTACTS, CUSTOMERS, quality
from tests.bench.load import NoAnswerError, pgbench, recorded, statements, wrk
from tests.bench.pairs import Ask
from tests.bench.pairs import ratio as in_turns
from tests.bench.server import Bench, resident_mb, serving_own_records

CONNECTIONS = 8
# Pairs are measured in turns, and the middle one counts, since the machine is not always equally busy.
ROUNDS = 3
PAIRS = 400
LIST_GOAL = "list page by cursor, of pgbench's rate with the same SQL"
CREATE_GOAL = "create a customer, audited, of a bare INSERT … COMMIT"
SEARCH_GOAL = "search, two letters, to a primary-key read"
DRY_RUN_GOAL = "a dry run of a create to the create"
START_GOAL = "start to /ready, migrations done"
MEMORY_GOAL = "resident memory of a worker, after all this"
DIALECT = ("customers", "deals", "activities")


class Part(NamedTuple):
    """Something that a goal's figure is made of, in its unit."""

    name: str
    cost: float


class Goal(NamedTuple):
    """What was promised, what was measured, and whether that is enough."""

    name: str
    bound: str
    limit: float
    measured: float
    unit: str
    met: bool
    note: str = ""
    parts: tuple[Part, ...] = ()

    @property
    def wanted(self) -> str:
        """As text."""
        return f"{self.bound} {self.limit:g}"

    def line(self) -> str:
        """For the terminal."""
        verdict = "met" if self.met else "NOT MET"
        return f"{self.name:62} {self.wanted:>8} {self.measured:8.2f} {self.unit:8} {verdict} {self.note}"


def at_most(
    name: str, limit: float, measured: float, unit: str = "x", note: str = "", parts: tuple[Part, ...] = ()
) -> Goal:
    """Met by this much or less."""
    return Goal(name, "≤", limit, measured, unit, measured <= limit, note, parts)


def at_least(name: str, limit: float, measured: float, unit: str = "x", note: str = "") -> Goal:
    """Met by this much or more."""
    return Goal(name, "≥", limit, measured, unit, measured >= limit, note)


Ratio = Callable[[Callable[[], float], Callable[[], float]], float]


def ratio_of(rounds: int) -> Ratio:
    """The middle of so many ratios, each of two measurements one after the other."""
    return lambda one, other: statistics.median(one() / other() for _ in range(rounds))


def measure(bench: Bench, seconds: float, *, quick: bool) -> Iterator[Goal]:
    """All of them."""
    small, large = bench.sizes[0], bench.large
    ratio = ratio_of(1 if quick else ROUNDS)
    pairs = 2 if quick else PAIRS

    def against(name: str, limit: float, one: str, other: str, other_size: int = large) -> Goal:
        return _against(bench, name, limit, Ask(one, large), Ask(other, other_size), pairs=pairs)

    def address(name: str) -> str:
        return BY_NAME[name].at(bench, large)

    first, last = first_page(bench), f"/admin/customers?cursor={_cursor(bench, 'end')}"
    sent = statements(bench, first, large)
    contact = address("one contact")
    yield at_least(
        LIST_GOAL,
        0.40,
        ratio(
            lambda: wrk(bench, first, large, connections=CONNECTIONS, seconds=seconds).rate,
            lambda: pgbench(bench, sent, connections=CONNECTIONS, seconds=seconds),
        ),
    )
    name = f"page by number with its total, {large:,} customers to {small:,}"
    yield against(name, 3, "/admin/customers", "/admin/customers", small)
    for kind in ("customers", "deals"):
        name = f"a page by number in the middle, of {kind}, {large:,} customers to page 1 of {small:,}"
        yield against(name, 3, address(f"{kind}, middle page by number"), f"/admin/{kind}", small)
    yield against("last page by cursor to the first", 1.5, last, first)
    yield against(
        "search of a rare fragment, total included, to a primary-key read",
        10,
        address("customers found by a rare fragment"),
        contact,
    )
    for found in ("one letter", "two letters", "a rare pair of letters"):
        yield against(f"search, {found}, to a primary-key read", 20, address(f"customers found by {found}"), contact)
    for found, limit in (("a rare fragment", 10), ("one letter", 20), ("two letters", 20)):
        name = f"search over everything, {found}, to a primary-key read"
        yield against(name, limit, address(f"everything found by {found}"), contact)
    yield _statements(bench, address("one customer with all that hangs on it"))
    yield at_least(
        CREATE_GOAL,
        0.50,
        ratio(
            lambda: create.through_service(bench, connections=CONNECTIONS, seconds=seconds),
            lambda: direct.inserts(bench, triggers=False, connections=CONNECTIONS, seconds=seconds),
        ),
    )
    yield at_most(
        DRY_RUN_GOAL,
        1.3,
        ratio(
            partial(create.through_service, bench, connections=1, seconds=seconds),
            partial(create.through_service, bench, connections=1, seconds=seconds, dry_run=True),
        ),
    )
    yield against("overview report, cached, to a primary-key read", 2, address("report: overview"), contact)
    yield from reports(bench, pairs)
    name = "a list in the console's dialect to the same under /admin"
    lists = [against(name, 1.3, f"/console/admin/{kind}?limit=20", f"/admin/{kind}") for kind in DIALECT]
    yield max(lists, key=lambda goal: goal.measured)
    yield from duplicates(bench, pairs)
    yield from exported(bench)
    yield at_most(START_GOAL, 1.5, bench.start_seconds, "s")
    yield at_most(MEMORY_GOAL, 120, max(map(resident_mb, bench.workers)), "MB")


def _against(bench: Bench, name: str, limit: float, one: Ask, other: Ask, *, pairs: int) -> Goal:
    """How much longer one takes than the other; where that is too long, how much of it the statements take."""
    try:
        goal = at_most(name, limit, in_turns(bench, one, other, pairs=pairs))
    except NoAnswerError:
        return at_most(name, limit, math.inf)
    if goal.met:
        return goal
    seconds = 0 if pairs < PAIRS // 10 else 1

    def answered(ask: Ask) -> float:
        headers = {"Cache-Control": "no-cache"} if ask.anew else {}
        return wrk(bench, ask.path, ask.size, connections=1, seconds=seconds, headers=headers).rate

    def asked(ask: Ask) -> float:
        sent = statements(bench, ask.path, ask.size)
        return pgbench(bench, sent, connections=1, seconds=seconds, prepared=False)

    unit = answered(other)
    parts = (
        Part("its statements, planned each time, no HTTP", unit / asked(one)),
        Part("the statements of what it is measured against", unit / asked(other)),
        Part("all of it", unit / answered(one)),
    )
    return goal._replace(parts=parts)


def reports(bench: Bench, pairs: int = PAIRS // 10) -> Iterator[Goal]:
    """How much longer each report of the largest tenant takes than that of the smallest one."""
    yield from _growth(bench, [case for case in CASES if case.report], min(pairs, PAIRS // 10))
    with serving_own_records(bench) as own:
        yield from _growth(own, OF_OWN, min(pairs, PAIRS // 20), " of own records")


def _growth(bench: Bench, cases: list[Case], pairs: int, which: str = "") -> Iterator[Goal]:
    small, large = bench.sizes[0], bench.large
    for case in cases:
        one, other = (Ask(case.at(bench, size), size, anew=True) for size in (large, small))
        name = f"{case.name}{which}, {large:,} customers to {small:,}"
        yield _against(bench, name, 5, one, other, pairs=pairs)


def duplicates(bench: Bench, pairs: int = PAIRS) -> list[Goal]:
    """How long their list takes, and how good it is."""
    large = bench.large
    listed = Ask(BY_NAME["duplicates"].at(bench, large), large)
    return [
        _against(
            bench, "list of duplicates to the list of customers", 2, listed, Ask("/admin/customers", large), pairs=pairs
        ),
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
