"""The floors of the house: imports go down only, and stand at the top of the file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Each may import what stands before it. `admin` stands for its shared part; its resources do not know each other.
FLOORS = """
    money timezones embedded settings logs web access models db storage telemetry tracing probes admin console examples
    openapi docs main worker cli
""".split()
FILES = sorted((ROOT / "app").rglob("*.py"))


def imports(path: Path) -> list[tuple[str, bool]]:
    """What a file imports from the app, and whether it does so inside a function."""
    tree = ast.parse(path.read_text())
    inner = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom) and node.module == "app":
                names = [f"app.{alias.name}" for alias in node.names]
            found += [(name, node in inner) for name in names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    parts = path.relative_to(ROOT / "app").with_suffix("").parts
    if parts == ("__init__",):
        return
    floor = FLOORS.index(parts[0])
    for name, inside_function in imports(path):
        assert not inside_function, f"{name} is imported inside a function"
        if name.startswith("app."):
            below = name.split(".")
            assert FLOORS.index(below[1]) <= floor, f"{name} stands higher"
            if parts[0] == below[1] == "admin" and len(below) > 3 and parts[1] != below[2]:
                # How a record looks may be shared; what is done with it is its own resource's business.
                assert below[3] in {"schemas", "queries"}, f"{name} is a sibling's"


def test_only_the_object_store_knows_its_library() -> None:
    knowing = {str(path.relative_to(ROOT)) for path in FILES for name, _ in imports(path) if name.startswith("boto")}
    # The first of them for types only.
    assert knowing == {"app/storage/objects.py", "app/storage/s3.py"}


def test_nothing_but_the_migrations_writes_tables() -> None:
    for path in FILES:
        assert "CREATE TABLE" not in path.read_text().replace("CREATE TEMP TABLE", ""), path
