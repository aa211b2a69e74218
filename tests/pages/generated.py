"""The parts of the documentation that are written by the code itself: see `python -m tests.pages`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from msgspec import Meta
from msgspec.structs import FieldInfo, fields

from app.cli.openapi import SETTINGS
from app.events.types import ALONE, CHANGES, DERIVED, KINDS
from app.main import create_app
from app.openapi import CONSOLES, document
from app.settings import Settings
from app.web.errors import Code
from tests.laws.routes import EVERY
from tests.pages.diagram import diagram

ROOT = Path(__file__).parents[2]
# The heading that stands before each of these settings.
SECTIONS = {
    "environment": "The service",
    "database_url": "Database",
    "jwt_secret": "Tokens and roles",
    "rate_limit_per_minute": "Limits",
    "default_page_size": "Answers",
    "s3_bucket": "Attachments",
    "upkeep_seconds": "Audit log",
    "jobs_in_service": "Jobs",
    "registration": "Logging in",
    "log_level": "Logs, metrics and traces",
}
WIDTH = 118
# What every list takes beside its own filters.
EVERY_LIST = {"page", "page_size", "cursor", "sort_order"}


class Setting:
    """A field of `Settings`, with what its type says about it."""

    def __init__(self, field: FieldInfo, kind: Any) -> None:
        metas = [part for part in get_args(kind) if isinstance(part, Meta)]
        (self.description,) = (meta.description for meta in metas if meta.description)
        self.name = field.encode_name
        self.section = SECTIONS.get(field.name)
        self.unit = next((meta.extra["unit"] for meta in metas if meta.extra), "")
        self.example = next((meta.examples[0] for meta in metas if meta.examples), "")
        self.default = _as_variable(field.default)
        self.choices = _choices(kind)


def _as_variable(value: Any) -> str:
    """A value as an environment variable has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _choices(kind: Any) -> tuple[str, ...]:
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return tuple(choice for choice in get_args(plain) if choice) if get_origin(plain) is Literal else ()


def settings() -> list[Setting]:
    """Every setting, in the order of `Settings`."""
    hints = get_type_hints(Settings, include_extras=True)
    return [Setting(field, hints[field.name]) for field in fields(Settings)]


def settings_tables() -> str:
    """For docs/settings.md."""
    lines: list[str] = []
    for setting in settings():
        if setting.section:
            lines += [f"\n## {setting.section}\n", "| variable | default | |", "|---|---|---|"]
        default = f"`{setting.default}`" if setting.default != "" else ""
        if len(default) > 60:
            default = "see the text"
        choices = f" One of {', '.join(f'`{choice}`' for choice in setting.choices)}." if setting.choices else ""
        lines.append(f"| `{setting.name}` | {f'{default} {setting.unit}'.strip()} | {setting.description}{choices} |")
    return "\n".join(lines).strip()


def env_example() -> str:
    """The whole of .env.example."""
    lines = ["# Every setting with its default. A wrong value stops the start with one line that names the variable."]
    for setting in settings():
        if setting.section:
            lines += ["", f"# ── {setting.section} ".ljust(WIDTH, "─")]
        unit = f" In {setting.unit}." if setting.unit else ""
        choices = f" One of: {', '.join(setting.choices)}." if setting.choices else ""
        text = f"{setting.description}{unit}{choices}".replace("`", "")
        lines += ["", *textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)]
        shown = setting.example or setting.default
        lines.append(f"{'#' if setting.example or shown == '' else ''}{setting.name}={shown}")
    return "\n".join(lines) + "\n"


def codes() -> str:
    """For docs/api.md: every code of an error, by its status."""
    lines = ["| status | code | message |", "|---|---|---|"]
    ordered = sorted(Code, key=lambda code: code.status)
    lines += [f"| {code.status} | `{code.name}` | {code.message} |" for code in ordered]
    return "\n".join(lines)


def event_types() -> str:
    """For docs/api.md: every type of events."""
    kinds, verbs = (", ".join(f"`{name}`" for name in names) for names in (KINDS, CHANGES))
    lines = ["| type | when |", "|---|---|", *(f"| `{each.name}` | {each.when} |" for each in DERIVED)]
    lines += [f"| `{name}` | {when} |" for name, when in ALONE.items()]
    return "\n".join([*lines, f"| `<record>.<action>` | always; the records are {kinds}, and the actions {verbs} |"])


