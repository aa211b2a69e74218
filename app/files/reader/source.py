"""What each reader of a kind of file gives: rows one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from app.files.unpacked import FileFormat


class Record(NamedTuple):
    """A row with its number in the file."""

    number: int
    cells: list[str | None]


@dataclass
class Source:
    """The rows of a file. `names` are the columns' names, where each row has them; else the first row may have them.
    They may grow while rows are read, and so may the remarks.
    """

    format: FileFormat
    records: Iterator[Record]
    names: list[str] | None = None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None
    remarks: list[str] = field(default_factory=list)
