"""The torture, in its quick form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ENVIRONMENT, UNMEASURED


@pytest.mark.slow
def test_every_promise_is_kept_when_things_break() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.torture", "--quick"],
        cwd=Path(__file__).parents[2],
        env=ENVIRONMENT | UNMEASURED,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
