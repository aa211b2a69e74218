"""XLSX: the first sheet with rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

from app.files.cells import bare
from app.files.reader.source import Record, Source
from app.files.unpacked import MOST_BYTES, FileFormat, UnreadableError

MOST_PARTS = 10_000
# What Excel computes with: more digits are noise.
DIGITS = 15


def read_workbook(file: IO[bytes]) -> Source:
    """The rows of a workbook's first sheet that has some. Raises UnreadableError."""
    _require_workbook(file)
    # Inside the function, because other files need not have it.
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        book = CalamineWorkbook.from_filelike(file)
        names = list(book.sheet_names)
        for name in names:
            sheet = book.get_sheet_by_name(name)
            if sheet.height:
                remarks = [f"The workbook has {len(names)} sheets: {name!r} is read"] if len(names) > 1 else []
                return Source(FileFormat.XLSX, _records(sheet), sheet=name, remarks=remarks)
    except CalamineError:
        raise UnreadableError(
            "broken", "The workbook is damaged: open it in a spreadsheet, and save it again"
        ) from None
    raise UnreadableError("empty", "The workbook has no rows")


def _require_workbook(file: IO[bytes]) -> None:
    try:
        with ZipFile(file) as archive:
            parts = archive.infolist()
    except (BadZipFile, NotImplementedError, ValueError):
        raise UnreadableError(
            "broken", "The workbook is damaged: open it in a spreadsheet, and save it again"
        ) from None
    names = {part.filename for part in parts}
    if "xl/workbook.xml" not in names and "xl/workbook.bin" not in names:
        raise UnreadableError("type", "This archive is not a workbook: send CSV, XLSX, JSON Lines or vCard")
    if len(parts) > MOST_PARTS or sum(part.file_size for part in parts) > MOST_BYTES:
        raise UnreadableError("large", "The workbook is too large when it is unpacked: save it as CSV, or in parts")
    file.seek(0)


def _records(sheet: Any) -> Iterator[Record]:
    first = sheet.start[0] + 1 if sheet.start else 1
    for number, values in enumerate(sheet.iter_rows(), first):
        yield Record(number, [_cell(value) for value in values])


def _cell(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return bare(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return as_number(value)
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value // timedelta(minutes=1)) if isinstance(value, timedelta) else str(value)


def as_number(value: float) -> str:
    """The number as a person typed it: without the noise of binary fractions, and without an exponent."""
    if value.is_integer() and abs(value) < 10**DIGITS:
        return str(int(value))
    text = format(value, f".{DIGITS}g")
    if "e" in text:
        text = format(value, f".{DIGITS}f").rstrip("0").rstrip(".") if abs(value) < 1 else str(int(value))
    return text
