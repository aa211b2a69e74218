"""Reading a row of a file: from its cells to a body of the API, as JSON has it. Whether that is right, the API's own
rules say: here only what a cell means is found out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import DecodeError, Struct, json

from app.admin.imports.dates import DateOrder, read_date
from app.admin.imports.fields import Field, Reading, fields_of
from app.admin.imports.schemas import ImportKind
from app.files.unpacked import Column
from app.web.errors import AppError, Code, Fault, invalid
from app.web.fields import Refused

YES = {"true", "yes", "y", "1", "x", "on", "t", "ja", "oui", "si", "sí", "wahr", "vrai", "done", "✓", "✔"}
NO = {"false", "no", "n", "0", "off", "f", "nein", "non", "falsch", "faux", "-"}
AROUND_NUMBERS = re.compile(r"^(?:[A-Z]{3}(?=[\s\d+-])|[\s$€£¥₹])+|(?:(?<=[\s\d])[A-Z]{3}|[\s$€£¥₹%])+$")
MINUS = re.compile(r"^\((.+)\)$|^[-\u2212\u2013](.+)$|^(.+)-$")
GROUPS = {
    ".": re.compile(r"(\d+|\d{1,3}(?:[,'\u2019 \u00a0\u202f]\d{3})+)?(\.\d+)?"),
    ",": re.compile(r"(\d+|\d{1,3}(?:[.'\u2019 \u00a0\u202f]\d{3})+)?(,\d+)?"),
}
DOMAIN = re.compile(r"(?!.*@)[^\s/:.]+(\.[^\s/:.]+)+(:\d+)?(/\S*)?")
# Other signs than these may say more than a number, such as an extension.
NATIONAL = re.compile(r"(?!00)[\d ()/.-]+")
# Longer cells are refused before a pattern is tried on them.
LONGEST_NUMBER, LONGEST_ADDRESS, LONGEST_NAMES = 60, 255, 10_000
MOST_EXAMPLES = 3
LONGEST_SHOWN = 200

Reader = Callable[[str], Any]


class DecimalSign(StrEnum):
    """What stands before the decimals of a number."""

    POINT = "."
    COMMA = ","


class Problem(Struct):
    """What is wrong in a row. Without a column it is about the whole row."""

    column: str | None
    field: str | None
    value: str | None
    message: str


class ColumnPlan(NamedTuple):
    """A column that is imported: where it is, its name, its field, and how its cells are read."""

    place: int
    name: str
    field: str
    read: Reader


class Manner(NamedTuple):
    """How people wrote the values: their dates, numbers and phone numbers. `values` has what some mean, by field."""

    zone: ZoneInfo
    date_order: DateOrder | None = None
    decimal: DecimalSign | None = None
    country: str | None = None
    values: Mapping[str, Mapping[str, Any]] = {}


class Plan(NamedTuple):
    """How the rows of a file are read."""

    kind: ImportKind
    columns: list[ColumnPlan]
    manner: Manner

    def column_of(self, field: str) -> ColumnPlan | None:
        """The column that a field comes from."""
        return next((column for column in self.columns if column.field == field), None)


def plan_of(kind: ImportKind, columns: Sequence[Column], mapping: Mapping[str, str | None], manner: Manner) -> Plan:
    """How rows are read with this mapping of columns to fields; a column that it leaves out is not imported.

    Raises AppError INVALID_REQUEST for a name that is not known, and AMBIGUOUS_DATES.
    """
    if faults := mapping_faults(kind, columns, mapping, manner.values):
        raise invalid(*faults)
    known, places = fields_of(kind), {column.name: place for place, column in enumerate(columns)}
    chosen = {name: field for name, field in mapping.items() if field is not None}
    used = [(columns[places[name]], known[field]) for name, field in chosen.items()]
    manner = manner._replace(date_order=date_order_of(used, manner), decimal=decimal_of(used, manner))
    plans = (
        ColumnPlan(places[name], name, field, _reader(field, known[field], manner)) for name, field in chosen.items()
    )
    return Plan(kind, sorted(plans), manner)


def mapping_faults(
    kind: ImportKind, columns: Sequence[Column], mapping: Mapping[str, str | None], values: Iterable[str]
) -> list[Fault]:
    """What is wrong with a mapping, and with the fields that have a table of values."""
    known, places = fields_of(kind), {column.name for column in columns}
    chosen = {name: field for name, field in mapping.items() if field is not None}
    faults = [Fault(f"mapping.{name}", "is not a column of this file") for name in mapping if name not in places]
    seen: dict[str, str] = {}
    for name, field in chosen.items():
        if field not in known:
            faults.append(Fault(f"mapping.{name}", f"must be one of {', '.join(known)}, or null"))
        elif field in seen:
            faults.append(Fault(f"mapping.{name}", f"{field} is the field of the column {seen[field]} already"))
        seen.setdefault(field, name)
    faults += [Fault(f"options.values.{field}", "is not a field") for field in values if field not in known]
    if not faults and not chosen:
        faults.append(Fault("mapping", "must have a field for at least one column"))
    return faults


def read_row(cells: Sequence[str | None], plan: Plan) -> tuple[dict[str, Any], list[Problem]]:
    """The fields that a row has a value for, as JSON, and what could not be read. A blank cell says nothing.

    Beside the fields of the body there may be those of `app.admin.imports.fields.MORE`, and `id`; `tags`, a list of
    names; `customer`, `contact`, `deal` and `project`, texts.
    """
    document: dict[str, Any] = {}
    problems: list[Problem] = []
    for place, name, field, read in plan.columns:
        cell = cells[place] if place < len(cells) else None
        if cell is None or not cell.strip():
            continue
        try:
            value = read(cell)
        except Refused as refusal:
            problems.append(Problem(name, field, cell.strip()[:LONGEST_SHOWN], str(refusal)))
            continue
        if value is not None:
            document[field] = value
    if plan.kind is ImportKind.CUSTOMERS:
        _join_names(document)
    elif plan.kind is ImportKind.CONTACTS:
        _split_name(document)
    return document, problems


def date_order_of(used: Iterable[tuple[Column, Field]], manner: Manner) -> DateOrder | None:
    """The order in which dates are written: as said, or else as the file's dates prove; None if none of them needs it.

    Raises AppError AMBIGUOUS_DATES.
    """
    if manner.date_order is not None:
        return manner.date_order
    columns = [column for column, field in used if field.reading is Reading.TIME]
    proved = {order for column in columns for order in column.orders}
    unclear = [{"column": column.name, "value": value} for column in columns for value in column.unclear]
    if len(proved) == 1:
        return DateOrder(proved.pop())
    if proved:
        message = f"The dates of this file are written in several ways ({', '.join(sorted(proved))}): {{}}"
        hint = "say with date_order which one counts; the others become errors of their rows"
        raise AppError(Code.AMBIGUOUS_DATES, message.format(hint), data={"examples": unclear[:MOST_EXAMPLES]})
    if unclear:
        raise AppError(Code.AMBIGUOUS_DATES, data={"examples": unclear[:MOST_EXAMPLES]})
    return None


def decimal_of(used: Iterable[tuple[Column, Field]], manner: Manner) -> DecimalSign | None:
    """The decimal sign: as said, or else as the file's numbers prove; None if they don't: then it is a point."""
    if manner.decimal is not None:
        return manner.decimal
    numbers = [column for column, field in used if field.reading in {Reading.NUMBER, Reading.INTEGER}]
    proved = {sign for column in numbers for sign in column.decimals}
    return DecimalSign(proved.pop()) if len(proved) == 1 else None


def _reader(name: str, field: Field, manner: Manner) -> Reader:
    sign = manner.decimal or DecimalSign.POINT
    read: Reader
    match field.reading:
        case Reading.LINE | Reading.TEXT:
            read = str
        case Reading.PHONE:
            read = partial(read_phone, country=manner.country) if manner.country else str
        case Reading.WEBSITE:
            read = read_website
        case Reading.CHOICE:
            read = partial(read_choice, choices={_alike(choice): choice for choice in field.choices})
        case Reading.FLAG:
            read = read_flag
        case Reading.INTEGER:
            read = partial(read_integer, sign=sign)
        case Reading.NUMBER:
            read = partial(read_number, sign=sign)
        case Reading.TIME:
            read = partial(read_date, order=manner.date_order, zone=manner.zone)
        case Reading.OBJECT:
            read = read_object
        case Reading.NAMES:
            read = read_names
    if table := manner.values.get(name):
        alike = {_alike(key): value for key, value in table.items()}
        translate = partial(_translated, exact=table, alike=alike)
        if field.reading is Reading.NAMES:
            read = partial(_names_translated, translate=partial(translate, read=str))
        else:
            read = partial(translate, read=read)
    # Texts of several lines, and keys, stay as they are.
    exact = field.reading is Reading.TEXT or name == "external_id"
    return read if exact else lambda cell: read(cell.strip())


def _translated(cell: str, exact: Mapping[str, Any], alike: Mapping[str, Any], read: Reader) -> Any:
    key = _alike(cell)
    if cell not in exact and key not in alike:
        return read(cell)
    meant = exact[cell] if cell in exact else alike[key]
    return read(meant) if isinstance(meant, str) else meant


def _names_translated(cell: str, translate: Reader) -> list[str]:
    """The same for each name in a cell of several."""
    return list(dict.fromkeys(meant for name in read_names(cell) if (meant := translate(name)) is not None))


def _alike(text: str) -> str:
    return re.sub(r"[\s_-]+", "_", text.strip().casefold())


def read_choice(cell: str, choices: Mapping[str, str]) -> str:
    """One of several words, however it is spelled: `In Active` is inactive nowhere, `Closed Won` is closed_won. What is
    none of them stays, for the API to say so.
    """
    return choices.get(_alike(cell), cell)


def read_flag(cell: str) -> bool:
    """Yes or no. Raises Refused."""
    word = cell.casefold()
    if word in YES:
        return True
    if word in NO:
        return False
    raise Refused("must be yes or no, true or false, 1 or 0")


def read_number(cell: str, sign: DecimalSign) -> Decimal:
    """A number, with its currency or without, with marks between its thousands or without. Raises Refused."""
    text = AROUND_NUMBERS.sub("", cell) if len(cell) <= LONGEST_NUMBER else ""
    negative = MINUS.match(text)
    if negative:
        text = AROUND_NUMBERS.sub("", next(filter(None, negative.groups())).strip())
    found = GROUPS[sign].fullmatch(text)
    if not found or not text:
        raise Refused(
            f"must be a number with {sign.value!r} before its decimals: if this file has another sign, set decimal"
        )
    whole, part = found[1] or "0", (found[2] or "")[1:]
    number = Decimal(re.sub(r"\D", "", whole) + (f".{part}" if part else ""))
    return -number if negative else number


def read_integer(cell: str, sign: DecimalSign) -> int:
    """A whole number. Raises Refused."""
    number = read_number(cell, sign)
    if number != number.to_integral_value():
        raise Refused("must be a whole number")
    return int(number)


def read_phone(cell: str, country: str) -> str:
    """A number of this country with its code, such as +49 30 123456. One that has a code stays; so does other text, and
    what can't be a whole number of this country.
    """
    if len(cell) > LONGEST_NUMBER or not NATIONAL.fullmatch(cell):
        return cell
    # Inside the function, because the library knows all numbers of the world, and takes 10 MB.
    import phonenumbers

    try:
        number = phonenumbers.parse(cell, country)
    except phonenumbers.NumberParseException:
        return cell
    if not phonenumbers.is_valid_number(number):
        return cell
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def read_website(cell: str) -> str:
    """A web address; one without https:// gets it."""
    return f"https://{cell}" if len(cell) <= LONGEST_ADDRESS and DOMAIN.fullmatch(cell) else cell


