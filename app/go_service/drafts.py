"""A row of the Go service on its way to becoming a record: each value goes where it fits.

What fits nowhere is kept as text in the record's longest field, and what is too long for that goes on in notes of the
record. Everything that is not as it was is said.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

from msgspec import ValidationError, structs

from app.admin.activities.schemas import ActivityChange
from app.admin.contacts.schemas import ContactChange
from app.admin.customers.schemas import CustomerChange
from app.admin.deals.schemas import DealChange
from app.admin.notes.schemas import NoteChange
from app.admin.tags.schemas import TagChange
from app.web import fields, strict_json
from app.web.fields import Reader, Refused, field_reader
from app.web.structs import Body, is_user_id
from app.web.text import CONTROL, MAX_MARKS, WHITE_SPACE, is_visible, normalized

HEADING = "From the Go service:"
# In each kind of record: the field that takes what fits nowhere else, and its limit.
LONGEST = {
    "customers": ("notes", 10_000),
    "contacts": ("notes", 10_000),
    "deals": ("description", 10_000),
    "activities": ("description", 10_000),
    "notes": ("content", 20_000),
}
NOTE_LIMIT = 20_000
BODIES: dict[str, type[Body]] = {
    "tags": TagChange,
    "customers": CustomerChange,
    "contacts": ContactChange,
    "deals": DealChange,
    "activities": ActivityChange,
    "notes": NoteChange,
}
# What the API itself takes in each field decides what can be kept there.
READERS: dict[str, dict[str, Reader]] = {
    table: {field.encode_name: field_reader(field.type) for field in structs.fields(body)}
    for table, body in BODIES.items()
}
# How Go writes that there is no time.
NO_TIME = re.compile(r"0001-01-01T00:00:00(\.0+)?(Z|\+00:00)?")
OFFSET = re.compile(r"(Z|[+-]\d{2}:?\d{2})$")
# A note can't be without an author.
NOBODY = "nobody"
EMPTY_NOTE = dict.fromkeys(
    ("content", "customer_id", "deal_id", "activity_id", "author_id", "author_name", "external_id")
)
NO_ALIASES: Mapping[str, str] = MappingProxyType({})
HANDLED = frozenset({"id", "tenant_id", "deleted_at"})


class Problem(NamedTuple):
    """A value that does not come over as it was, and what became of it."""

    table: str
    id: int
    field: str
    value: str
    done: str


class Record(NamedTuple):
    """What is stored of a row: its values, notes for what is too long, and what is different now."""

    table: str
    id: int
    values: dict[str, Any]
    notes: list[dict[str, Any]]
    problems: list[Problem]


class Draft:
    """One row, whose values are taken one by one."""

    def __init__(self, table: str, row_id: int, row: Mapping[str, Any]) -> None:
        self.table = table
        self.id = row_id
        self.problems: list[Problem] = []
        self.values: dict[str, Any] = {}
        self._row = {name: value for name, value in row.items() if name not in HANDLED}
        self._readers = READERS.get(table, {})
        self._kept: list[str] = []
        self._rest: list[tuple[str, str]] = []

    def take(self, name: str) -> Any:
        """The value of a column, which counts as handled now; empty text is None."""
        value = self._row.pop(name, None)
        return None if value == "" else value

    def say(self, field: str, value: object, done: str) -> None:
        """List a value that is different now."""
        self.problems.append(Problem(self.table, self.id, field, _as_text(value), done))

    def keep(self, field: str, value: object, why: str) -> None:
        """List a value that does not fit into its field, and keep it as text where the record has room."""
        longest = LONGEST.get(self.table)
        self.say(field, value, why if longest is None else f"{why}; kept in {longest[0]}")
        self._kept.append(f"{field}: {_normal(_as_text(value))}")

    def read(self, field: str, value: object) -> Any:
        """The value as the API reads it in this field. None, and kept as text, if the API would refuse it."""
        if value is None:
            return None
        try:
            return self._readers[field](value)
        except (Refused, ValidationError):
            self.keep(field, value, "is not valid")
            return None

    def line(self, field: str, most: int) -> str | None:
        """Text of one line."""
        raw = self.take(field)
        if raw is None:
            return None
        text = _normal(_as_text(raw))
        cleaned = CONTROL.sub(" ", text.strip(WHITE_SPACE)).strip(WHITE_SPACE)
        if cleaned != text.strip(WHITE_SPACE):
            self.say(field, raw, "has control characters: they are blanks now")
        if not is_visible(cleaned):
            return None
        if len(cleaned) > most:
            self.keep(field, cleaned, f"is longer than {most} characters: cut")
            return cleaned[:most].strip(WHITE_SPACE)
        return cleaned

    def name(self, field: str, most: int, instead: str) -> str:
        """Text of one line that a record can't be without."""
        raw = self._row.get(field)
        found = self.line(field, most)
        if found is None:
            self.say(field, raw, f"is blank: “{instead}” now")
        return found or instead

    def text(self, field: str, most: int) -> str | None:
        """Text of any length: what is longer goes on in notes."""
        raw = self.take(field)
        if raw is None:
            return None
        text = _normal(_as_text(raw))
        if not is_visible(text):
            return None
        if len(text) > most:
            self.say(field, text, f"is longer than {most} characters: the rest is in a note")
            self._rest.append((field, text[most:]))
        return text[:most]

    def time(self, field: str) -> datetime | None:
        """A time that can be told."""
        raw = self.take(field)
        if raw is None or NO_TIME.fullmatch(str(raw)):
            return None
        found = read_time(raw)
        if found is None:
            self.keep(field, raw, "is no time of the years 2 to 9999: left out")
        return found

    def user(self, field: str, users: Mapping[str, str]) -> str | None:
        """A person's id, as the CMS has it now. 0 is nobody."""
        raw = self.take(field)
        if raw is None or raw in {0, "0"}:
            return None
        old = str(raw).strip()
        new = users.get(old, old)
        if users and old not in users:
            self.say(field, old, "is not in the file of users: stays as it is")
        if not is_user_id(new):
            self.keep(field, raw, "is no id of a person: nobody's now")
            return None
        return new

    def flag(self, field: str) -> bool:
        """Whether something is so."""
        return str(self.take(field)).lower() in {"true", "t", "1", "yes"}

    def choice(self, field: str, known: Collection[str], default: str, aliases: Mapping[str, str] = NO_ALIASES) -> str:
        """One of several words."""
        raw = self.take(field)
        if raw is None:
            self.say(field, None, f"is empty: {default} now")
            return default
        word = str(raw).strip().lower()
        found = word if word in known else aliases.get(word)
        if found is None:
            self.keep(field, raw, f"is unknown: {default} now")
            return default
        if found != raw:
            self.say(field, raw, f"is {found} now")
        return found

    def whole(self, field: str, least: int, most: int) -> int | None:
        """A whole number in this range."""
        raw = self.take(field)
        number = as_number(raw)
        if number is not None and number == int(number) and least <= number <= most:
            return int(number)
        if raw is not None:
            self.keep(field, raw, f"is no whole number from {least} to {most}: left out")
        return None

    def link(self, field: str, *, there: bool = True) -> int | None:
        """The id of another record, if it is there."""
        raw = self.take(field)
        if raw is None or raw == 0:
            return None
        if isinstance(raw, int) and raw > 0 and there:
            return raw
        self.keep(field, raw, "is of a record that is not there: left out")
        return None

    def times(self, went: datetime | None, own: datetime | None, fallback: datetime) -> None:
        """When the record was made and changed, and went to the trash."""
        updated, created = self._row.pop("updated_at", None), self._row.pop("created_at", None)
        changed_at, made_at = read_time(updated), read_time(created)
        for field, raw, found in (("created_at", created, made_at), ("updated_at", updated, changed_at)):
            if found is None and raw is not None:
                self.say(field, raw, "is no time that can be told: one that is near now")
        made = made_at or changed_at or own or fallback
        self.values |= {"created_at": made, "updated_at": changed_at or made, "deleted_at": own or went}
        if own is None and went is not None:
            self.say("deleted_at", None, "belongs to a record in the trash: goes there with it")

    def finish(self, links: Mapping[str, Any] | None = None) -> Record:
        """The record. `links` are those of its notes."""
        for name, value in self._row.items():
            if value not in (None, "", 0, False, [], {}):
                self.keep(name, value, "is a column that this service does not have")
        if self.table not in LONGEST:
            return Record(self.table, self.id, self.values, [], self.problems)
        field, limit = LONGEST[self.table]
        present = self.values.get(field) or ""
        if self._kept:
            kept = "\n".join((HEADING, *self._kept))
            joined = f"{present}\n\n{kept}" if present else kept
            if len(joined) <= limit and not any(name == field for name, _ in self._rest):
                self.values[field] = joined
            else:
                self._rest.append((field, kept))
        return Record(self.table, self.id, self.values, self._notes(links or {}), self.problems)

    def _notes(self, links: Mapping[str, Any]) -> list[dict[str, Any]]:
        made = []
        times = {name: self.values[name] for name in ("created_at", "updated_at", "deleted_at")}
        for field, rest in self._rest:
            heading = f"({self.table} {self.id}, {field}, continued)\n"
            room = NOTE_LIMIT - len(heading)
            for start in range(0, len(rest), room):
                content = heading + rest[start : start + room]
                made.append(EMPTY_NOTE | {"content": content, "author_id": NOBODY, **links, **times})
        return made


def read_time(raw: object) -> datetime | None:
    """A time as JSON has it, in UTC where it says nothing else; None where it can't be told."""
    if raw is None:
        return None
    text = str(raw)
    if "T" in text and not OFFSET.search(text):
        text += "Z"
    try:
        found = fields.read_time(text)
    except Refused:
        return None
    return datetime.combine(found.date(), found.timetz())  # a bare date is midnight


def as_number(raw: object) -> Decimal | None:
    """A number, however its column holds it; None for anything else, and for what is not finite."""
    if raw is None or isinstance(raw, bool):
        return None
    try:
        number = Decimal(str(raw).strip())
    except ArithmeticError:
        return None
    return number if number.is_finite() else None


def _as_text(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else None
    if text is None:
        try:
            text = strict_json.encode(value).decode()
        except ValueError:  # a lone surrogate
            text = str(value)
    return strict_json.printable(text)


def _normal(text: str) -> str:
    """The text in normal form; of more accents on a letter than can be stored, the first ones."""
    try:
        return normalized(text)
    except Refused:
        kept, marks = [], 0
        for letter in text:
            marks = marks + 1 if unicodedata.combining(letter) else 0
            if marks <= MAX_MARKS:
                kept.append(letter)
        return normalized("".join(kept))
