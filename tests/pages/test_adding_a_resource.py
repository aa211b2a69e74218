"""docs/adding-a-resource.md, followed literally in a copy of the repository; and what the laws say when a part of it is
forgotten.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.laws.test_imports import wrong_imports
from tests.laws.test_public_interfaces import offences
from tests.pages.steps import apply, steps
from tests.processes import ENVIRONMENT

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# 260 lines before there were bulk changes, their jobs, history, one search, erasure, files and tools: some 75 more.
MOST_FILES, MOST_LINES = 6, 340
Run = Callable[..., str]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which the page was followed. What a test takes out of it, it puts back."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("app", "migrations", "tests", "openapi", "docs", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            # With its bytecode, so that no run compiles everything anew; but without what is just being written.
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("*.pyc.*", "node_modules"))
        else:
            shutil.copy(source, copy / name)
    for step in steps():
        apply(step, copy)
    return copy


@pytest.fixture
def run(copy: Path) -> Run:
    """Runs tests in the copy, on a server of their own; returns what they wrote. The server begins as a copy, too, of
    the one of this test: what is migrated is the page's migration only.
    """

    def run(*arguments: str, passes: bool = True) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments],
            cwd=copy,
            env=ENVIRONMENT | {"PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert (done.returncode == 0) is passes, done.stdout[-20_000:] + done.stderr
        return done.stdout + done.stderr

    return run


def test_a_new_resource_is_small() -> None:
    app = [step for step in steps() if step.path.startswith("app/")]
    new = [step.path for step in steps() if not step.edit and not step.path.startswith("tests/")]
    added = [line for step in app for line in step.text.splitlines() if line.startswith("+") or not step.edit]
    assert len(new) <= MOST_FILES, new
    assert len(added) <= MOST_LINES


def test_who_follows_the_page_gets_a_resource_that_keeps_all_laws(run: Run, copy: Path) -> None:
    written = sorted({step.path for step in steps()})
    ruff = str(Path(sys.executable).with_name("ruff"))
    for command in (["check"], ["format", "--check"]):
        checked = subprocess.run([ruff, *command, *written], cwd=copy, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout
    for path in (path for path in written if path.startswith("app/")):
        assert not list(wrong_imports(copy / path, copy))
        assert not list(offences(ast.parse((copy / path).read_text()))), path
    # Those that name contracts, and those that look at everything. What managers and admins do to many is what they do
    # to one.
    laws = "contract or tools_know or each_handler or each_group or each_table_of_records or no_address_shows"
    laws += " or keeps_tenants_apart or every_key_names or waits_for_the_commit or without_a_tenant or never_truncates"
    laws += " or times_are_of_years or test_text or expected_permission or unless_it_is_named"
    besides = "schemathesis or (do_to_many and (manager- or admin-))"
    run("tests/admin/test_contracts.py", "tests/laws", "-k", f"({laws}) and not ({besides})")


class Part(NamedTuple):
    """What is taken out of a file, and the sentence that says what is missing."""

    path: str
    text: str
    sentence: str
    left: str = ""


RESOURCES, MAIN, GROUPS = "app/records/resources.py", "app/main.py", "app/openapi.py"
MIGRATION, SCHEMAS = "migrations/versions/0100_contracts.py", "app/admin/contracts/schemas.py"
QUERIES, ROUTES = "app/admin/contracts/queries.py", "app/admin/contracts/routes.py"
KINDS, FOUND = "app/records/audit_values.py", "app/admin/search/schemas.py"
UNDO, FEED = "app/admin/history/undo.py", "app/admin/events/queries.py"
RUN = "let a migration run "
# Each group is forgotten at once; and which of the laws of tests/laws/test_resources.py tell.
FORGOTTEN = {
    "rules, indexes and groups": (
        "contract or customer or each_",
        [
            Part(MIGRATION, "run(own_only(", f"{RUN}own_only('contracts', …)"),
            Part(MIGRATION, "run(versioned(", f"{RUN}versioned('contracts')"),
            Part(MIGRATION, "run(searchable(", f"{RUN}searchable('contracts', …)"),
            Part(MIGRATION, "run(counted(", f"{RUN}counted('contracts')"),
            Part(MIGRATION, "run(cascade_", f"{RUN}cascade_soft_delete('customers', 'contracts.customer_id')"),
            Part(MIGRATION, "run(audited(", f"{RUN}audited('contracts', 'contract')"),
            Part(MIGRATION, "contracts_live_name_idx", f"{RUN}CREATE INDEX ON contracts (tenant_id, name_folded, id)"),
            Part(MIGRATION, "contracts_customer_idx", f"{RUN}CREATE INDEX ON contracts (tenant_id, customer_id, …)"),
            Part(KINDS, 'CONTRACT = "contract"', f"add CONTRACT = 'contract' to ResourceType in {KINDS}"),
            Part(FOUND, 'CONTRACT = "contract"', f"add CONTRACT = 'contract' to SearchType in {FOUND}"),
            Part(GROUPS, '"Contracts":', f"add 'Contracts' to GROUPS in {GROUPS}, with a sentence about it"),
            Part(
                ROUTES, "        restore_contract,", "add restore_contract to the router of app.admin.contracts.routes"
            ),
            Part(FEED, "        CONTRACTS,", f"add CONTRACTS to SHOWN in {FEED}"),
            Part(UNDO, "_with_trash(CONTRACTS)", f"add CONTRACTS to KINDS in {UNDO}"),
        ],
    ),
    # Then the laws of the migration know nothing of it.
    "declaration and router": (
        "each_table or each_handler",
        [
            Part(
                RESOURCES, "    CONTRACTS,", f"declare Contract as a Resource in {RESOURCES}, and add it to RESOURCES"
            ),
            Part(MAIN, ", contracts)", f"of app.admin.contracts.routes, and that router to ADMIN in {MAIN}", ")"),
        ],
    ),
}
# One at a time, since the first ends the start.
FORGOTTEN_AT_IMPORT = [
    Part(QUERIES, '"status": ', "ContractQuery has the filter 'status': add it to the filters of"),
    Part(SCHEMAS, "status: Maybe[list[", "the list of contracts has the filter 'status': add it to ContractQuery"),
    Part(SCHEMAS, 'NAME = "name"', "the list of contracts has the sort 'name': add it to the sort_by of"),
]


@contextmanager
def forgotten(copy: Path, parts: list[Part]) -> Iterator[None]:
    """Without these parts; afterwards they are there again."""
    kept = {copy / part.path: (copy / part.path).read_text() for part in parts}
    for part in parts:
        lines = (copy / part.path).read_text().splitlines(keepends=True)
        (found,) = [line for line in lines if part.text in line]
        lines[lines.index(found)] = found.replace(part.text, part.left) if part.left else ""
        (copy / part.path).write_text("".join(lines))
    try:
        yield
    finally:
        for path, text in kept.items():
            path.write_text(text)


@pytest.mark.parametrize("what", FORGOTTEN)
def test_what_is_forgotten_is_named_with_what_to_add(what: str, run: Run, copy: Path) -> None:
    laws, parts = FORGOTTEN[what]
    with forgotten(copy, parts):
        said = run("tests/laws/test_resources.py", "-k", laws, passes=False)
    # As it stands on one line, without the frames around it.
    said = " ".join(re.sub(r"[│\n]|^E ", " ", said, flags=re.MULTILINE).split())
    for part in parts:
        assert part.sentence in said, f"{part.sentence}\n{said[-10_000:]}"


def test_a_list_and_its_query_that_differ_end_the_start(copy: Path) -> None:
    for part in FORGOTTEN_AT_IMPORT:
        with forgotten(copy, [part]):
            started = subprocess.run(
                # What app.main imports.
                [sys.executable, "-B", "-c", "import app.admin.contracts.routes"],
                cwd=copy,
                capture_output=True,
                text=True,
                check=False,
            )
        assert part.sentence in started.stderr
