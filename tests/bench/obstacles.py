"""What stands between the service and its goals: each part of the way by itself."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from tests.bench import create, direct, loading
from tests.bench.cases import BY_NAME
from tests.bench.goals import (
    CONNECTIONS,
    CREATE_GOAL,
    DRY_RUN_GOAL,
    LIST_GOAL,
    SEARCH_GOAL,
    Goal,
    Part,
    first_page,
)
from tests.bench.load import pgbench, statements, wrk
from tests.bench.server import Bench

Parts = dict[str, list[Part]]


def measure(bench: Bench, goals: list[Goal], seconds: float, *, rounds: int) -> list[Goal]:
    """The goals, with the parts of the start and of memory, and those of a list, of creates and of a search: the middle
    of some rounds, in each of which all are measured.

    The processors are what everything waits for, so that what is done half as often takes twice as much of them.
    """
    # First, while the workers' memory is what the goal has seen.
    loaded = loading.parts(bench)
    path = first_page(bench)
    sent = statements(bench, path, bench.large)
    found = loaded | _middle([_round(bench, path, sent, seconds) for _ in range(rounds)])
    return [goal._replace(parts=(*goal.parts, *found.get(goal.name, ()))) for goal in goals]


def _middle(rounds: list[Parts]) -> Parts:
    return {
        goal: [
            Part(part.name, statistics.median(each[goal][place].cost for each in rounds))
            for place, part in enumerate(parts)
        ]
        for goal, parts in rounds[0].items()
    }


def _round(bench: Bench, path: str, sent: list[str], seconds: float) -> Parts:
    def served(path: str) -> float:
        return wrk(bench, path, bench.large, connections=CONNECTIONS, seconds=seconds).rate

    def inserted(*, triggers: bool) -> float:
        return direct.inserts(bench, triggers=triggers, connections=CONNECTIONS, seconds=seconds)

    database = pgbench(bench, sent, connections=CONNECTIONS, seconds=seconds)
    driver = direct.asks(bench, sent, connections=CONNECTIONS, seconds=seconds)
    bare, audited = inserted(triggers=False), inserted(triggers=True)
    created = create.through_service(bench, connections=CONNECTIONS, seconds=seconds)
    one, tried = (
        create.through_service(bench, connections=1, seconds=seconds, dry_run=dry_run) for dry_run in (False, True)
    )
    token = served("/admin/me")
    search = BY_NAME["customers found by two letters"].at(bench, bench.large)
    contact = served(BY_NAME["one contact"].at(bench, bench.large))
    # The first says who asks, and the last one counts.
    who, *_, count = statements(bench, search, bench.large)
    counted = direct.asks(bench, [who, count], connections=CONNECTIONS, seconds=seconds)
    return {
        LIST_GOAL: [
            Part("`/live`: HTTP alone, no token and no statement", database / served("/live")),
            Part("`/admin/me`: HTTP and a token, no statement", database / token),
            Part("its statements through the driver, rows read, no HTTP", database / driver),
            Part("all of it", database / served(path)),
        ],
        CREATE_GOAL: [
            Part("`/admin/me`: HTTP and a token, no statement", bare / token),
            Part("the same INSERT with its triggers (audit, counts, checks), no HTTP", bare / audited),
            Part("all of it", bare / created),
        ],
        DRY_RUN_GOAL: [Part("all of it", one / tried)],
        SEARCH_GOAL: [
            Part("its total up to 10,001, from the search's index and the rows, no HTTP", contact / counted),
            Part("all of it", contact / served(search)),
        ],
    }


def reasons(goals: Iterable[Goal]) -> list[str]:
    """For each goal that is not met, what it allows for and what its parts take."""
    found = []
    for goal in goals:
        if not goal.met:
            figures = "; ".join(f"{part.name}: {part.cost:.2f}" for part in goal.parts) or goal.note or "no parts"
            allowed = 1 / goal.limit if goal.bound == "≥" else goal.limit
            found.append(
                f"Not met: {goal.name} ({goal.measured:.2f}, wanted {goal.wanted}), which allows for a cost of"
                f" {allowed:.2f}. Measured: {figures}."
            )
    return found
