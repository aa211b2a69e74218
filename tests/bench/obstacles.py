"""What stands between the service and the rates of the bare database: each part of the way by itself."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from tests.bench import create, direct
from tests.bench.goals import CONNECTIONS, CREATE_GOAL, LIST_GOAL, Goal, first_page
from tests.bench.load import pgbench, statements, wrk
from tests.bench.server import Bench


class Part(NamedTuple):
    """A rate, as a share of the bare database's."""

    goal: str
    name: str
    share: float


def measure(bench: Bench, seconds: float, *, rounds: int) -> list[Part]:
    """The parts of a list, and of a create; the middle of some rounds, in each of which all are measured."""
    path = first_page(bench)
    sent = statements(bench, path, bench.large)
    return [
        first._replace(share=statistics.median(part.share for part in (first, *others)))
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
    return [
        Part(LIST_GOAL, "`/live`: HTTP alone, no token and no statement", served("/live") / database),
        Part(LIST_GOAL, "`/admin/me`: HTTP and a token, no statement", token / database),
        Part(LIST_GOAL, "its statements through the driver, rows read, no HTTP", driver / database),
        Part(LIST_GOAL, "all of it", served(path) / database),
        Part(CREATE_GOAL, "`/admin/me`: HTTP and a token, no statement", token / bare),
        Part(CREATE_GOAL, "the same INSERT with its triggers (audit, counts, checks), no HTTP", audited / bare),
        Part(CREATE_GOAL, "all of it", created / bare),
    ]


def reasons(goals: list[Goal], parts: list[Part]) -> list[str]:
    """For each goal that is not met and that was taken apart, what was measured of its parts."""
    found = []
    for goal in goals:
        of_goal = [part for part in parts if part.goal == goal.name]
        if not goal.met and of_goal:
            figures = "; ".join(f"{part.name}: {part.share:.2f}" for part in of_goal)
            found.append(
                f"Not met: {goal.name} ({goal.measured:.2f}, wanted {goal.wanted}). Measured of it: {figures}."
            )
    return found
