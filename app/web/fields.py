"""Reading one field of a query or a body: its value in the declared type, or a fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from types import NoneType
from typing import Annotated, Any, get_args, get_origin
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType, ValidationError, convert, inspect

from app.web.errors import Code, Fault, Faults

BARE_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
ZONELESS = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?")
NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")
INTEGER = re.compile(r"-?[0-9]{1,19}")
EXPECTED = re.compile(
    r"Expected `(?P<kind>.+?)`(?: of length (?P<length>.+?))?(?: matching regex (?P<pattern>.+?))?"
    r"(?P<bound> [<>]=? .+?)?(?:, got `(?P<got>.+)`)?"
)
# A step on the way into a value, as msgspec names it: `.field`, `[0]`, or of an object with any names `[...]`.
STEP = re.compile(r"\.\w+|\[[0-9.]+\]")
NO_CHOICE = "Invalid enum value"
PLAIN_NAMES = {
    "datetime": "a time",
    "str": "text",
    "int": "an integer",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "decimal": "a number",
    "float": "a number",
}
# What people are told in place of these patterns.
TIME_OF_DAY, COLOR = "^([01][0-9]|2[0-3]):[0-5][0-9]$", "^#[0-9a-fA-F]{6}$"
SHAPES = {TIME_OF_DAY: "HH:MM, such as 08:30", COLOR: "#rrggbb, such as #6366f1"}

# Limits of one filter.
MAX_VALUES = 1000
MAX_LIST_LENGTH = 16_384
Reader = Callable[[Any], Any]


class BareDate(datetime):
    """Midnight UTC that was sent as a date without a time."""


class Refused(ValueError):
    """A value is not valid. `code` takes the place of INVALID_REQUEST if this is the only fault."""

    def __init__(self, message: str, code: Code | None = None) -> None:
        super().__init__(message)
        self.code = code


def parameter_reader(kind: Any, *, empty_is_absent: bool = True) -> Reader:
    """The reader of a query parameter, which comes as text. A list is comma-separated."""
    plain = _plain(kind)
    extras = dict(_extras(kind))
    if get_origin(plain) is list:
        read_item = parameter_reader(get_args(plain)[0], empty_is_absent=False)
        keep = extras.get("keep_quoted", frozenset())

        def read_list(text: str) -> Any:
            values = split_values(text, keep) if len(text) <= MAX_LIST_LENGTH else []
            if len(text) > MAX_LIST_LENGTH or len(values) > MAX_VALUES:
                raise Refused(f"must have at most {MAX_VALUES} values and {MAX_LIST_LENGTH} characters")
            return [read_item(value) for value in values] or UNSET

        return read_list
    clean, check = extras.get("clean"), extras.get("check")
    choices = _choices(kind)

    def read(text: str) -> Any:
        if clean is not None:
            text = clean(text)
            if not text and empty_is_absent:
                return UNSET
        if plain is bool and text not in {"true", "false"}:
            raise Refused("must be true or false")
        if plain is int and not INTEGER.fullmatch(text):
            raise Refused("must be an integer")
        if plain is Decimal and not NUMBER.fullmatch(text):
            raise Refused("must be a number")
        result = _convert(text, kind, choices, strict=False)
        return result if check is None else check(result)

    return read


def filter_reader(kind: Any) -> Reader:
    """The reader of a query parameter that comes as parsed JSON: it means the same, except that an empty one is refused
    and does not count as absent.
    """
    read = parameter_reader(kind)
    several = get_origin(_plain(kind)) is list

    def read_filter(value: Any) -> Any:
        text = as_parameter(value) if several else _as_text(value)
        result = read(text) if text else UNSET
        if result is UNSET:
            raise Refused("must not be empty: leave it out if anything will do")
        return result

    return read_filter


def field_reader(kind: Any) -> Reader:
    """The reader of a body's field, which comes as parsed JSON. The type's Meta may hold in `extra`:

    - `clean`: a function that prepares each text before its length is checked. Empty text becomes null if that is
      allowed.
    - `check`: a function that gets each valid value and returns the one to use, or raises Refused.
    - `assume_utc`: a time without an offset is read as UTC.
    - `choice`: the text is one of several, so that empty text means that the field was left out.
    """
    leaves = _leaves(kind)
    is_time, is_number, is_optional = datetime in leaves, Decimal in leaves, NoneType in leaves
    choices = _choices(kind)
    extras = dict(_extras(kind))
    clean, check = extras.get("clean"), extras.get("check")
    assume_utc = "assume_utc" in extras

    def read(value: Any) -> Any:
        if clean is not None and isinstance(value, str):
            value = clean(value) or (None if is_optional else "")
        if is_time and isinstance(value, str):
            return read_time(
                f"{value}{':00' * (len(value) == 16)}Z" if assume_utc and ZONELESS.fullmatch(value) else value
            )
        if is_number and isinstance(value, str):  # msgspec would accept it
            raise Refused("must be a number")
        result = _convert(value, kind, choices)
        return result if check is None or result is None else check(result)

    return read


def is_optional_text(kind: Any) -> bool:
    """Whether empty text in this field of a body means null."""
    return NoneType in _leaves(kind) and "clean" in dict(_extras(kind))


def is_choice(kind: Any) -> bool:
    """Whether empty text in this field of a body means that the field was left out: for an enumeration, and for other
    types with `choice` in their Meta.
    """
    return bool(_choices(kind)) or "choice" in dict(_extras(kind))


def split_values(text: str, keep_quoted: frozenset[str] = frozenset()) -> list[str]:
    """The comma-separated values, without blanks around them and without empty ones. A value in double quotes is taken
    literally; a quote inside is doubled. The words in `keep_quoted`, and values that begin with a quote, keep their
    quotes, so that `"me"` differs from `me`. Raises Refused.
    """
    parts = text.split('"')
    last = len(parts) - 1
    misplaced = Refused("has a misplaced double quote: put quotes around the whole value, and double those inside")
    if last % 2:
        raise misplaced
    values: list[str] = []
    quoted: str | None = None
    for place, part in enumerate(parts):
        if place % 2:
            quoted = part if quoted is None else f'{quoted}"{part}'
        elif part or quoted is None or place == last:  # else two quotes in a row, which mean one
            plain = part.split(",")
            if quoted is not None:
                if plain.pop(0).strip():
                    raise misplaced
                values.append(f'"{quoted}"' if quoted in keep_quoted or quoted.startswith('"') else quoted)
                quoted = None
            if place < last and (not plain or plain[-1].strip()):
                raise misplaced
            values += [value for each in plain if (value := each.strip())]
    return values


def as_parameter(value: Any) -> str:
    """A JSON value, or a list of some, as a query has it. Raises Refused."""
    if isinstance(value, list):
        return ",".join(_quoted(_as_text(item)) for item in value)
    return _as_text(value, or_list=True)


def _as_text(value: Any, *, or_list: bool = False) -> str:
    """A JSON value as a query has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, str):
        return value
    raise Refused("must be text, a number, or true or false" + (", or a list of these" if or_list else ""))