def read_object(cell: str) -> dict[str, Any]:
    """A JSON object. Raises Refused."""
    try:
        found = json.decode(cell.encode())
    except (DecodeError, UnicodeEncodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refused("must be a JSON object")
    return found


def read_names(cell: str) -> list[str]:
    """Names apart by semicolons; one that has a semicolon is in double quotes. Raises Refused."""
    if len(cell) > LONGEST_NAMES:
        raise Refused(f"must have at most {LONGEST_NAMES} characters")
    names: list[str] = []
    rest = cell.replace(" ::: ", ";")
    while rest := rest.strip().removeprefix(";").strip():
        if rest.startswith('"') and (quoted := re.match(r'"((?:[^"]|"")*)"\s*(?:;|$)', rest)):
            name, rest = quoted[1].replace('""', '"'), rest[quoted.end() :]
        else:
            name, _, rest = rest.partition(";")
        # Google's own group of all contacts.
        if (name := name.strip()) and name != "* myContacts" and name not in names:
            names.append(name)
    return names


def _join_names(document: dict[str, Any]) -> None:
    """A customer's name of a first and a last name, where it has none."""
    parts = [document.pop(name, None) for name in ("first_name", "last_name")]
    if any(parts):
        document.setdefault("name", " ".join(filter(None, parts)))


def _split_name(document: dict[str, Any]) -> None:
    """A contact's first and last name of a whole one, where it has neither."""
    whole = document.pop("name", None)
    if whole is None or "first_name" in document or "last_name" in document:
        return
    last, comma, first = whole.partition(",")
    if not comma:
        first, _, last = whole.rpartition(" ")
        first, last = first or last, last if first else ""
    names = {"first_name": first.strip(), "last_name": last.strip()}
    document |= {name: value for name, value in names.items() if value}
