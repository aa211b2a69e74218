"""JSON Lines: an object a line."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import IO, Any

from msgspec import DecodeError, json

from app.files.reader.source import Record, Source
from app.files.reader.text import encoding_of, open_text
from app.files.unpacked import FileFormat, UnreadableError

LONGEST_LINE = 1024 * 1024
# Numbers stay as they are written.
_decode = json.Decoder(float_hook=Decimal).decode
_encode = json.Encoder(decimal_format="number").encode


def read_json_lines(file: IO[bytes]) -> Source:
    """The rows of a file of JSON Lines. A column is a member that some object has. Raises UnreadableError."""
    encoding = encoding_of(file)
    names: list[str] = []
    return Source(FileFormat.JSONL, _records(open_text(file, encoding), names), names=names, encoding="utf-8")


def _records(text: IO[str], names: list[str]) -> Iterator[Record]:
    places: dict[str, int] = {}
    number = 0
    while line := text.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise UnreadableError("large", f"Line {number} is longer than {LONGEST_LINE:,} characters")
        if not line.strip():
            continue
        try:
            found: Any = _decode(line.encode(errors="replace"))
        except (DecodeError, RecursionError):
            raise UnreadableError("broken", f"Line {number} is not valid JSON: each line must be one object") from None
        if not isinstance(found, dict):
            raise UnreadableError("broken", f"Line {number} is not an object: each line must be one")
        for name in found:
            if name not in places:
                places[name] = len(places)
                names.append(name[:200] or f"Column {len(places)}")
        cells: list[str | None] = [None] * len(places)
        for name, value in found.items():
            cells[places[name]] = as_cell(value)
        yield Record(number, cells)


def as_cell(value: Any) -> str | None:
    """A JSON value as a cell has it. Tags are names, as texts or in objects; people may be numbers."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        named = [each.get("name") if isinstance(each, dict) else each for each in value]
        names = [quoted(str(each)) for each in named if isinstance(each, str | int) and not isinstance(each, bool)]
        if len(names) == len(named):
            return "; ".join(names) or None
    return _encode(value).decode() if isinstance(value, dict | list) else str(value)


def quoted(name: str) -> str:
    """One of several names in a cell, apart by semicolons."""
    return '"' + name.replace('"', '""') + '"' if {";", '"'} & set(name) else name