def _quoted(text: str) -> str:
    """One of several comma-separated values."""
    plain = text and text == text.strip() and not {",", '"'} & set(text)
    return text if plain else '"' + text.replace('"', '""') + '"'


def _spelled(choice: str) -> str:
    """A choice in a sentence: a sign needs marks around it."""
    return choice if any(map(str.isalnum, choice)) else f'"{choice}"'


def _choices(kind: Any) -> list[str]:
    kinds = [leaf for leaf in _leaves(kind) if isinstance(leaf, type) and issubclass(leaf, StrEnum)]
    return [member.value for enumeration in kinds for member in enumeration]


def _convert(value: Any, kind: Any, choices: list[str], *, strict: bool = True) -> Any:
    try:
        return convert(value, kind, strict=strict)
    except ValidationError as error:
        if choices:
            raise Refused(f"must be one of {', '.join(map(_spelled, choices))}") from None
        if kind is UUID:
            raise Refused("must be a UUID") from None
        if inner := _choices_at(kind, _place(error)):
            raise Refused(f"{_in_words(_place(error))} must be one of {', '.join(map(_spelled, inner))}") from None
        raise


def _place(error: ValidationError) -> list[str]:
    """Where inside a value an error is."""
    _, _, path = str(error).partition(" - at ")
    return STEP.findall(path.strip("`"))


