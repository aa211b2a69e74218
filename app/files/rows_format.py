"""Rows of a file as lines: one JSON array a line, of the row's number in the file and its cells. So a row is found by
the place of its first byte.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import json

LINE_END = b"\n"
_decode = json.Decoder(list[int | str | None]).decode


class Row(NamedTuple):
    """A row that is not blank. Its number is the one that a spreadsheet shows: the first row has 1, be it a header."""

    number: int
    # Those behind the last that is filled are left out.
    cells: list[str | None]


def encode_row(number: int, cells: list[str | None]) -> bytes:
    """The row as a line."""
    return json.encode([number, *cells]) + LINE_END


def decode_row(line: bytes) -> Row:
    """The row that a line has."""
    number, *cells = _decode(line)
    return Row(number, cells)  # type: ignore[arg-type]  # the number is the first, and the only one
