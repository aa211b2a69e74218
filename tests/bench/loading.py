"""What the start and the memory of a worker consist of: each step of loading by itself, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.bench.goals import MEMORY_GOAL, START_GOAL, Part
from tests.bench.server import Bench, environment_of, resident_mb

# As `crm serve` does it, which loads the libraries together with our own modules.
STEPS = {
    "Python": "",
    "the command and the web server": "import app.cli.serve",
    "SQLAlchemy and psycopg": "import psycopg_pool, sqlalchemy.orm, sqlalchemy.dialects.postgresql",
    "Litestar": "import app.worker; app.worker.without(*app.worker.NOT_OURS)(__import__)('litestar')",
    "our own modules: tables, statements, bodies": "app.worker.load('serve_app')",
    "the routes, in each worker": "app.worker.serve_app()",
}
PROGRAM = """
import sys, time
from pathlib import Path
for step in sys.argv[1:]:
    exec(step)
    print(time.process_time(), Path("/proc/self/smaps_rollup").read_text().replace("\\n", " "))
"""


def parts(bench: Bench) -> dict[str, list[Part]]:
    """Of the goals for the start, in seconds of a processor, and for the memory, in MB that are the process's own."""
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, *STEPS.values()],
        env=environment_of(bench.settings),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.splitlines()
    seconds, owned = [0.0, *(float(line.split()[0]) for line in told)], [0.0, *map(_own_mb, told)]
    worker = max(bench.workers, key=resident_mb)
    own = _own_mb(Path(f"/proc/{worker}/smaps_rollup").read_text())
    return {
        START_GOAL: [
            *(Part(name, after - before) for name, before, after in zip(STEPS, seconds[:-1], seconds[1:], strict=True)),
            Part("all of it, on the clock", bench.start_seconds),
        ],
        MEMORY_GOAL: [
            *(Part(name, after - before) for name, before, after in zip(STEPS, owned[:-1], owned[1:], strict=True)),
            Part("what requests and connections left", own - owned[-1]),
            Part("files of programs and libraries, as far as they are read", resident_mb(worker) - own),
            Part("all of it", resident_mb(worker)),
        ],
    }


def _own_mb(rollup: str) -> float:
    """Of /proc/<pid>/smaps_rollup: what no file stands for."""
    return int(rollup.partition("Anonymous:")[2].split(maxsplit=1)[0]) * 1024 / 1e6
