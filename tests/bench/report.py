"""RESULTS.md and the plot: what was measured, on what, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import psycopg

from tests.bench.goals import Goal
from tests.bench.growth import Growth
from tests.bench.indexes import Cost
from tests.bench.obstacles import reasons
from tests.bench.plot import plot
from tests.bench.profile import Profile
from tests.bench.server import Bench, machine
from tests.bench.shares import CONNECTIONS, Share

LIBRARIES = ("litestar", "granian", "sqlalchemy", "psycopg", "msgspec")
PREFACE = (
    "Written by `make bench`. Every figure is a ratio of two measurements of one run, unless it says otherwise; "
    "absolute times say more about a machine than about a program."
)
CONDITIONS = (
    "- Real tokens, row-level security, audit and logs on. Rate limits are off, since one person asks all the time, "
    "and so is the sealing of the audit log, since what was put in at once would keep it busy."
)
PARTS = (
    "What parts of the way cost, in units of what the goal is measured against: one transaction of pgbench's, one bare "
    "INSERT, the other request, the older release's request. The processors are what "
    "everything waits for, so that costs add up, and the share of a rate is one over the cost of all; `/admin/me` "
    "contains `/live`. What HTTP, the token and the statements leave is the application's own work on the request, "
    "which the profile below takes apart. The start is in seconds, and memory in MB. What is read or sorted to count "
    "is an exact total of many rows that nobody counts beforehand: the page itself is read off an index."
)
SHARES = (
    f"Requests a second over {CONNECTIONS} connections, as a share of the transactions a second that pgbench makes of "
    "the same prepared SQL over as many. The shares are of the largest tenant; those of reports, which take seconds "
    "there, of the smallest one. A create's email is random, in a tenant of its own."
)
PROFILE = (
    "One process that answers one request over and over, without the web server, sampled by py-spy while it runs "
    "Python: samples by the package of the innermost Python frame, in per cent. What is compiled (most of the driver, "
    "the JSON) counts as its caller's. The last two rows were measured before anybody watched."
)
COSTS = (
    "Time on the processor that an INSERT of some hundred rows takes with the index, beyond what it takes without it, "
    "on copies of the tables. Of an index that no row goes into (the trash's, some links') it is the error. "
    "Then the orders (by) and filters (of) of lists whose plans have it, on a tenant that is treated as a large one. "
    "None are named for what other things need: keys between tables, uniqueness, details, reports, and searches, whose "
    "function EXPLAIN doesn't look into."
)
LEAST_SHOWN = 0.01


class Results(NamedTuple):
    """All that was measured."""

    goals: list[Goal]
    shares: list[Share]
    profiles: list[Profile] | str
    growth: list[Growth]
    costs: list[Cost]


def write(folder: Path, bench: Bench, results: Results, suffix: str, *, quick: bool) -> Path:
    """RESULTS.md, which is returned, and growth.svg, in this folder; their names end with the suffix of the server."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"growth{suffix}.svg").write_text(plot(bench.sizes, results.growth))
    sections = [
        ["# How fast it was", PREFACE],
        ["**A quick run on small data, which proves nothing about speed.**"] if quick else [],
        ["\n".join(_conditions(bench)), _goals(results.goals)],
        ["## What stands in the way", PARTS, _parts(results.goals), *reasons(results.goals)],
        ["## Shares of PostgreSQL's own rate", SHARES, _shares(results.shares)],
        ["## Where the rest goes", *_profiles(results.profiles)],
        ["## What each index costs a write", COSTS, _costs(results.costs)],
        ["## How it grows", *_growth(bench, results.growth)],
    ]
    written = folder / f"RESULTS{suffix}.md"
    written.write_text("\n\n".join(part for section in sections for part in section) + "\n")
    return written


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """In Markdown."""
    head = list(head)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def _conditions(bench: Bench) -> list[str]:
    with psycopg.connect(bench.superuser) as connection:
        row = connection.execute("SELECT current_setting('server_version')").fetchone()
    assert row is not None
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    return [
        f"- {datetime.now(UTC):%Y-%m-%d}, {machine()}",
        f"- PostgreSQL {row[0].split()[0]} on the same machine; {versions}; {len(bench.workers)} workers",
        CONDITIONS,
    ]


def _goals(goals: list[Goal]) -> str:
    return table(
        ["goal", "wanted", "measured", ""],
        (
            [
                goal.name,
                f"{goal.wanted} {goal.unit}",
                f"{goal.measured:.2f} {goal.unit}",
                f"{'met' if goal.met else '**not met**'} {goal.note}",
            ]
            for goal in goals
        ),
    )


def _parts(goals: list[Goal]) -> str:
    parts = ([goal.name, part.name, f"{part.cost:.2f}"] for goal in goals for part in goal.parts)
    return table(["goal", "part", "cost"], parts)


def _shares(shares: list[Share]) -> str:
    return table(["", "customers", "share"], ([share.name, share.customers, f"{share.share:.2f}"] for share in shares))


def _profiles(profiles: list[Profile] | str) -> list[str]:
    if isinstance(profiles, str):
        return [f"**Not measured: py-spy said “{profiles}”.**"]
    shown: dict[str, float] = {}
    for profile in profiles:
        for package, share in profile.packages.items():
            shown[package] = max(share, shown.get(package, 0))
    packages = sorted((package for package in shown if shown[package] >= LEAST_SHOWN), key=lambda it: -shown[it])
    rows = [[package, *(f"{profile.packages.get(package, 0):.0%}" for profile in profiles)] for package in packages]
    rest = [1 - sum(profile.packages.get(package, 0) for package in packages) for profile in profiles]
    rows += [
        ["others", *(f"{share:.0%}" for share in rest)],
        ["milliseconds of a request", *(f"{profile.ms:.2f}" for profile in profiles)],
        ["of these not waiting", *(f"{profile.on_processor_ms / profile.ms:.0%}" for profile in profiles)],
    ]
    return [PROFILE, table(["", *(profile.name for profile in profiles)], rows)]


def _costs(costs: list[Cost]) -> str:
    return table(
        ["table", "index", "adds", "serves"],
        ([cost.table, cost.name, f"{cost.added:+.0%}", ", ".join(cost.serves)] for cost in costs),
    )


def _growth(bench: Bench, growths: list[Growth]) -> list[str]:
    sizes = [f"{size:,}" for size in bench.sizes]
    return [
        f"Median (and 99th percentile) of each answer, as multiples of the median at {sizes[0]} customers.",
        table(["", *sizes], ([growth.name, *cells(growth)] for growth in growths)),
    ]


def cells(growth: Growth) -> list[str]:
    """At each size the median, and the 99th percentile in brackets."""
    return [f"{ratio[0]:.2f} ({ratio[1]:.1f})" if ratio else "no answer in time" for ratio in growth.ratios]
