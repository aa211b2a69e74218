"""Tables as a workbook of Excel: a sheet for each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from app.files.tables import Cell, Table
from app.web.errors import AppError, Code

# Text is text: never a formula, a link or a number.
OPTIONS = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_numbers": False,
    "strings_to_urls": False,
    "default_date_format": "yyyy-mm-dd",
}
WIDEST = 50
# What a spreadsheet can hold.
FIRST_DAY, LONGEST_TEXT, MOST_ROWS = date(1900, 3, 1), 32_767, 1_048_576


def to_xlsx(tables: Sequence[Table]) -> bytes:
    """The workbook. Raises AppError SERVICE_UNAVAILABLE where the library is not installed, and TOO_MANY_RECORDS."""
    try:
        # Inside the function, because who writes no workbooks need not have the library.
        from xlsxwriter import Workbook
    except ModuleNotFoundError:
        raise AppError(Code.SERVICE_UNAVAILABLE, "This service writes no XLSX: it lacks the extra xlsx") from None
    file = io.BytesIO()
    with Workbook(file, OPTIONS) as book:
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


def _storable(cell: Cell) -> str | int | Decimal | date | None:
    if isinstance(cell, str):
        return cell[:LONGEST_TEXT]
    return cell.isoformat() if isinstance(cell, date) and cell < FIRST_DAY else cell
