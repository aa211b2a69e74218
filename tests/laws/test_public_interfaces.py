"""The service is built on what its libraries document: a private name of theirs may be gone with their next release."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "app").rglob("*.py"))
# What named tuples and enumerations have, under such names lest they be taken for fields and members.
DOCUMENTED = {"_asdict", "_exit", "_fields", "_make", "_replace", "_value_"}
# Ways to get at what nobody hands out.
TRICKS = {"__closure__", "__globals__", "__code__", "getclosurevars", "currentframe", "setattr", "modules"}
# The protocol between psycopg and libpq is psycopg's business.
INNER_MODULES = {"psycopg.generators", "psycopg.waiting"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in DOCUMENTED


def defined(tree: ast.AST) -> Iterator[str]:
    """What a file's functions are called, and what its objects have."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def offences(tree: ast.AST) -> Iterator[str]:
    """Private names that are used by a file that does not define them, and tricks; each with its line."""
    own = set(defined(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            ours = node.attr in own or ast.unparse(node.value) in {"self", "cls", "super()"}
            if (is_private(node.attr) and not ours) or node.attr in TRICKS:
                yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Name) and node.id in TRICKS:
            yield f"{node.lineno}: {node.id}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            names = [alias.name for alias in node.names]
            parts = {part for module in modules for part in module.split(".")} | set(names)
            if any(is_private(part) for part in parts) or INNER_MODULES & set(modules):
                yield f"{node.lineno}: {ast.unparse(node)}"


def test_only_public_names_are_used() -> None:
    used = {str(path.relative_to(ROOT)): list(offences(ast.parse(path.read_text()))) for path in FILES}
    assert {path: found for path, found in used.items() if found} == {}


@pytest.mark.parametrize(
    "code",
    [
        "compiled._bind_processors",
        "engine.pool._invalidate(connection)",
        "from psycopg._queries import PostgresQuery",
        "from psycopg.waiting import Wait",
        "vars(sys.modules['__main__'])",
        "inspect.getclosurevars(function)",
        "function.__closure__",
    ],
)
def test_the_law_sees_a_private_name(code: str) -> None:
    assert list(offences(ast.parse(code)))


def test_the_law_lets_our_own_be() -> None:
    code = "class Ours:\n    def _make(self):\n        self._pool = Ours()._make()\n        return row._asdict()"
    assert not list(offences(ast.parse(code)))
