"""The packages of app/ and their imports, as a Mermaid diagram."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

APP = Path(__file__).parents[2] / "app"
# Small modules without imports of their own: each package may use them, so that their arrows would say nothing.
BASICS = {"money", "timezones", "logs", "py", "tracing", "examples"}

Graph = dict[str, set[str]]


def diagram() -> str:
    """An arrow from each package to the packages that it builds on. Arrows that follow from others are left out, and
    what is imported on demand, inside a function, is a dotted arrow.
    """
    direct, on_demand = imports()
    lines = [f"    {name} --> {below}" for name in direct for below in sorted(reduced(direct, name))]
    lines += [f"    {name} -.-> {below}" for name in on_demand for below in sorted(on_demand[name])]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```"])


def imports() -> tuple[Graph, Graph]:
    """Which packages each package imports: at the top of its files, and only inside functions."""
    direct: Graph = {}
    on_demand: Graph = {}
    for path in sorted(APP.rglob("*.py")):
        name = _package(path.relative_to(APP).with_suffix("").parts)
        if name is None:
            continue
        tree = ast.parse(path.read_text())
        direct.setdefault(name, set()).update(_imported(tree.body) - {name})
        functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        nested = [node for function in functions for node in function.body]
        on_demand.setdefault(name, set()).update(_imported(nested) - {name})
    return direct, {name: below - direct[name] for name, below in on_demand.items() if below - direct[name]}


def reduced(graph: Graph, name: str) -> set[str]:
    """What this package imports, without what another of its imports leads to."""
    return {below for below in graph[name] if not any(_leads_to(graph, each, below) for each in graph[name] - {below})}


def _leads_to(graph: Graph, start: str, goal: str) -> bool:
    return goal in graph[start] or any(_leads_to(graph, below, goal) for below in graph[start])


def _imported(nodes: list[ast.stmt]) -> set[str]:
    return {name for node in nodes for name in _names(node)}


def _names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and node.module:
        parts = node.module.split(".")
        if parts[0] == "app":
            modules = [parts[1:]] if len(parts) > 1 else [[alias.name] for alias in node.names]
            yield from (name for module in modules if (name := _package(tuple(module))))


def _package(parts: tuple[str, ...]) -> str | None:
    name = parts[0]
    return None if name in BASICS or name == "__init__" else name
