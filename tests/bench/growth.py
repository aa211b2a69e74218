"""How long each answer takes at each size, one after the other over one connection."""

from __future__ import annotations

from typing import NamedTuple

import click

from tests.bench.cases import CASES, FEW, Case
from tests.bench.load import Latency, NoAnswerError, wrk
from tests.bench.server import Bench

SECONDS, QUICK_SECONDS = 1.0, 0.1


class Growth(NamedTuple):
    """A case at each size; None where it was not answered in time."""

    name: str
    latencies: list[Latency | None]

    @property
    def ratios(self) -> list[tuple[float, float] | None]:
        """The medians and the 99th percentiles, as multiples of the first median."""
        first = self.latencies[0]
        assert first is not None, f"{self.name}: no answer of the smallest tenant"
        return [each and (each.p50 / first.p50, each.p99 / first.p50) for each in self.latencies]


def measure(bench: Bench, *, quick: bool) -> list[Growth]:
    """Every case at every size."""
    table, seconds = [], QUICK_SECONDS if quick else SECONDS
    for case in CASES:
        if quick and case.name not in FEW:
            continue
        row = Growth(case.name, [_latency(bench, case, size, seconds) for size in bench.sizes])
        shown = (f"{latency.p50:10.2f} ms" if latency else f"{'no answer':>13}" for latency in row.latencies)
        click.echo(f"{case.name:45}{''.join(shown)}")
        table.append(row)
    return table


def _latency(bench: Bench, case: Case, size: int, seconds: float) -> Latency | None:
    try:
        return wrk(bench, case.at(bench, size), size, connections=1, seconds=seconds, headers=case.headers)
    except NoAnswerError:
        return None
