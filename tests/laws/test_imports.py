"""Packages are layers: imports go down only. An import inside a function has a comment that says why."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Each may import those before it. Below `admin`, resources may import only schemas and queries of each other.
FLOORS = """
    libraries countries money timezones locales sentences settings logs tasks web access models db usage records storage
    crypto shared jobs events files mail assistant calendars telemetry tracing probes identity admin console mcp
    examples openapi docs background lifespan main worker go_service cli dev
""".split()
FILES = sorted((ROOT / "app").rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path, *, at_the_top: bool = False) -> Iterator[str]:
    """The modules that a file imports: anywhere, or only at its top."""
    tree = parsed(path)
    for node in tree.body if at_the_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "app":
            yield from (f"app.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def unexplained_imports(path: Path) -> Iterator[str]:
    """Imports inside functions without a comment in the line before the first of them."""
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith(" ") and line.lstrip().startswith(("import ", "from ")) and " import " in f" {line}":
            above = next(each.strip() for each in reversed(lines[:number]) if " import " not in each)
            if not above.startswith("#") and above != "if TYPE_CHECKING:":
                yield f"{path}:{number + 1}"


def wrong_imports(path: Path, root: Path = ROOT) -> Iterator[str]:
    """What a file imports of a higher layer, or of a sibling."""
    parts = path.relative_to(root / "app").with_suffix("").parts
    if parts == ("__init__",):
        return
    floor = FLOORS.index(parts[0])
    # Commands may start what is above them: the tools of a developer's machine.
    for name in imports(path, at_the_top=parts[0] == "cli"):
        if name.startswith("app."):
            below = name.split(".")
            if FLOORS.index(below[1]) > floor:
                yield f"{path.relative_to(root)}: {name} is in a higher layer"
            # A program of its own, which the CRM does not load, and which knows nothing of the CRM's records.
            if below[1] == "identity" and parts[0] not in {"identity", "worker", "cli", "dev"}:
                yield f"{path.relative_to(root)}: {name} is not of the CRM"
            siblings = parts[0] == below[1] == "admin" and len(below) > 3 and parts[1] != below[2]
            # Schemas and statements may be shared, but not services. Tools are there to be called.
            if siblings and below[2] != "tools" and below[3] not in {"schemas", "queries"}:
                yield f"{path.relative_to(root)}: {name} is a sibling's"


def test_imports_go_down_only() -> None:
    assert [found for path in FILES for found in wrong_imports(path)] == []


def test_an_import_inside_a_function_says_why() -> None:
    # The commands are loaded when they are called; one comment there is for all of them.
    commands = ROOT / "app" / "cli" / "__init__.py"
    assert [found for path in FILES if path != commands for found in unexplained_imports(path)] == []


def test_only_the_object_store_knows_its_library() -> None:
    knowing = {str(path.relative_to(ROOT)) for path in FILES for name in imports(path) if name.startswith("boto")}
    # The first of them for types only.
    assert knowing == {"app/storage/objects.py", "app/storage/s3.py"}


def test_nothing_but_the_migrations_writes_tables() -> None:
    for path in FILES:
        assert "CREATE TABLE" not in path.read_text().replace("CREATE TEMP TABLE", ""), path


def loaded(program: str) -> set[str]:
    """The modules that a new process has loaded after this program."""
    shown = subprocess.run(
        [sys.executable, "-c", f"{program}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout.split()
    return set(shown)


def test_annotations_that_each_start_reads_are_not_compiled_from_texts() -> None:
    read = [path for path in FILES if path.name == "routes.py" or path.parent.name == "models"]
    assert [path for path in read if "__future__" in imports(path)] == []


def test_service_and_worker_load_no_library_that_is_not_asked_for() -> None:
    names = loaded(
        "from app.worker import NOT_OURS, load; load('serve_app'); load('jobs_app');"
        "from app.libraries import without; from app.main import create_app; from app.settings import Settings\n"
        "with without(*NOT_OURS): create_app(Settings(jwt_secret='x' * 32, database_url='postgresql://localhost/none'))"
    )
    assert "app.assistant.provider" in names
    optional = {"redis", "aio_pika", "xlsxwriter", "anthropic", "openai", "mcp", "httpx2", "argon2", "zxcvbn"}
    # Each of them makes a worker larger, and its start longer.
    left_out = set("advanced_alchemy alembic attrs boto3 email_validator greenlet jinja2 pydantic rich".split())
    assert names & (optional | left_out | {"app.identity"}) == set()


def test_crm_identity_loads_nothing_of_the_admins_api() -> None:
    assert loaded("import app.identity.main") & {"app.admin", "app.console", "app.assistant"} == set()
