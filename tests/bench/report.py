"""RESULTS.md and the plot: what was measured, on what, and nothing else."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psycopg

from tests.bench.goals import Goal
from tests.bench.growth import Growth
from tests.bench.server import Bench, machine

LIBRARIES = ("litestar", "granian", "sqlalchemy", "psycopg", "msgspec")
PREFACE = (
    "Written by `make bench`. Every figure is a ratio of two measurements of one run, unless it says otherwise; "
    "absolute times say more about a machine than about a program."
)
CONDITIONS = (
    "- Real tokens, row-level security, audit and logs on. Rate limits are off, since one person asks all the time, "
    "and so is the sealing of the audit log, since what was put in at once would keep it busy."
)
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="{}" height="{}" font-family="sans-serif" font-size="12">'
LEFT, TOP, WIDTH, ROW = 300, 50, 420, 20
COLOURS = ("#94a3b8", "#6366f1", "#ef4444")


def write(folder: Path, bench: Bench, goals: list[Goal], table: list[Growth], *, quick: bool) -> None:
    """RESULTS.md and growth.svg, in this folder."""
    (folder / "growth.svg").write_text(plot(bench.sizes, table))
    with psycopg.connect(bench.superuser) as connection:
        row = connection.execute("SELECT current_setting('server_version')").fetchone()
    assert row is not None
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    sizes = [f"{size:,}" for size in bench.sizes]
    lines = [
        "# How fast it was",
        "",
        PREFACE,
        "",
        *(["**A quick run on small data, which proves nothing about speed.**", ""] if quick else []),
        f"- {datetime.now(UTC):%Y-%m-%d}, {machine()}",
        f"- PostgreSQL {row[0].split()[0]} on the same machine; {versions}; {len(bench.workers)} workers",
        CONDITIONS,
        "",
        "| goal | wanted | measured | |",
        "|---|---|---|---|",
        *(
            f"| {goal.name} | {goal.wanted} {goal.unit} | {goal.measured:.2f} {goal.unit} | "
            f"{'met' if goal.met else '**not met**'} {goal.note} |"
            for goal in goals
        ),
        "",
        "## How it grows",
        "",
        f"Median (and 99th percentile) of each answer, as multiples of the median at {sizes[0]} customers.",
        "",
        f"| | {' | '.join(sizes)} |",
        "|---|" + "---|" * len(sizes),
        *(_growth_line(growth) for growth in table),
        "",
    ]
    (folder / "RESULTS.md").write_text("\n".join(lines))


def _growth_line(growth: Growth) -> str:
    first = growth.latencies[0].p50
    cells = (f"{latency.p50 / first:.2f} ({latency.p99 / first:.1f})" for latency in growth.latencies)
    return f"| {growth.name} | {' | '.join(cells)} |"


def plot(sizes: list[int], table: list[Growth]) -> str:
    """A dot for each case and size, on a logarithmic scale of ratios."""
    largest = max(2.0, *(max(growth.ratios) for growth in table))
    decades = max(1, math.ceil(math.log10(largest)))

    def x(ratio: float) -> float:
        return LEFT + WIDTH * (math.log10(max(ratio, 0.1)) + 1) / (decades + 1)

    height = TOP + ROW * len(table) + 20
    parts = [
        SVG.format(LEFT + WIDTH + 40, height),
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for decade in range(-1, decades + 1):
        at = x(10.0**decade)
        parts.append(f'<line x1="{at}" x2="{at}" y1="{TOP - 10}" y2="{height - 20}" stroke="#e2e8f0"/>')
        parts.append(f'<text x="{at}" y="{height - 5}" text-anchor="middle" fill="#64748b">{10.0**decade:g} x</text>')
    for place, size in enumerate(sizes):
        at = LEFT + place * 140
        parts.append(f'<circle cx="{at}" cy="20" r="5" fill="{COLOURS[place]}"/>')
        parts.append(f'<text x="{at + 10}" y="24">{size:,} customers</text>')
    for row, growth in enumerate(table):
        y = TOP + ROW * row + 5
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{growth.name}</text>')
        dots = zip(growth.ratios, COLOURS, strict=False)
        parts += [f'<circle cx="{x(ratio):.1f}" cy="{y}" r="5" fill="{colour}"/>' for ratio, colour in dots]
    return "\n".join([*parts, "</svg>", ""])