def calls() -> str:
    """For docs/api.md: every call under /admin, by its group."""
    return "\n".join(_calls(document(create_app(SETTINGS)), "/admin/"))


def console_calls() -> str:
    """For docs/console.md."""
    return "\n".join(_calls(document(create_app(SETTINGS), CONSOLES), "/console/admin/"))


def _calls(described: Mapping[str, Any], below: str) -> Iterator[str]:
    permissions = {(each.method, each.path): each.permission for each in EVERY}
    operations = [
        (operation["tags"][0], path, method.upper(), operation)
        for path, methods in described["paths"].items()
        if path.startswith(below)
        for method, operation in methods.items()
    ]
    order = [tag["name"] for tag in described["tags"]]
    operations.sort(key=lambda each: order.index(each[0]))
    for group, members in groupby(operations, key=lambda each: each[0]):
        yield f"\n### {group}\n"
        yield next(tag["description"] for tag in described["tags"] if tag["name"] == group)
        yield "\n| call | needs | |\n|---|---|---|"
        rows: dict[tuple[str, str, str], list[str]] = {}
        for _, path, method, operation in members:
            about = " ".join(operation["description"].split("\n\n")[0].split()) + _query(operation)
            rows.setdefault((path, str(permissions[method, path]), about), []).append(method)
        for (path, permission, about), methods in rows.items():
            yield f"| `{' '.join(methods)} {path}` | {permission} | {about} |"


def _query(operation: Mapping[str, Any]) -> str:
    names = [each["name"] for each in operation["parameters"] if each["in"] == "query"]
    own = ", ".join(f"`{name}`" for name in names if name not in EVERY_LIST)
    if {*names} >= EVERY_LIST:
        return f" [A list](#lists) by {own}." if own else " [A list](#lists)."
    return f" Takes {own}." if own else ""


def rules_of_tables() -> str:
    """For docs/architecture.md: the triggers and policies of each table of ours, from migrations/schema.sql."""
    schema = (ROOT / "migrations" / "schema.sql").read_text()
    triggers = re.findall(
        r"^CREATE TRIGGER (\w+?)(?:_(?:insert|update|delete))? \w+ .*? ON (\w+)", schema, re.MULTILINE
    )
    policies = re.findall(r"^CREATE POLICY (\w+) ON (\w+)", schema, re.MULTILINE)
    lines = ["| table | triggers | policies |", "|---|---|---|"]
    for table in re.findall(r"^CREATE TABLE (?!procrastinate_)(\w+)", schema, re.MULTILINE):
        cells = [", ".join(sorted({name for name, of in found if of == table})) for found in (triggers, policies)]
        lines.append(f"| `{table}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def prometheus_rules() -> str:
    """The rules of deploy/prometheus, as Prometheus' operator takes them."""
    files = [(ROOT / "deploy/prometheus" / name).read_text() for name in ("alerts.yml", "objectives.yml")]
    groups = "".join(text.split("\ngroups:\n")[1] for text in files)
    return f"{OPERATOR}{textwrap.indent(groups, '  ')}"


OPERATOR = """\
# Written by `make docs`, from deploy/prometheus.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: crm
spec:
  groups:
"""
# Files of which every line is generated.
WHOLE: dict[str, Callable[[], str]] = {
    ".env.example": env_example,
    "deploy/kubernetes/components/monitoring/rules.yaml": prometheus_rules,
}
# The generated parts of each page: what stands between `<!-- generated: NAME -->` and `<!-- end of NAME -->`.
PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "docs/settings.md": {"settings": settings_tables},
    "docs/api.md": {"types": event_types, "codes": codes, "calls": calls},
    "docs/console.md": {"calls": console_calls},
    "docs/architecture.md": {"imports": diagram, "rules": rules_of_tables},
}


FILES = tuple(ROOT / name for name in (*WHOLE, *PAGES))


@cache
def current() -> dict[Path, str]:
    """Every file with generated parts, as it should be."""
    pages = {ROOT / name: make() for name, make in WHOLE.items()}
    for name, parts in PAGES.items():
        text = (ROOT / name).read_text()
        for part, make in parts.items():
            begin, end = rf"<!-- generated: {part} .*?-->\n", f"<!-- end of {part} -->"
            (found,) = re.findall(f"{begin}.*?{end}", text, re.DOTALL)
            first = found.split("\n", 1)[0]
            text = text.replace(found, f"{first}\n\n{make()}\n\n{end}")
        pages[ROOT / name] = text
    return pages
