"""`make bench`: each goal as a ratio from this one run, and how answers grow with the data."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

import click

from app.logs import configure_logging
from tests.bench import beside, goals, growth, imports, indexes, listeners, obstacles, plans, profile, scale, shares
from tests.bench.goals import Goal
from tests.bench.load import has_wrk
from tests.bench.report import Results, write
from tests.bench.server import Bench, running
from tests.processes import results_suffix

Part = Callable[[Bench, float], Iterable[Goal]]
SIZES = [1_000, 100_000, 1_000_000]
QUICK_SIZES = [100, 400]
WORKERS, QUICK_WORKERS = 2, 1
HERE = Path(__file__).parent
# What can be measured by itself, with the seconds that each load lasts. First what a run makes all of.
WHOLE: dict[str, Part] = {
    # Before anything else, because a clone of less than the whole history has no first release.
    "beside": lambda _, seconds: beside.measure(beside.FIRST_RELEASE, _beside(), seconds / 4),
    "goals": lambda bench, seconds: goals.measure(bench, seconds, quick=seconds < 1),
    "imports": lambda bench, _: imports.measure(bench),
    "listeners": lambda *_: listeners.measure(),
    "scale": lambda bench, _: scale.measure(bench),
    "plans": lambda bench, _: plans.measure(bench),
}
OF_GOALS: dict[str, Part] = {
    "duplicates": lambda bench, _: goals.duplicates(bench),
    "exports": lambda bench, _: goals.exported(bench),
    "reports": lambda bench, _: goals.reports(bench),
}


@click.command()
@click.option("--quick", is_flag=True, help="Small tenants and short runs: that it works, not how fast it is.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the tenants are kept between runs.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Where the results go; else beside this, or beside the quick data.",
)
@click.option(
    "--only", type=click.Choice([*WHOLE, *OF_GOALS]), multiple=True, help="Measure these parts, and write nothing."
)
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
        _end(_told(beside.measure(base, data_dir or _beside(), max(seconds / 4, 1.0))), quick=quick)
    folder = data_dir or Path(".crm", f"bench{'-quick' if quick else ''}{suffix}")
    sizes, workers = (QUICK_SIZES, QUICK_WORKERS) if quick else (SIZES, WORKERS)
    # The first release starts no other server than the wheels'.
    whole = ["goals"] if quick else [name for name in WHOLE if name != "beside" or not suffix]
    with running(folder, sizes, workers, starts=1 if quick or (only and "goals" not in only) else 5) as place:
        measured = _told(goal for name in only or whole for goal in (WHOLE | OF_GOALS)[name](place, seconds))
        if not only:
            measured = obstacles.measure(place, measured, seconds / 2, rounds=1 if quick else 3)
            results = Results(
                goals=measured,
                shares=shares.measure(place, seconds / 2, quick=quick),
                profiles=profile.measure(place, seconds, quick=quick),
                growth=growth.measure(place, quick=quick),
                costs=indexes.measure(place, quick=quick),
            )
            click.echo(f"\nmore in {write(output or (folder if quick else HERE), place, results, suffix, quick=quick)}")
    _end(measured, quick=quick)


def _end(goals: list[Goal], *, quick: bool) -> NoReturn:
    """Why those are not met which are not."""
    for reason in obstacles.reasons(goals):
        click.echo(f"\n{reason}")
    sys.exit(0 if quick or all(goal.met for goal in goals) else 1)


def _beside() -> Path:
    return Path(".crm", "beside").absolute()


def _told(measured: Iterable[Goal]) -> list[Goal]:
    """These goals, each printed as soon as it is measured."""
    told = []
    for goal in measured:
        click.echo(goal.line())
        told.append(goal)
    return told


if __name__ == "__main__":
    bench()
