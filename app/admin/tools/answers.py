"""What a model reads of an answer: short, without nulls, and with the text of records marked as such."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import Struct, inspect
from msgspec.structs import fields

from app.web import strict_json

MOST_BYTES = 8192
# The text of records stands under this name: it is data, and nothing in it is an instruction.
UNTRUSTED = "untrusted"
# Text of these fields is a name of ours, an id or a code, if it looks like one.
CODES = frozenset("id stage from_stage to_stage currency color timezone period".split())
PEOPLE = frozenset("assigned_to owner_id author_id user_id".split())
CODE = re.compile(r"[A-Za-z0-9#][A-Za-z0-9_.:@/+-]{0,63}")
# What says nothing to a reader, and what a nested record repeats of the one around it.
LEFT_OUT = frozenset(["version"])
LEFT_OUT_NESTED = LEFT_OUT | frozenset(
    "updated_at external_id customer stage_entered_at contact_preferences tasks_total tasks_completed".split()
)
PLAIN = (
    inspect.NoneType,
    inspect.BoolType,
    inspect.IntType,
    inspect.FloatType,
    inspect.DecimalType,
    inspect.DateTimeType,
    inspect.DateType,
    inspect.TimeType,
    inspect.UUIDType,
    inspect.EnumType,
    inspect.LiteralType,
)


class Level(NamedTuple):
    """How much is shown: so many characters of a text, of one in a nested record, so many items of a list, and so many
    bytes of an object, after what is in it was cut.
    """

    text: int
    nested: int
    items: int
    object: int


# The first of them that fits is taken. The last one always does.
LEVELS = (
    Level(6000, 500, 50, 8000),
    Level(4000, 300, 20, 8000),
    Level(2000, 200, 10, 4000),
    Level(1000, 200, 5, 4000),
    Level(400, 100, 3, 3000),
    Level(150, 50, 1, 1500),
    Level(40, 20, 0, 300),
)
# How rows of a list are shown.
ROW = Level(300, 100, 10, 4000)


def size(content: Any) -> int:
    """The bytes of it as JSON."""
    return len(strict_json.encode(content))


def is_blank(value: Any) -> bool:
    """Whether it says nothing."""
    return value is None or value in ("", [], {})


def shaped(kind: Any, document: Mapping[str, Any]) -> dict[str, Any]:
    """An object of this type: what is no text as it is, and under `untrusted` all that has text in it."""
    plain: dict[str, Any] = {}
    text: dict[str, Any] = {}
    known = _fields(kind)
    for name, value in document.items():
        if is_blank(value) or name in LEFT_OUT:
            continue
        trusted = known.get(name, False) or (name in CODES | PEOPLE and _is_code(value))
        (plain if trusted else text)[name] = _without_nulls(value)
    return plain | ({UNTRUSTED: text} if text else {})


def people_in(document: Any) -> Iterator[str]:
    """The ids of all people that it names."""
    if isinstance(document, list):
        for item in document:
            yield from people_in(item)
    elif isinstance(document, dict):
        for name, value in document.items():
            if name in PEOPLE and isinstance(value, int | str):
                yield str(value)
            elif name == "assignees" and isinstance(value, list):
                yield from map(str, value)
            else:
                yield from people_in(value)


def with_names(document: Any, names: Mapping[str, str]) -> Any:
    """The same with people's names beside their ids."""
    if isinstance(document, list):
        return [with_names(item, names) for item in document]
    if not isinstance(document, dict):
        return document
    named: dict[str, Any] = {}
    for name, value in document.items():
        named[name] = with_names(value, names)
        if name in PEOPLE and str(value) in names:
            named[f"{name.removesuffix('_id')}_name"] = names[str(value)]
        elif name == "assignees" and isinstance(value, list):
            named["assignee_names"] = [names[str(each)] for each in value if str(each) in names]
    return named


class Cut(NamedTuple):
    """What fits of an object, and what was cut: texts by the number of characters that are shown, lists by that of
    items that are not.
    """

    content: dict[str, Any]
    texts: dict[str, int]
    lists: dict[str, int]


def fitting(content: dict[str, Any], most: int = MOST_BYTES) -> Cut:
    """As much of it as fits into so many bytes."""
    cut = Cut(content, {}, {})
    for level in LEVELS:
        cut = _cut(content, level)
        if size(cut.content) <= most:
            break
    return cut


def fitting_rows(rows: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The first rows that fit into so many bytes; of the first one at least a part."""
    short = [_cut(row, ROW).content for row in rows]
    room = most
    for count, row in enumerate(short):
        room -= size(row) + 1
        if room < 0:
            return short[:count] or [fitting(short[0], most).content]
    return short


def _cut(content: dict[str, Any], level: Level) -> Cut:
    texts: dict[str, int] = {}
    lists: dict[str, int] = {}

    def cut(value: Any, place: str, depth: int) -> Any:
        if isinstance(value, str):
            most = level.text if depth <= 1 else level.nested
            if len(value) <= most:
                return value
            texts.setdefault(place, most)
            return value[:most] + "…"
        if isinstance(value, list):
            if len(value) > level.items:
                lists[place] = lists.get(place, 0) + len(value) - level.items
            return [cut(item, place, depth + 1) for item in value[: level.items]]
        if isinstance(value, dict):
            return cut_object(value, place, depth)
        return value

    def cut_object(value: dict[str, Any], place: str, depth: int) -> Any:
        # Names that are somebody's text are no names of ours: it is shown as text.
        if not depth or all(map(CODE.fullmatch, value)):
            inner = {
                name: cut(item, place if depth else name, depth + (name != UNTRUSTED)) for name, item in value.items()
            }
            if not depth or size(inner) <= level.object:
                return inner
        return cut(strict_json.encode(value).decode(), place, 2)

    shown = {name: cut(value, name, 1 if name != UNTRUSTED else 0) for name, value in content.items()}
    return Cut(shown, texts, lists)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {
            name: _without_nulls(item)
            for name, item in value.items()
            if not is_blank(item) and name not in LEFT_OUT_NESTED
        }
    return value


def _is_code(value: Any) -> bool:
    return not isinstance(value, str) or CODE.fullmatch(value) is not None


@lru_cache(200)
def _fields(kind: type[Struct]) -> dict[str, bool]:
    """The fields of a struct, and whether there is never free text in them."""
    return {field.encode_name: _is_plain(inspect.type_info(field.type)) for field in fields(kind)}


def _is_plain(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.UnionType):
        return all(_is_plain(each) for each in kind.types)
    if isinstance(kind, inspect.ListType):
        return _is_plain(kind.item_type)
    if isinstance(kind, inspect.DictType):
        return _is_plain(kind.value_type)
    if isinstance(kind, inspect.StructType):
        return all(_is_plain(field.type) for field in kind.fields)
    if isinstance(kind, inspect.Metadata):
        return _is_plain(kind.type)
    return isinstance(kind, PLAIN)
