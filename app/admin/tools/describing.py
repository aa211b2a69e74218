"""What can be written of a kind of record and asked for, in short words: from the schemas of the routes themselves."""

from __future__ import annotations

from functools import cache
from typing import Any

from app.admin.tools.arguments import schema_of
from app.admin.tools.kinds import Kind
from app.web.paging import NOT_FILTERS


@cache
def description_of(name: str, kind: Kind) -> dict[str, Any]:
    """Its fields with their rules, the filters and the sorts of its list."""
    described: dict[str, Any] = {"type": name, "about": about(kind)}
    if kind.create is not None:
        form = schema_of(kind.create)
        required = list(form.get("required", []))
        if kind.made_at is not None:
            required.append(kind.made_at.partition("{")[2].partition("}")[0])
        described |= {
            "fields": {field: rule(schema) for field, schema in form["properties"].items()},
            "required_to_create": required,
        }
    if kind.query is not None:
        asked = schema_of(kind.query)["properties"]
        described |= {
            "filters": {field: rule(schema) for field, schema in asked.items() if field not in NOT_FILTERS},
            "sorts": asked["sort_by"].get("enum") or [],
        }
    return described


def about(kind: Kind) -> str:
    """What a kind of record is, in one line."""
    return " ".join((kind.view.__doc__ or "").split())


def rule(schema: dict[str, Any]) -> str:
    """What a field takes, in words."""
    said = _kind_of(schema)
    more = schema.get("description")
    return f"{said}. {more}" if more and more not in said else said


def _kind_of(schema: dict[str, Any]) -> str:
    options = [each for each in schema.get("anyOf", []) if each.get("type") != "null"]
    empties = len(schema.get("anyOf", [])) > len(options)
    if "enum" in schema:
        said = "one of " + ", ".join(map(str, schema["enum"]))
    elif schema.get("type") == "array":
        said = f"one or several: {_kind_of(schema['items'])}"
    elif options and "type" not in schema:
        said = " or ".join(dict.fromkeys(rule(each) for each in options))
    else:
        said = _plain(schema)
    return f"{said}, or null" if empties else said


def _plain(schema: dict[str, Any]) -> str:
    names = {"string": "text", "boolean": "true or false", "integer": "whole number", "object": "JSON object"}
    said: str = names.get(schema.get("type", ""), schema.get("type", "any value"))
    least, most = schema.get("minimum"), schema.get("maximum")
    if "maxLength" in schema:
        said += f", at most {schema['maxLength']} characters"
    elif least is not None and most is not None and most < 2**31:
        said += f" from {least} to {most}"
    return said
