"""Reading a file of rows: what kind of file it is, which columns it has, and its rows as lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import IO

from app.files.reader.columns import Columns
from app.files.reader.delimited import read_delimited
from app.files.reader.json_lines import read_json_lines
from app.files.reader.source import Record, Source
from app.files.reader.vcards import read_vcards
from app.files.reader.workbooks import read_workbook
from app.files.rows_format import encode_row
from app.files.unpacked import MOST_BYTES, MOST_COLUMNS, MOST_ROW_BYTES, MOST_ROWS, Unpacked, UnreadableError

HEAD = 4096
FIRST_ROWS = 20
# What stands in a row, and hardly ever over a column: a number or a date, an email or web address, a phone number.
VALUE = re.compile(r"[+(]?[\d][\d\s.,:/()+-]*%?|[^\s@]+@[^\s@.]+\.[^\s@]+|https?://\S+")
# PostgreSQL has no NUL, and JSON no half of a pair of surrogates.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")
BINARY = re.compile(rb"%PDF-|\x89PNG|\xff\xd8\xff|GIF8|\x1f\x8b|7z\xbc\xaf|Rar!|\x7fELF|MZ|SQLite format 3")
PAGE = re.compile(rb"\s*<(!doctype|html|\?xml|table|head|body)", re.IGNORECASE)


def unpack(file: IO[bytes], rows: IO[bytes]) -> Unpacked:
    """Write the rows of a file, and say what it is. Raises UnreadableError."""
    source = _reader(file)(file)
    header, names, records = _header(source)
    _require_few(names, 1)
    columns = Columns(names)
    written = count = wide = 0
    unstorable = False
    for number, cells in records:
        while cells and not (cells[-1] and cells[-1].strip()):
            cells.pop()
        if not cells:
            continue
        if len(cells) > len(names):
            # Cells under no name: the row is wider than the one with the names, or a name is new.
            wide = wide or (number if source.names is None else 0)
            names.extend(source.names[len(names) :] if source.names else _more_names(names, len(cells)))
            _require_few(names, number)
        line = _encoded(number, cells)
        if line is None:
            unstorable = True
            cells[:] = [cell and UNSTORABLE.sub("", cell) for cell in cells]
            line = encode_row(number, cells)
        if len(line) > MOST_ROW_BYTES:
            message = f"Row {number} has more than {MOST_ROW_BYTES // 1024**2} MiB of text: shorten it, or leave it out"
            raise UnreadableError("large", message)
        count += 1
        written += len(line)
        if count > MOST_ROWS or written > MOST_BYTES:
            message = f"A file may have at most {MOST_ROWS:,} rows, and {MOST_BYTES // 1024**3} GiB of text: split it"
            raise UnreadableError("large", message)
        columns.see(cells)
        rows.write(line)
    if not count:
        raise UnreadableError("empty", "The file has no rows" + (" under its header" if header else ""))
    remarks = source.remarks
    if wide:
        remarks.append(f"Row {wide} has more cells than the header: what is there stands in columns named by number")
    if unstorable:
        remarks.append("Characters that no text can have (NUL, halves of surrogates) are left out")
    return Unpacked(
        format=source.format,
        header=header,
        rows=count,
        columns=columns.found(),
        remarks=remarks,
        encoding=source.encoding,
        delimiter=source.delimiter,
        sheet=source.sheet,
    )


def _require_few(names: list[str], number: int) -> None:
    if len(names) > MOST_COLUMNS:
        raise UnreadableError("large", f"Row {number} has {len(names)} columns: at most {MOST_COLUMNS} are read")


def _reader(file: IO[bytes]) -> Callable[[IO[bytes]], Source]:
    file.seek(0)
    head = file.read(HEAD)
    if not head.strip():
        raise UnreadableError("empty", "The file is empty")
    if head.startswith(b"PK\x03\x04"):
        return read_workbook
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        hint = "it is an old Excel file (.xls), or a workbook with a password: save it as .xlsx without a password"
        raise UnreadableError("type", f"This file is not read: {hint}")
    if BINARY.match(head) or PAGE.match(head.removeprefix(b"\xef\xbb\xbf")):
        raise UnreadableError("type", "This file has no rows: send CSV, XLSX, JSON Lines or vCard")
    text = head.removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"").lstrip(b"\xff\xfe \t\r\n")
    if text[:11].upper() == b"BEGIN:VCARD":
        return read_vcards
    if text[:1] == b"{":
        return read_json_lines
    if text[:2] in {b"[{", b"[\n", b"[\r", b"[ "}:
        raise UnreadableError("type", "This is one JSON list: send JSON Lines, with one object on each line")
    return read_delimited


def _header(source: Source) -> tuple[bool, list[str], Iterator[Record]]:
    """Whether the first row has names, the names of columns, and the rows that follow."""
    if source.names is not None:
        return True, list(source.names), source.records
    filled = (record for record in source.records if any(record.cells))
    first = list(islice(filled, FIRST_ROWS))
    if not first:
        raise UnreadableError("empty", "The file has no rows")
    # A title over the table: rows of one cell, before rows of several.
    title = 0
    while title < len(first) - 1 and _width(first[title]) == 1 and max(map(_width, first)) > 2:
        title += 1
    if title:
        left = " / ".join(str(next(filter(None, record.cells))) for record in first[:title])
        source.remarks.append(
            f"The table begins in row {first[title].number}: what stands above it is left out ({left[:200]})"
        )
    named = first[title]
    if not _has_names(named.cells):
        return False, _more_names([], len(named.cells)), chain(first[title:], filled)
    return True, _unique(named.cells), chain(first[title + 1 :], filled)


def _width(record: Record) -> int:
    return sum(cell is not None for cell in record.cells)


def _has_names(cells: list[str | None]) -> bool:
    return not any(VALUE.fullmatch(cell.strip()) for cell in cells if cell)


def _unique(cells: list[str | None]) -> list[str]:
    names: list[str] = []
    for place, cell in enumerate(cells, 1):
        wanted = " ".join(UNSTORABLE.sub("", cell or "").split())[:200] or f"Column {place}"
        name, again = wanted, 1
        while name in names:
            again += 1
            name = f"{wanted} ({again})"
        names.append(name)
    while names and not cells[len(names) - 1]:
        names.pop()
    return names


def _more_names(names: list[str], width: int) -> list[str]:
    return [f"Column {place}" for place in range(len(names) + 1, width + 1)]


def _encoded(number: int, cells: list[str | None]) -> bytes | None:
    try:
        line = encode_row(number, cells)
    except UnicodeEncodeError:
        return None
    return None if b"\\u0000" in line and any(cell and "\0" in cell for cell in cells) else line
