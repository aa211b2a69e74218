"""Tables as a workbook of Excel: a sheet for each."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

from app.files.tables import Cell, Table
from app.web import strict_json
from app.web.errors import AppError, Code

if TYPE_CHECKING:
    from xlsxwriter import Workbook

# Text is text: never a formula, a link or a number.
OPTIONS = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_numbers": False,
    "strings_to_urls": False,
    "default_date_format": "yyyy-mm-dd",
}
WIDEST = 50
# What the process that writes many rows may take, and how it says that it refuses them.
SECONDS, REFUSED = 600, 3
# What a spreadsheet can hold.
FIRST_DAY, LONGEST_TEXT, MOST_ROWS, MOST_DIGITS = date(1900, 3, 1), 32_767, 1_048_576, 15


def to_xlsx(tables: Sequence[Table]) -> bytes:
    """The workbook. Raises AppError SERVICE_UNAVAILABLE where the library is not installed, and TOO_MANY_RECORDS."""
    file = io.BytesIO()
    with _workbook(file) as book:
        bold = book.add_format({"bold": True})
        for table in tables:
            if len(table.rows) >= MOST_ROWS:
                raise AppError(Code.TOO_MANY_RECORDS, f"A sheet has at most {MOST_ROWS} rows: choose another format")
            sheet = book.add_worksheet(table.title)
            sheet.freeze_panes(1, 0)
            for column, heading in enumerate(table.headings):
                widest = max((len(str(row[column])) for row in table.rows), default=0)
                sheet.set_column(column, column, min(max(widest, len(heading)) + 2, WIDEST))
                sheet.write_string(0, column, heading, bold)
            for number, row in enumerate(table.rows, 1):
                for column, cell in enumerate(row):
                    sheet.write(number, column, _storable(cell))
    return file.getvalue()


async def write_rows(title: str, headings: Sequence[str], lines: IO[bytes], file: IO[bytes]) -> None:
    """Write a workbook of one sheet, whose rows are JSON arrays, one in a line. A process of its own does it: a thread
    would take turns with the requests of this one. Its memory stays flat, and it gets no environment.

    Raises AppError SERVICE_UNAVAILABLE where the library is not installed or the time is up, and TOO_MANY_RECORDS.
    """
    lines.flush()
    files = [lines.fileno(), file.fileno()]
    command = [sys.executable, "-I", "-m", "app.files.xlsx", *map(str, files), title, *headings]
    try:
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, pass_fds=files, env={}, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise AppError(
            Code.SERVICE_UNAVAILABLE, "This workbook takes too long to write: choose another format"
        ) from None
    if done.returncode == REFUSED:
        refusal = strict_json.decode_own(done.stdout)
        raise AppError(Code[refusal["code"]], refusal["message"])
    if done.returncode:
        raise RuntimeError(f"the process that writes workbooks ended with {done.returncode}: {done.stderr[-500:]!r}")


def main(lines: str, file: str, title: str, *headings: str) -> None:
    """What that process does."""
    with os.fdopen(int(lines), "rb") as rows, os.fdopen(int(file), "wb") as workbook:
        try:
            _write_rows(title, headings, rows, workbook)
        except AppError as error:
            sys.stdout.buffer.write(strict_json.encode({"code": error.code.name, "message": error.message}))
            sys.exit(REFUSED)


def _write_rows(title: str, headings: Sequence[str], lines: IO[bytes], file: IO[bytes]) -> None:
    lines.seek(0)
    with _workbook(file) as book:
        sheet = book.add_worksheet(title)
        sheet.freeze_panes(1, 0)
        sheet.write_row(0, 0, headings, book.add_format({"bold": True}))
        for number, line in enumerate(lines, 1):
            for column, cell in enumerate(strict_json.decode_own(line)):
                if isinstance(cell, str) and len(cell) > LONGEST_TEXT:
                    message = f"A cell has at most {LONGEST_TEXT} characters: choose another format"
                    raise AppError(Code.TOO_MANY_RECORDS, message)
                sheet.write(number, column, _exact(cell))


def _workbook(file: IO[bytes]) -> Workbook:
    try:
        # Inside the function, because who writes no workbooks need not have the library.
        from xlsxwriter import Workbook
    except ModuleNotFoundError:
        raise AppError(Code.SERVICE_UNAVAILABLE, "This service writes no XLSX: it lacks the extra xlsx") from None
    return Workbook(file, OPTIONS)


def _exact(cell: Any) -> Any:
    """Numbers of more digits than a spreadsheet knows are text."""
    is_long = isinstance(cell, int | Decimal) and len(str(cell).replace(".", "")) > MOST_DIGITS
    return str(cell) if is_long else cell


def _storable(cell: Cell) -> str | int | Decimal | date | None:
    if isinstance(cell, str):
        return cell[:LONGEST_TEXT]
    return cell.isoformat() if isinstance(cell, date) and cell < FIRST_DAY else cell


if __name__ == "__main__":
    main(*sys.argv[1:])
