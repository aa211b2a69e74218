"""How long each answer takes at each size, one after the other over one connection."""

from __future__ import annotations

from typing import NamedTuple

import click

from tests.bench.cases import CASES
from tests.bench.load import Latency, wrk
from tests.bench.server import Bench


class Growth(NamedTuple):
    """A case at each size."""

    name: str
    latencies: list[Latency]

    @property
    def ratios(self) -> list[float]:
        """The medians, as multiples of the first."""
        return [latency.p50 / self.latencies[0].p50 for latency in self.latencies]


def measure(bench: Bench, seconds: float) -> list[Growth]:
    """Every case at every size."""
    table = []
    for case in CASES:
        # A report of a million records takes seconds: long enough for some.
        longer = seconds * (6 if case.report and seconds > 1 else 1)
        row = Growth(
            case.name,
            [
                wrk(bench, case.at(bench, size), size, connections=1, seconds=longer, headers=case.headers)
                for size in bench.sizes
            ],
        )
        click.echo(f"{case.name:45}" + "".join(f"{latency.p50:10.2f} ms" for latency in row.latencies))
        table.append(row)
    return table
