"""`make bench`: each goal as a ratio from this one run, and how answers grow with the data."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from app.logs import configure_logging
from tests.bench import beside, goals, growth, imports, indexes, listeners, obstacles, profile, scale, shares
from tests.bench.goals import Goal
from tests.bench.load import has_wrk
from tests.bench.report import Results, write
from tests.bench.server import Bench, running
from tests.processes import results_suffix

SIZES = [1_000, 100_000, 1_000_000]
QUICK_SIZES = [100, 400]
WORKERS, QUICK_WORKERS = 2, 1
HERE = Path(__file__).parent
# What can be measured by itself.
ALONE: dict[str, Callable[[Bench], list[Goal]]] = {
    "duplicates": goals.duplicates,
    "exports": goals.exported,
    "imports": imports.measure,
    "reports": goals.reports,
    "listeners": lambda _: listeners.measure(),
    "scale": scale.measure,
}


@click.command()
@click.option("--quick", is_flag=True, help="Small tenants and short runs: that it works, not how fast it is.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the tenants are kept between runs.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Where the results go; else beside this, or beside the quick data.",
)
@click.option("--only", type=click.Choice(list(ALONE)), multiple=True, help="Measure these parts, and write nothing.")
@click.option(
    "--base", help="A commit: serve it beside this one, print the ratios of some requests, and write nothing."
)
def bench(quick: bool, data_dir: Path | None, output: Path | None, only: tuple[str, ...], base: str | None) -> None:
    """Fill a database once, serve it as in production, and measure."""
    if not has_wrk():
        raise click.ClickException("wrk, which makes the load, is not installed: apt install wrk")
    seconds = 0.2 if quick else 4.0
    configure_logging("critical", "json")  # the service in this process, which only shows what it would send
    suffix = results_suffix()
    if base is not None:
        compared = _told(beside.measure(base, data_dir or Path(".crm", "beside").absolute(), max(seconds, 1.0)))
        sys.exit(0 if quick or all(goal.met for goal in compared) else 1)
    folder = data_dir or Path(".crm", f"bench{'-quick' if quick else ''}{suffix}")
    sizes, workers = (QUICK_SIZES, QUICK_WORKERS) if quick else (SIZES, WORKERS)
    with running(folder, sizes, workers, starts=1 if quick or only else 5) as place:
        if only:
            alone = _told(goal for part in only for goal in ALONE[part](place))
            sys.exit(0 if all(goal.met for goal in alone) else 1)
        parts: list[Callable[[], Iterable[Goal]]] = [lambda: goals.measure(place, seconds, quick=quick)]
        if not quick:
            parts += [lambda: imports.measure(place), listeners.measure, lambda: scale.measure(place)]
            # The first release starts no other server than the wheels'. It comes first: a clone may not have it.
            if not suffix:
                older = Path(".crm", "beside").absolute()
                parts.insert(0, lambda: beside.measure(beside.FIRST_RELEASE, older, seconds))
        measured = _told(goal for part in parts for goal in part())
        results = Results(
            goals=measured,
            parts=obstacles.measure(place, seconds / 2, rounds=1 if quick else 3),
            shares=shares.measure(place, seconds / 2, quick=quick),
            profiles=profile.measure(place, seconds, quick=quick),
            growth=growth.measure(place, seconds / 2, quick=quick),
            costs=indexes.measure(place, quick=quick),
        )
        click.echo(f"\nmore in {write(output or (folder if quick else HERE), place, results, suffix, quick=quick)}")
    sys.exit(0 if quick or all(goal.met for goal in measured) else 1)


def _told(measured: Iterable[Goal]) -> list[Goal]:
    """These goals, each printed as soon as it is measured."""
    told = []
    for goal in measured:
        click.echo(goal.line())
        told.append(goal)
    return told


if __name__ == "__main__":
    bench()
