"""Promises that are laws already, and those that Schemathesis holds: run as they are, and counted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from tests.laws.test_schemathesis import schemathesis
from tests.torture.place import Finding, Place

ROOT = Path(__file__).parents[2]
GENERATED = re.compile(r"(\d+) generated")


def proven_by(*selection: str, what: str, place: Place) -> Finding:
    """Run these tests; every one of them must pass, and there must be some."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", str(os.cpu_count()), f"--junit-xml={report}", *selection],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        suite = ElementTree.parse(report).getroot()[0]  # noqa: S314 -- just written by our own tests
    count, bad = int(suite.get("tests", 0)), [int(suite.get(kind, 0)) for kind in ("failures", "errors", "skipped")]
    (place.folder / "laws.log").write_text(ran.stdout)
    return Finding(f"{count} tests: {what}", f"{sum(bad)} failed", ran.returncode == 0 and count > 0 and not any(bad))


def documents(place: Place) -> Finding:
    """Both documents by Schemathesis with all its checks, its coverage of every limit, and stories of several calls."""
    each = place.times(16, 1)
    phases = "examples,coverage,fuzzing,stateful" if not place.quick else "examples,fuzzing"
    tried, failed = 0, []
    with place.service() as service:
        for document in ("openapi", "console"):
            ran = schemathesis(service, document, "--phases", phases, "-n", str(each))
            found = GENERATED.search(ran.stdout)
            tried += int(found[1]) if found else 0
            if ran.returncode:
                failed.append(document)
                (place.folder / f"{document}.log").write_text(ran.stdout + ran.stderr)
    return Finding(
        f"{tried:,} requests made from both documents, {phases.replace(',', ', ')}",
        f"{' and '.join(failed) or 'neither'} found untrue",
        not failed and tried > 100,
    )


tokens = partial(
    proven_by, "tests/unit/test_tokens.py", "tests/laws/test_connections.py", what="forged and broken tokens"
)
access = partial(
    proven_by,
    "tests/laws/test_access.py",
    "-k",
    "role or token or declares or another_organizations",
    what="every route with every role, and with another tenant's ids",
)
tables = partial(
    proven_by,
    "tests/laws/test_tables.py",
    what="references across tenants, one exact entry a changed row, history that nobody rewrites",
)
chain = partial(proven_by, "tests/db/test_chain.py", "tests/db/test_sealing.py", what="the chain, tampered with")
trash = partial(
    proven_by, "tests/laws", "tests/admin", "-k", "trash or soft_deleted or restor or deleted", what="the trash"
)
bad_input = partial(proven_by, "tests/unit/test_bad_input.py", what="the corpus of bad input")
walks = partial(
    proven_by,
    "tests/laws/test_lists.py",
    "-k",
    "walk",
    what="walks by page and cursor under every sort, with inserts going on",
)
rolling = partial(proven_by, "tests/deploy/test_rolling_restart.py", what="two replicas restarted under load")
