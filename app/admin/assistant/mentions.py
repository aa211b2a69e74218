"""Which records a conversation is about, so that an erasure finds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from app.records.resources import RESOURCES

KINDS = {each.kind for each in RESOURCES}
# Fields whose objects are of a kind: `customer`, and `customers` for several.
NAMED = {kind: kind for kind in KINDS} | {str(each.table.name): each.kind for each in RESOURCES}


def mentioned(arguments: Mapping[str, Any], content: Any) -> list[str]:
    """What a call and its result are about, each as 'customer:12': rather too many than one too few."""
    kinds = _kind(arguments)
    found = {*_in(dict(arguments), kinds), *_in(content, kinds)}
    return sorted(f"{kind}:{record_id}" for kind, record_id in found)


def _kind(document: Mapping[str, Any]) -> frozenset[str]:
    named = document.get("type")
    return frozenset([named]) if isinstance(named, str) and named in KINDS else frozenset()


def _in(value: Any, kinds: frozenset[str]) -> Iterator[tuple[str, int]]:
    if isinstance(value, list):
        for item in value:
            yield from _in(item, kinds)
    if not isinstance(value, dict):
        return
    # An activity has a type that may be called like a record.
    kinds = kinds | _kind(value)
    for name, item in value.items():
        kind = name.removesuffix("_id")
        if isinstance(item, int):
            if name == "id":
                yield from ((each, item) for each in kinds or KINDS)
            elif name in {"into", "from"}:
                yield "customer", item
            elif kind != name and kind in KINDS:
                yield kind, item
        elif name in NAMED:
            yield from _in(item, frozenset([NAMED[name]]))
        else:
            yield from _in(item, kinds)
