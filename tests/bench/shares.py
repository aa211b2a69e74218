"""How much of PostgreSQL's own rate arrives: requests of the service to transactions of pgbench with the same SQL."""

from __future__ import annotations

from typing import NamedTuple

import click

from tests.bench import create
from tests.bench.cases import CASES, FEW, Case
from tests.bench.load import NoAnswerError, pgbench, recorded, wrk
from tests.bench.server import Bench

CONNECTIONS = 8
WARM_UP_SECONDS = 0.2


class Share(NamedTuple):
    """Requests a second, and transactions a second."""

    name: str
    customers: str
    service: float
    pgbench: float

    @property
    def share(self) -> float:
        """What the service has of it."""
        return self.service / self.pgbench if self.pgbench else 0.0


def measure(bench: Bench, seconds: float, *, quick: bool) -> list[Share]:
    """Every list, detail and report, and the create. A report of a million takes seconds: of the smallest tenant."""
    shares = [_of_create(bench, seconds)]
    for size in {bench.large: None, bench.sizes[0]: None}:
        of_size = [case for case in CASES if size == (bench.sizes[0] if case.report else bench.large)]
        for case, sent in zip(of_size, _statements(bench, of_size, size), strict=True):
            if quick and case.name not in FEW:
                pgbench(bench, sent, connections=1, seconds=0)  # it can be measured
                continue
            served = _served(bench, case, size, seconds)
            database = pgbench(bench, sent, connections=CONNECTIONS, seconds=seconds)
            shares.append(Share(case.name, f"{size:,}", served, database))
    for share in shares:
        click.echo(f"{share.name:45}{share.share:10.2f} of pgbench's {share.pgbench:8.0f} a second")
    return shares


def _served(bench: Bench, case: Case, size: int, seconds: float) -> float:
    """Answers a second, once each connection has planned its statements; none if it is not answered in time."""
    for each in (WARM_UP_SECONDS, seconds):
        try:
            path = case.at(bench, size)
            rate = wrk(bench, path, size, connections=CONNECTIONS, seconds=each, headers=case.headers).rate
        except NoAnswerError:
            return 0.0
    return rate


def _of_create(bench: Bench, seconds: float) -> Share:
    served = create.through_service(bench, connections=CONNECTIONS, seconds=seconds)
    database = pgbench(bench, create.statements(bench), connections=CONNECTIONS, seconds=seconds)
    return Share("create a customer", "new", served, database)


def _statements(bench: Bench, cases: list[Case], size: int) -> list[list[str]]:
    """What each sends to the database."""
    found = []
    with recorded(bench, size) as (client, sent):
        for case in cases:
            sent.clear()
            answer = client.get(case.at(bench, size), headers=case.headers)
            assert answer.status_code == 200, answer.text
            found.append(list(sent))
    return found
