"""What stands between the service and the rates of the bare database: each part of the way by itself."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import NamedTuple

from tests.bench import create, direct
from tests.bench.cases import BY_NAME
from tests.bench.goals import CONNECTIONS, CREATE_GOAL, LIST_GOAL, SEARCH_GOAL, START_GOAL, Goal, first_page
from tests.bench.load import pgbench, statements, wrk
from tests.bench.server import Bench, environment_of


class Part(NamedTuple):
    """What it costs, in units of one transaction of what the goal is measured against, or in seconds of the start."""

    goal: str
    name: str
    cost: float


def measure(bench: Bench, seconds: float, *, rounds: int) -> list[Part]:
    """The parts of a list, of a create and of the start; the middle of some rounds, in each of which all are measured.

    The processors are what everything waits for, so that what is done half as often takes twice as much of them.
    """
    path = first_page(bench)
    sent = statements(bench, path, bench.large)
    return [
        first._replace(cost=statistics.median(part.cost for part in (first, *others)))
        for first, *others in zip(*[_round(bench, path, sent, seconds) for _ in range(rounds)], strict=True)
    ]


def _round(bench: Bench, path: str, sent: list[str], seconds: float) -> list[Part]:
    def served(path: str) -> float:
        return wrk(bench, path, bench.large, connections=CONNECTIONS, seconds=seconds).rate

    def inserted(*, triggers: bool) -> float:
        return direct.inserts(bench, triggers=triggers, connections=CONNECTIONS, seconds=seconds)

    database = pgbench(bench, sent, connections=CONNECTIONS, seconds=seconds)
    driver = direct.asks(bench, sent, connections=CONNECTIONS, seconds=seconds)
    bare, audited = inserted(triggers=False), inserted(triggers=True)
    created = create.through_service(bench, connections=CONNECTIONS, seconds=seconds)
    token = served("/admin/me")
    search = BY_NAME["customers found by two letters"].at(bench, bench.large)
    contact = served(BY_NAME["one contact"].at(bench, bench.large))
    # The first says who asks, and the last one counts.
    who, *_, count = statements(bench, search, bench.large)
    counted = direct.asks(bench, [who, count], connections=CONNECTIONS, seconds=seconds)
    return [
        Part(LIST_GOAL, "`/live`: HTTP alone, no token and no statement", database / served("/live")),
        Part(LIST_GOAL, "`/admin/me`: HTTP and a token, no statement", database / token),
        Part(LIST_GOAL, "its statements through the driver, rows read, no HTTP", database / driver),
        Part(LIST_GOAL, "all of it", database / served(path)),
        Part(CREATE_GOAL, "`/admin/me`: HTTP and a token, no statement", bare / token),
        Part(CREATE_GOAL, "the same INSERT with its triggers (audit, counts, checks), no HTTP", bare / audited),
        Part(CREATE_GOAL, "all of it", bare / created),
        Part(SEARCH_GOAL, "its total up to 10,001, from the search's index and the rows, no HTTP", contact / counted),
        Part(SEARCH_GOAL, "all of it", contact / served(search)),
        Part(START_GOAL, "the command, loaded", _seconds(bench, "import app.cli.serve")),
        Part(
            START_GOAL,
            "the application, loaded and made in all workers at once",
            _seconds(bench, "from app.worker import serve_app; serve_app()", processes=len(bench.workers)),
        ),
        Part(START_GOAL, "all of it", bench.start_seconds),
    ]


def _seconds(bench: Bench, program: str, *, processes: int = 1) -> float:
    """That so many processes take which do this and nothing else."""
    command, environment = [sys.executable, "-c", program], environment_of(bench.settings)
    began = time.perf_counter()
    started = [subprocess.Popen(command, env=environment) for _ in range(processes)]
    assert not any(process.wait() for process in started)
    return time.perf_counter() - began


def reasons(goals: list[Goal], parts: list[Part]) -> list[str]:
    """For each goal that is not met and that was taken apart, what may be spent and what its parts take."""
    found = []
    for goal in goals:
        of_goal = [part for part in parts if part.goal == goal.name]
        if not goal.met and of_goal:
            figures = "; ".join(f"{part.name}: {part.cost:.2f}" for part in of_goal)
            allowed = 1 / goal.limit if goal.bound == "≥" else goal.limit
            found.append(
                f"Not met: {goal.name} ({goal.measured:.2f}, wanted {goal.wanted}), which allows for a cost of"
                f" {allowed:.2f}. Measured: {figures}."
            )
    return found
