"""That `make bench` works, on small data; how fast it is here says nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.load import has_wrk


@pytest.mark.skipif(not has_wrk(), reason="wrk, which makes the load, is not installed")
def test_a_quick_run_writes_its_results(tmp_path: Path) -> None:
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
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = (tmp_path / "RESULTS.md").read_text()
    assert "proves nothing about speed" in results
    assert "report: overview" in results
    assert (tmp_path / "growth.svg").read_text().startswith("<svg")
