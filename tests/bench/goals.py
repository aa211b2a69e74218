"""Each goal of speed, measured as a ratio within one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import httpx
import psycopg

from app.web.cursor import CursorSigner, Position
from tests.bench import create
from tests.bench.cases import BY_NAME
from tests.bench.load import pgbench, recorded, statements, wrk
from tests.bench.server import Bench, resident_mb

CONNECTIONS = 8
# Pairs are measured in turns, and the middle one counts, since the machine is not always equally busy.
ROUNDS = 3


class Goal(NamedTuple):
    """What was promised, what was measured, and whether that is enough."""

    name: str
    wanted: str
    measured: float
    unit: str
    met: bool
    note: str = ""

    def line(self) -> str:
        """For the terminal."""
        verdict = "met" if self.met else "NOT MET"
        return f"{self.name:62} {self.wanted:>8} {self.measured:8.2f} {self.unit:8} {verdict} {self.note}"


def at_most(name: str, limit: float, measured: float, unit: str = "x", note: str = "") -> Goal:
    """Met by this much or less."""
    return Goal(name, f"≤ {limit:g}", measured, unit, measured <= limit, note)


def at_least(name: str, limit: float, measured: float, unit: str = "x", note: str = "") -> Goal:
    """Met by this much or more."""
    return Goal(name, f"≥ {limit:g}", measured, unit, measured >= limit, note)


Ratio = Callable[[Callable[[], float], Callable[[], float]], float]


def ratio_of(rounds: int) -> Ratio:
    """The middle of so many ratios, each of two measurements one after the other."""
    return lambda one, other: statistics.median(one() / other() for _ in range(rounds))


def measure(bench: Bench, seconds: float) -> list[Goal]:
    """All of them."""
    small, large = bench.sizes[0], bench.large
    ratio = ratio_of(ROUNDS if seconds > 1 else 1)

    def p50(path: str, size: int = large) -> float:
        return wrk(bench, path, size, connections=1, seconds=seconds).p50

    def address(name: str, size: int = large) -> str:
        return BY_NAME[name].at(bench, size)

    first = f"/admin/customers?cursor={_cursor(bench, 'start')}"
    last = f"/admin/customers?cursor={_cursor(bench, 'end')}"
    sent = statements(bench, first, large)
    contact = address("one contact")
    overview = address("report: overview")
    return [
        at_least(
            "list page by cursor, of pgbench's rate with the same SQL",
            0.40,
            ratio(
                lambda: wrk(bench, first, large, connections=CONNECTIONS, seconds=seconds).rate,
                lambda: pgbench(bench, sent, connections=CONNECTIONS, seconds=seconds),
            ),
        ),
        at_most(
            f"page by number with its total, {large:,} customers to {small:,}",
            3,
            ratio(lambda: p50("/admin/customers"), lambda: p50("/admin/customers", small)),
        ),
        at_most("last page by cursor to the first", 1.5, ratio(lambda: p50(last), lambda: p50(first))),
        at_most(
            "search of a rare fragment, total included, to a primary-key read",
            10,
            ratio(lambda: p50(address("customers found by a rare fragment")), lambda: p50(contact)),
        ),
        _statements(bench, address("one customer with all that hangs on it")),
        at_least(
            "create a customer, audited, of a bare INSERT … COMMIT",
            0.50,
            ratio(
                lambda: create.through_service(bench, small, connections=CONNECTIONS, seconds=seconds),
                lambda: create.bare(bench, small, connections=CONNECTIONS, seconds=seconds),
            ),
        ),
        at_most(
            "overview report to the one statement that it needs",
            2,
            ratio(
                lambda: _once(bench, overview),
                lambda: _statement_ms(bench, overview),
            ),
        ),
        at_most(
            "overview report, cached, to a primary-key read", 2, ratio(lambda: p50(overview), lambda: p50(contact))
        ),
        at_most("a list in the console's dialect to the same under /admin", 1.3, _dialect(ratio, p50)),
        at_most("start to /ready, migrations done", 2, bench.start_seconds, "s"),
        at_most("resident memory of a worker, after all this", 120, max(map(resident_mb, bench.workers)), "MB"),
    ]


def _dialect(ratio: Ratio, p50: Callable[..., float]) -> float:
    pairs = [(f"/console/admin/{name}?limit=20", f"/admin/{name}") for name in ("customers", "deals", "activities")]
    return max(ratio(lambda: p50(console), lambda: p50(plain)) for console, plain in pairs)  # noqa: B023 -- called at once


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
    position = Position(str(bench.large), "customers", {}, "created_at", "desc", list(row))
    return CursorSigner(bench.settings.jwt_secrets).encode(position)


def _statements(bench: Bench, path: str) -> Goal:
    with recorded(bench, bench.large) as (client, sent):
        assert client.get(path).status_code == 200
        count = len(sent)
    return at_most("statements for one customer with its summary", 3, count, "")


def _once(bench: Bench, path: str) -> float:
    headers = {"Authorization": f"Bearer {bench.token(bench.large)}", "Cache-Control": "no-cache"}
    began = time.perf_counter()
    httpx.get(bench.url + path, headers=headers, timeout=30).raise_for_status()
    return (time.perf_counter() - began) * 1000


def _statement_ms(bench: Bench, path: str) -> float:
    """The largest statement of a GET by itself, in milliseconds; the middle of some."""
    with recorded(bench, bench.large) as (client, sent):
        assert client.get(path, headers={"Cache-Control": "no-cache"}).status_code == 200
        who, report = sent[0], max(sent, key=len)
    took = []
    with psycopg.connect(bench.settings.database_url) as connection:
        for _ in range(ROUNDS):
            connection.execute(who.encode())
            began = time.perf_counter()
            connection.execute(report.encode()).fetchall()
            took.append((time.perf_counter() - began) * 1000)
            connection.commit()
    return statistics.median(took)
