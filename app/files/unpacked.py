"""What is found out about a file of rows while it is unpacked."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from msgspec import Struct

MOST_ROWS = 1_000_000
MOST_BYTES = 1024**3
MOST_COLUMNS = 1000
MOST_ROW_BYTES = 1024**2


class FileFormat(StrEnum):
    """How a file of rows is written."""

    CSV = "csv"
    XLSX = "xlsx"
    JSONL = "jsonl"
    VCARD = "vcard"


class Column(Struct):
    """A column, and what its cells prove about how they are to be read."""

    name: str
    samples: list[str] = []
    # What its first cells look like: `email`, `phone`, `address` (of the web), `date` or `number`.
    looks_like: str | None = None
    # The orders of day, month and year that a date in it proves, and some dates that prove none.
    orders: list[str] = []
    unclear: list[str] = []
    # The decimal signs that a number in it proves.
    decimals: list[str] = []


class Unpacked(Struct):
    """A file's rows are unpacked. `remarks` are what a person should know of how the file was read."""

    format: FileFormat
    header: bool
    rows: int
    columns: list[Column]
    remarks: list[str]
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None


class Refusal(Struct):
    """A file can't be read, and why: for the person who sent it."""

    why: Literal["type", "empty", "large", "broken", "failed"]
    message: str


class UnreadableError(Exception):
    """Ends the reading of a file."""

    def __init__(self, why: Literal["type", "empty", "large", "broken"], message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(why, message)


class Outcome(Struct):
    """What the process that reads a file answers: one of the two."""

    unpacked: Unpacked | None = None
    refusal: Refusal | None = None