def _in_words(place: Sequence[str]) -> str:
    return " ".join(
        step[1:] if step.startswith(".") else f"item {int(number) + 1}" if (number := step[1:-1]).isdigit() else "value"
        for step in place
    )


def _choices_at(kind: Any, place: Sequence[str]) -> list[str]:
    """The values of the enumeration at a place inside a type, if there is one."""
    found = list(_inner(inspect.type_info(kind))) if place else []
    for step in place:
        structs = [each for each in found if isinstance(each, inspect.StructType)]
        within = [field.type for each in structs for field in each.fields if f".{field.encode_name}" == step]
        if not step.startswith("."):
            within = [each.item_type for each in found if isinstance(each, inspect.ListType)]
        found = [inner for each in within for inner in _inner(each)]
    return [member.value for each in found if isinstance(each, inspect.EnumType) for member in each.cls]


def _inner(kind: inspect.Type) -> Iterator[inspect.Type]:
    """The types that a type stands for."""
    if isinstance(kind, inspect.UnionType):
        for each in kind.types:
            yield from _inner(each)
    elif isinstance(kind, inspect.Metadata):
        yield from _inner(kind.type)
    else:
        yield kind


def read_time(text: str) -> datetime:
    """RFC 3339 with an offset, or a bare date for midnight UTC, in the years 0002 to 9999. Raises Refused."""
    try:
        if BARE_DATE.fullmatch(text):
            day = date.fromisoformat(text)
            moment: datetime | None = BareDate(day.year, day.month, day.day, tzinfo=UTC)
        else:
            moment = convert(text, Annotated[datetime, Meta(tz=True)]).astimezone(UTC)
    except (ValueError, OverflowError):  # msgspec's ValidationError is a ValueError
        moment = None
    # Not year 1: in a timezone west of Greenwich, its first hours are before the calendar begins.
    if moment is None or moment.year == 1:
        raise Refused("must be a date, or a time with an offset such as 2026-01-31T09:30:00Z")
    return moment


def read_into(values: dict[str, Any], faults: Faults, *, name: str, field: str, value: Any, reader: Reader) -> None:
    """Store the value under `field`, or a fault under the client's `name` for it."""
    try:
        values[field] = reader(value)
    except Refused as refused:
        faults.append(Fault(name, str(refused), refused.code))
    except ValidationError as error:
        faults.append(Fault(name, _in_plain_words(error)))


def _in_plain_words(error: ValidationError) -> str:
    """Msgspec's message in the words of JSON."""
    text = str(error).partition(" - at ")[0]
    if expected := EXPECTED.fullmatch(text):
        names = [PLAIN_NAMES.get(name.strip(), name.strip()) for name in expected["kind"].split("|")]
        text = "must be " + " or ".join(names)
        if expected["length"]:
            text += f" of length {expected['length']}"
        if expected["pattern"]:
            shape = SHAPES.get(expected["pattern"].strip("'"))
            text += f" like {shape}" if shape else f" that matches {expected['pattern']}"
        text += expected["bound"] or ""
        if expected["got"]:
            text += f", not {PLAIN_NAMES.get(expected['got'], expected['got'])}"
    elif text.startswith(NO_CHOICE):
        text = f"{text.removeprefix(NO_CHOICE).strip()} is none of the values that it may have"
    else:
        text = text[:1].lower() + text[1:]
    return " ".join(filter(None, (_in_words(_place(error)), text.replace("`", ""))))


def _plain(kind: Any) -> Any:
    """The type without Annotated and UNSET."""
    while True:
        arguments = get_args(kind)
        if get_origin(kind) is Annotated:
            kind = arguments[0]
        elif UnsetType in arguments:
            (kind,) = (argument for argument in arguments if argument is not UnsetType)
        else:
            return kind


def _leaves(kind: Any) -> set[Any]:
    arguments = get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind)
    return {leaf for argument in arguments for leaf in _leaves(argument)} or {kind}


def _extras(kind: Any) -> Iterator[tuple[str, Any]]:
    """The contents of `extra` in all Metas of a type and its parts."""
    for argument in get_args(kind):
        if isinstance(argument, Meta):
            yield from (argument.extra or {}).items()
        else:
            yield from _extras(argument)
