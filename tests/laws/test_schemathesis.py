"""The OpenAPI documents are true: Schemathesis runs all its checks against a running service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.processes import ENVIRONMENT, UNMEASURED, Service

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PROCESSES = 2
CONFIGURATION = Path(__file__).with_name("schemathesis.toml").read_text()
# What each filter, page and order of a list refuses is a law of its own (tests/laws/test_lists.py). A nightly run tries
# all of them here, too.
NIGHTLY = "CRM_SCHEMATHESIS_NIGHTLY" in os.environ
WITHOUT_LISTS = r"""
[[operations]]
include-method = "GET"
include-path-regex = '^/(console/)?admin/((?!search$)[a-z-]+|me/(activities|notifications)|[a-z-]+/\{\w+\}/[a-z-]+)$'
phases.coverage.enabled = false
"""


def schemathesis(service: Service, document: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Try one of the documents, signed in as an admin."""
    configuration = service.data_dir.parent / "schemathesis.toml"
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(configuration), "run"]
    return subprocess.run(
        [*command, f"{service.url}/docs/{document}.json", "--no-color", *options],
        env=ENVIRONMENT | UNMEASURED | {"CRM_TOKEN": service.token("admin"), "PYTHONPATH": str(ROOT)},
        cwd=service.data_dir.parent,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("schema")
    (folder / "schemathesis.toml").write_text(CONFIGURATION + ("" if NIGHTLY else WITHOUT_LISTS))
    service = Service(
        folder / "data",
        RATE_LIMIT_PER_MINUTE="0",
        AUTH_FAILURES_PER_MINUTE="0",
        **UNMEASURED,
    )
    yield service
    service.stop()


@pytest.mark.parametrize("document", ["openapi", "console"])
def test_no_request_shows_a_document_untrue(service: Service, document: str) -> None:
    paths = list(json.loads((ROOT / "openapi" / f"{document}.json").read_text())["paths"])

    # Each in one thread: where several parse at once, as Hypothesis does, Python 3.11 now and then raises SystemError.
    def run(number: int) -> subprocess.CompletedProcess[str]:
        mine = [f"--include-path={path}" for path in paths[number::PROCESSES]]
        phases = ("--phases", "examples,coverage,fuzzing", "-n", "1", "--generation-deterministic")
        return schemathesis(service, document, *phases, *mine)

    with ThreadPoolExecutor(PROCESSES) as pool:
        for tried in pool.map(run, range(PROCESSES)):
            assert tried.returncode == 0, tried.stdout[-20_000:] + tried.stderr
