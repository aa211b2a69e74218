"""That `make bench` works, on small data; how fast it is here says nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.growth import Growth
from tests.bench.load import Latency
from tests.bench.plot import plot
from tests.bench.report import cells
from tests.processes import ENVIRONMENT, UNMEASURED, results_suffix
from tests.programs import program

pytestmark = pytest.mark.slow


def test_a_quick_run_writes_its_results(tmp_path: Path) -> None:
    program("wrk", package="wrk")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.bench",
            "--quick",
            "--data-dir",
            str(tmp_path / "data"),
            "--output",
            str(tmp_path),
        ],
        env=ENVIRONMENT | UNMEASURED,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = (tmp_path / f"RESULTS{results_suffix()}.md").read_text()
    assert "proves nothing about speed" in results
    assert "report: overview" in results
    assert [line for line in results.splitlines() if line.startswith("## ")] == [
        "## What stands in the way",
        "## Shares of PostgreSQL's own rate",
        "## Where the rest goes",
        "## What each index costs a write",
        "## How it grows",
    ]
    assert "| create a customer | new |" in results
    assert "| litestar |" in results
    assert "| customers | customers_live_email_idx |" in results
    assert "| customers by email |" in results
    for goal in ("list page by cursor", "create a customer, audited"):
        met = any(line.startswith(f"| {goal}") and "| met" in line for line in results.splitlines())
        assert met or f"Not met: {goal}" in results
    assert (tmp_path / f"growth{results_suffix()}.svg").read_text().startswith("<svg")


def test_what_did_not_answer_in_time_has_no_figure() -> None:
    growth = Growth("report", [Latency(p50=2.0, p99=4.0, rate=1.0), Latency(p50=6.0, p99=8.0, rate=1.0), None])
    assert cells(growth) == ["1.00 (2.0)", "3.00 (4.0)", "no answer in time"]
    assert plot([1, 2, 3], [growth]).count('<circle cx="') == 3 + 2  # the legend's, and the figures'
