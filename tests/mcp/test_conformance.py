"""The protocol's own conformance suite, for both revisions, against our door with the suite's fixtures behind it."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.main import create_app
from app.mcp.library import manager
from app.mcp.transport import Transport
from app.settings import Settings
from app.web.cors import Origins
from tests.callers import Callers
from tests.mcp.fixtures import fixture_server
from tests.mcp.serving import served
from tests.programs import missing, program

FOLDER = Path(__file__).parent / "conformance"


@pytest.fixture(scope="module")
def suite() -> Path:
    """The suite, and the Node that it needs."""
    npm = program("npm", package="npm")
    installed = FOLDER / "node_modules" / ".package-lock.json"
    if not installed.exists():
        done = subprocess.run(
            [npm, "ci", "--no-audit", "--no-fund"], cwd=FOLDER, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode:
            missing(f"npm could not install the conformance suite: {done.stderr[-300:]}")
    return installed.parent


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    app = create_app(settings)
    app.state.mcp = Transport(lambda: manager(fixture_server(), most=settings.max_body_bytes))
    person = Callers(None, settings).person("agent", f"conformance-{uuid.uuid4().hex[:12]}")  # type: ignore[arg-type]  # it calls nobody
    with served(app, token=person.headers["Authorization"].removeprefix("Bearer ")) as address:
        # The suite sends the server's own address as the page that asks.
        app.state.origins = Origins([address])
        yield f"{address}/admin/mcp"


@pytest.mark.slow
@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_the_conformance_suite_passes(revision: str, suite: Path, address: str) -> None:
    """The files of expected failures say why each of them is one."""
    done = subprocess.run(
        [
            *(suite / "node" / "bin" / "node", suite / ".bin" / "conformance", "server", "--url", address),
            *("--requirements", revision, "--expected-failures", FOLDER / f"expected-failures.{revision}.yaml"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
