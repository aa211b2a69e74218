"""Every promise of the design put to the test, against real processes: `make torture`, or with --quick in two minutes.

Prints a table and writes it to RESULTS.md; ends with 1 where a promise is not kept.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psycopg

from app.db.migrations import Migrations
from app.dev.postgres import OWNER, TEMPLATE
from tests.processes import results_suffix
from tests.template import template
from tests.torture import (
    assistant,
    background,
    clients,
    crowds,
    database,
    imports,
    laws,
    limits,
    logins,
    memory,
    peers,
    people,
    processes,
    races,
    receivers,
    reminders,
    store,
    upgrades,
    walks,
    worst,
)
from tests.torture.place import Finding, Place

RESULTS = Path(__file__).with_name(f"RESULTS{results_suffix()}.md")


class Trial(NamedTuple):
    """One way to break a promise. `slow` ones are what other tests already do, and left out by --quick.

    A quick run has its lanes side by side. What has no lane runs alone: it harms what all of them use, or on a busy
    machine it would be told to come again.
    """

    promise: int
    name: str
    attempt: Callable[[Place], Finding]
    slow: bool = False
    lane: str = ""


# By the services that they use: one that two trials share at the same moment, they would measure together.
TWO_WORKERS, SINGLE, OWN = "two workers", "a single worker", "services of their own"


def _law(promise: int, name: str, files: tuple[str, ...], what: str) -> Trial:
    return Trial(promise, name, lambda place: laws.proven_by(place, files, what), slow=True)


TRIALS = (
    Trial(1, "no acknowledged write is lost", database.killed_at_fifty_writes_a_second),
    Trial(2, "no row without its audit entry", processes.killed_in_the_middle_of_writing),
    Trial(3, "a failed COMMIT is never a success", database.a_commit_that_fails),
    Trial(4, "one Idempotency-Key, one row", races.one_key_fifty_times, lane=TWO_WORKERS),
    Trial(5, "one If-Match, one change", races.one_version_fifty_times, lane=TWO_WORKERS),
    _law(6, "no forged token gets in", laws.TOKENS, "forged and broken tokens, and no connection taken"),
    _law(7, "every route has its roles", laws.ACCESS, "every route with every role, or none"),
    Trial(7, "who is shut out is out within five seconds", people.shut_out_of_two_workers, slow=True),
    _law(8, "another tenant's ids are unknown ones", laws.ACCESS, "every route with another tenant's ids"),
    Trial(9, "tenants do not leak", races.two_tenants_on_two_connections, lane=TWO_WORKERS),
    _law(10, "references stay in the tenant", laws.TABLES, "rows and references into other tenants"),
    _law(11, "every change is audited", laws.TABLES, "bulk changes by raw SQL, and history that nobody rewrites"),
    _law(12, "tampering shows", laws.CHAIN, "the chain, tampered with in every way"),
    Trial(13, "logs and audit hold no secret", clients.secrets_on_their_way),
    _law(14, "the trash is nowhere", laws.TRASH, "every answer before, and after something went into the trash"),
    Trial(15, "the documents are true", laws.documents, slow=True),
    _law(16, "every error has the envelope", laws.BAD_INPUT, "the corpus of bad input"),
    Trial(17, "bad requests leave nothing behind", clients.bad_requests, lane=TWO_WORKERS),
    Trial(18, "a pool that is used up is said", limits.no_connection_left),
    Trial(19, "who hangs up leaves nothing behind", clients.hanging_up),
    Trial(20, "nothing takes for ever", limits.slow_and_locked, lane=OWN),
    Trial(21, "a stop finishes what runs", processes.told_to_stop_under_load),
    _law(21, "a rolling restart fails nothing", laws.ROLLING_RESTART, "two replicas restarted under load"),
    Trial(22, "a database that is away is said", database.away),
    Trial(22, "a store that is away concerns files only", store.stopped, lane=OWN),
    Trial(23, "metrics are right with two workers", processes.counted_by_two_workers, lane=TWO_WORKERS),
    Trial(24, "walks meet every row once", walks.over_many_rows, lane=TWO_WORKERS),
    _law(24, "walks in every list", laws.LISTS, "every list under every sort"),
    Trial(25, "no request keeps a worker busy", worst.worst_requests, lane=SINGLE),
    Trial(26, "who is slow keeps nobody waiting", crowds.slow_and_silent, lane=SINGLE),
    _law(27, "the service's login forges nothing", laws.RIGHTS, "raw SQL as that login"),
    Trial(28, "memory is bounded", memory.large_answers, lane=SINGLE),
    Trial(29, "twelve at the stages", races.twelve_at_the_stages),
    Trial(30, "a migration keeps nobody waiting", upgrades.beside_who_holds_its_locks, lane=OWN),
    Trial(31, "a job's effects happen once", background.workers_killed, slow=True),
    Trial(31, "a dirty spreadsheet comes in, goes back, and out", imports.imported_while_workers_are_killed, slow=True),
    Trial(31, "a reminder comes exactly once", reminders.reminded_while_workers_are_killed, slow=True),
    Trial(31, "a killed worker loses no conversation", assistant.killed_in_the_middle_of_an_answer, slow=True),
    Trial(
        32, "each reader of the feed sees each change once", background.read_while_everybody_writes, lane=TWO_WORKERS
    ),
    Trial(33, "bad receivers make nobody late", receivers.zoo_of_receivers, slow=True),
    Trial(34, "the broker and Redis can be away", peers.away, slow=True),
    Trial(34, "the mail server can be away", peers.mail_away, slow=True),
    Trial(36, "a stolen refresh token ends the session", logins.refresh_tokens_used_again),
    Trial(37, "a flood of logins keeps the CRM from nothing", logins.two_hundred_at_once),
)


def main() -> int:
    """Run the trials, tell, and write it down."""
    arguments = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="less often, and without what other tests do anyway")
    arguments.add_argument("--only", type=int, nargs="+", metavar="PROMISE", help="these promises")
    arguments.add_argument("--named", metavar="WORD", help="the trials that have this word in their names")
    asked = arguments.parse_args()
    trials = [
        trial
        for trial in TRIALS
        if (trial.promise in asked.only if asked.only else asked.named or not (asked.quick and trial.slow))
        and (asked.named or "") in trial.name
    ]
    lines = ["| # | promise | what was done, how often | what was lost | verdict |", "|--|--|--|--|--|"]
    began = time.monotonic()
    output = sys.stdout  # a command that is run in this process has another one for a moment
    print(*lines, sep="\n", file=output, flush=True)
    with _place(quick=asked.quick) as place:

        def run(lane: list[Trial]) -> int:
            """How many of them were not kept."""
            broken = 0
            for trial in lane:
                line, kept = _tried(trial, place)
                print(line, file=output, flush=True)
                lines.append(line)
                broken += not kept
            return broken

        lanes = [[trial for trial in trials if trial.lane == lane] for lane in (TWO_WORKERS, SINGLE, OWN)]
        beside = lanes if asked.quick else []
        with ThreadPoolExecutor(len(lanes)) as pool:
            broken = sum(pool.map(run, beside))
        broken += run([trial for trial in trials if not any(trial in lane for lane in beside)])
    summary = f"{len(trials) - broken} of {len(trials)} trials kept in {(time.monotonic() - began) / 60:.1f} minutes."
    print(f"\n{summary}")  # noqa: T201
    if not (asked.quick or asked.only or asked.named):
        RESULTS.write_text(_page(lines, summary))
    return 1 if broken else 0


def _tried(trial: Trial, place: Place) -> tuple[str, bool]:
    """Its line of the table, and whether the promise was kept."""
    started = time.monotonic()
    finding = _attempt(trial, place)
    verdict = "kept" if finding.kept else "**BROKEN**"
    took = f"{time.monotonic() - started:.0f} s"
    line = f"| {trial.promise} | {trial.name} | {finding.done} ({took}) | {finding.lost} | {verdict} |"
    return line, finding.kept


def _attempt(trial: Trial, place: Place) -> Finding:
    try:
        return trial.attempt(place)
    except Exception as error:  # noqa: BLE001 -- one that can't be tried is not kept, and the others are tried on
        traceback.print_exception(error)
        return Finding("could not be tried", f"{type(error).__name__}: {error}".replace("\n", " ")[:200], False)


@contextmanager
def _place(*, quick: bool) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="crm-torture-", ignore_cleanup_errors=True) as folder:
        os.environ.setdefault(TEMPLATE, str(template()))
        place = Place(Path(folder), quick=quick)
        try:
            place.postgres.start()
            place.postgres.watch()
            Migrations(place.postgres.dsn(user=OWNER), place.postgres.dsn()).upgrade()
            yield place
        finally:
            place.close()


def _page(lines: list[str], summary: str) -> str:
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, psycopg {psycopg.__version__}"
    return "\n".join(
        (
            "# What was promised, put to the test",
            "",
            f"Written by `make torture` on {datetime.now(UTC):%Y-%m-%d}, on {machine}. {summary}",
            "",
            *lines,
            "",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
