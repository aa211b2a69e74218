"""Promises that are laws already, and those that Schemathesis holds: run as they are, and counted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from tests.laws.test_schemathesis import schemathesis
from tests.torture.place import Finding, Place

ROOT = Path(__file__).parents[2]
GENERATED = re.compile(r"(\d+) generated")

TOKENS = ("tests/access/test_tokens.py", "tests/access/test_token_properties.py", "tests/laws/test_connections.py")
ACCESS = ("tests/laws/test_access.py",)
TABLES = ("tests/laws/test_tables.py",)
RIGHTS = ("tests/laws/test_rights.py",)
CHAIN = tuple(f"tests/records/test_{each}.py" for each in ("chain", "old_chain", "erasure", "cuts", "sealing"))
TRASH = ("tests/laws/test_trash.py",)
BAD_INPUT = ("tests/web/test_bad_input.py", "tests/web/test_strict_json.py")
ROLLING_RESTART = ("tests/deploy/test_rolling_restart.py",)
LISTS = ("tests/laws/test_lists.py",)
PROOFS = (*TOKENS, *ACCESS, *TABLES, *RIGHTS, *CHAIN, *TRASH, *BAD_INPUT, *ROLLING_RESTART, *LISTS)


def proven_by(place: Place, files: tuple[str, ...], what: str) -> Finding:
    """Every test in these files must pass, and there must be some in each."""
    results = _run(place)
    counts = [results[file.removesuffix(".py").replace("/", ".")] for file in files]
    total, passed = sum(sum(each.values()) for each in counts), sum(each["passed"] for each in counts)
    return Finding(f"{total} tests: {what}", f"{total - passed} did not pass", total == passed and all(counts))


@cache
def _run(place: Place) -> dict[str, Counter[str]]:
    """All of them at once, which is faster; how many passed and how many did not, of each file."""
    report = place.folder / "laws.xml"
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", str(os.cpu_count()), f"--junit-xml={report}", *PROOFS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    results = {file.removesuffix(".py").replace("/", "."): Counter[str]() for file in PROOFS}
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 -- just written by our own tests
        results[case.get("classname", "")]["failed" if len(case) else "passed"] += 1
    if ran.returncode:
        sys.stderr.write("\n".join(line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))))
    return results


def documents(place: Place) -> Finding:
    """Both documents by Schemathesis with all its checks: examples, made-up requests, stories of several calls."""
    each = place.times(16, 1)
    tried, failed = 0, []
    with place.service() as service:
        for document in ("openapi", "console"):
            ran = schemathesis(service, document, "--phases", "examples,fuzzing,stateful", "-n", str(each))
            found = GENERATED.search(ran.stdout)
            tried += int(found[1]) if found else 0
            if ran.returncode:
                failed.append(document)
                sys.stderr.write(ran.stdout[-20_000:] + ran.stderr)
    return Finding(
        f"{tried:,} requests made from both documents, their examples, and in stories of several calls",
        f"{' and '.join(failed) or 'neither'} found untrue",
        not failed and tried > 100,
    )
