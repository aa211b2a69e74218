"""CSV, however it is written."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from typing import IO, NamedTuple

from app.files.cells import bare
from app.files.reader.source import Record, Source
from app.files.reader.text import encoding_of, open_text
from app.files.unpacked import FileFormat, UnreadableError

# In the order of what is more usual.
DELIMITERS = ",;\t|^~\x1f:"
SAMPLE = 64 * 1024
SAMPLE_ROWS = 200
LONGEST_CELL = 1024 * 1024
# What no text has many of.
CONTROLS = re.compile("[\\0-\\x08\\x0e-\\x1a\\x1c-\\x1e\\x7f\ufffd]")
FEW_CONTROLS, SOME = 10, 50
# How Excel is told the delimiter.
TOLD = re.compile(r'\A"?sep=(.)"?\r?\n?', re.IGNORECASE)


class Dialect(NamedTuple):
    """How cells are set apart. Without a delimiter there is one column."""

    delimiter: str | None
    quote: str = '"'
    escape: str | None = None

    def reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """The rows of these lines."""
        return csv.reader(
            lines,
            delimiter=self.delimiter or "\x1f",
            quotechar=self.quote,
            escapechar=self.escape,
            doublequote=self.escape is None,
        )


class _Lines:
    """Lines of a text, and those that were read since somebody took them."""

    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self._read: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for line in self._text:
            self._read.append(line)
            yield line

    def take(self) -> list[str]:
        taken, self._read = self._read, []
        return taken


def read_delimited(file: IO[bytes]) -> Source:
    """The rows of a CSV file. Raises UnreadableError."""
    csv.field_size_limit(LONGEST_CELL)
    encoding = encoding_of(file)
    text = open_text(file, encoding)
    sample = text.read(SAMPLE)
    if len(CONTROLS.findall(sample)) > max(FEW_CONTROLS, len(sample) // SOME):
        raise UnreadableError("type", "This file is no text: send CSV, XLSX, JSON Lines or vCard")
    told = TOLD.match(sample)
    if told:
        sample = sample[told.end() :]
    dialect = dialect_of(sample, told[1] if told else None)
    # The same file once more: a text that was read in part can't always go back.
    text.detach()
    text = open_text(file, encoding)
    if told:
        text.readline()
    return Source(
        FileFormat.CSV,
        _records(text, dialect, 1 if told else 0),
        encoding="utf-8" if encoding.name == "utf-8-sig" else encoding.name,
        delimiter=dialect.delimiter,
        remarks=[encoding.remark] if encoding.remark else [],
    )


def dialect_of(sample: str, delimiter: str | None = None) -> Dialect:
    """How the cells of a text are set apart: by what gives most rows as many cells as the first row has."""
    whole = len(sample) < SAMPLE
    best, best_score = Dialect(delimiter), 0.0
    for candidate in (delimiter,) if delimiter else DELIMITERS:
        quote = _quote(sample, candidate)
        # A backslash before the end of a cell may be its last letter.
        escaped = re.search(rf"\\{quote}(?![\r\n]|{re.escape(candidate)}|\Z)", sample)
        escape = "\\" if escaped and quote * 2 not in sample.replace(f"{candidate}{quote * 2}", "") else None
        dialect = Dialect(candidate, quote, escape)
        widths = _widths(sample, dialect, whole=whole)
        if not widths:
            continue
        (usual, times), *_ = Counter(widths).most_common(1)
        score = times / len(widths) / (1 if widths[0] == usual else 2)
        if usual > 1 and score > best_score + 0.01:
            best, best_score = dialect, score
    return best


def _widths(sample: str, dialect: Dialect, *, whole: bool) -> list[int]:
    widths = []
    try:
        for row in dialect.reader(iter(io.StringIO(sample, newline=""))):
            if any(row):
                widths.append(len(row))
            if len(widths) == SAMPLE_ROWS:
                return widths
    except csv.Error:
        return []
    # The last row may be cut off.
    return widths if whole or len(widths) < 2 else widths[:-1]


def _quote(sample: str, delimiter: str) -> str:
    """The quotation mark: double, or single where each row has such cells and fewer in double ones."""
    apart = re.escape(delimiter)
    found = {
        mark: len(re.findall(rf"(?:^|{apart}){mark}[^{mark}\r\n]*{mark}(?=$|[\r\n]|{apart})", sample, re.MULTILINE))
        for mark in "\"'"
    }
    return "'" if found["'"] >= len(sample.splitlines()) and found["'"] > found['"'] else '"'


def _records(text: IO[str], dialect: Dialect, number: int) -> Iterator[Record]:
    lines = _Lines(text)
    last: list[str] = []
    try:
        for row in dialect.reader(iter(lines)):
            number += 1
            last = lines.take()
            yield Record(number, [bare(cell) if cell[:1] == "'" else cell or None for cell in row])
    except csv.Error:
        raise _open_quote(number + 1) from None
    # The library takes the end of the file for the end of a cell: one that is open takes a line more.
    if sum(1 for _ in dialect.reader(iter([*last, "more"]))) == 1 and last:
        raise _open_quote(number)


def _open_quote(number: int) -> UnreadableError:
    message = f"Row {number} has a quotation mark that is opened and never closed: close it, or double it inside a cell"
    return UnreadableError("broken", message)
