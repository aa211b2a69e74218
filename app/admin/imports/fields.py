"""What a column of an import may be: the fields of the API's own bodies, and names in place of ids."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from types import NoneType
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from msgspec.structs import fields

from app.admin.imports.kinds import KINDS
from app.admin.imports.schemas import ImportKind


class Reading(StrEnum):
    """How a cell is read."""

    TEXT = "text"
    LINE = "line"
    PHONE = "phone"
    WEBSITE = "website"
    CHOICE = "choice"
    FLAG = "flag"
    INTEGER = "integer"
    NUMBER = "number"
    TIME = "time"
    OBJECT = "object"
    NAMES = "names"


class Field(NamedTuple):
    """How the cells of a column are read, and the values that it may have."""

    reading: Reading
    choices: tuple[str, ...] = ()


# What a file says and no body does, beside `id`, which finds the record, and the names of what a record belongs to. A
# contact's `name` is both names in one.
MORE: Mapping[ImportKind, Mapping[str, Field]] = {
    ImportKind.CUSTOMERS: {
        "tags": Field(Reading.NAMES),
        "first_name": Field(Reading.LINE),
        "last_name": Field(Reading.LINE),
    },
    ImportKind.CONTACTS: {"name": Field(Reading.LINE)},
}
# These may be named instead of referred to by id: by an external_id, an email or a name.
NAMED = ("customer", "deal", "project", "contact")
# These hold more than one line.
LONG = {"notes", "description", "outcome", "content"}
SPECIAL = {"phone": Reading.PHONE, "website": Reading.WEBSITE}


@cache
def fields_of(kind: ImportKind) -> Mapping[str, Field]:
    """The fields that a column may become, by name, in the order of the body."""
    known = {field.encode_name: _field(field.encode_name, field.type) for field in fields(KINDS[kind].create)}
    named = {name: Field(Reading.LINE) for name in NAMED if f"{name}_id" in known}
    return {"id": Field(Reading.INTEGER), **known, **named, **MORE.get(kind, {})}


def _field(name: str, kind: Any) -> Field:
    leaves = _leaves(kind)
    for leaf in leaves:
        if isinstance(leaf, type) and issubclass(leaf, StrEnum):
            return Field(Reading.CHOICE, tuple(member.value for member in leaf))
    plain = {get_origin(leaf) or leaf for leaf in leaves}
    if dict in plain:
        return Field(Reading.OBJECT)
    if list in plain:
        return Field(Reading.NAMES)
    by_type = {bool: Reading.FLAG, datetime: Reading.TIME, Decimal: Reading.NUMBER}
    for leaf, reading in by_type.items():
        if leaf in leaves:
            return Field(reading)
    if int in leaves and str not in leaves:
        return Field(Reading.INTEGER)
    return Field(SPECIAL.get(name) or (Reading.TEXT if name in LONG else Reading.LINE))


def _leaves(kind: Any) -> set[Any]:
    """The types that a field's type is a union of, without what only describes them."""
    if get_origin(kind) is Annotated:
        return _leaves(get_args(kind)[0])
    if get_origin(kind) in {dict, list} or not get_args(kind):
        return {kind}
    return {leaf for argument in get_args(kind) if argument is not NoneType for leaf in _leaves(argument)}
