"""Tables of plain values, as people read them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

from msgspec import Struct

from app.files.cells import harmless

Cell: TypeAlias = str | int | Decimal | date | None


class Table(NamedTuple):
    """Rows under headings: each row has a cell for each of them."""

    title: str
    headings: list[str]
    rows: list[list[Cell]]


class _Place(NamedTuple):
    """Where a cell stands: which field of the row it comes from, and its heading."""

    field: int
    heading: str


def tables_of(title: str, document: Struct) -> list[Table]:
    """An answer as tables: one for each list of objects and each object in it, and one for what is left. An object in a
    row becomes columns of its own, such as `Won value EUR`.
    """
    tables: list[Table] = []
    figures: list[list[Cell]] = []
    for name in document.__struct_fields__:
        value = getattr(document, name)
        if isinstance(value, list):
            tables.append(_of_rows(_words(name), value))
        elif isinstance(value, Struct):
            tables.append(_of_figures(_words(name), [[place.heading, cell] for place, cell in _cells(value)]))
        else:
            figures.append([_words(name), _cell(value)])
    if figures:
        tables.insert(0, _of_figures("Figures", figures))
    return [tables[0]._replace(title=title)] if len(tables) == 1 else tables


def to_csv(tables: Sequence[Table]) -> bytes:
    """UTF-8 by RFC 4180, without cells that a spreadsheet would run. Several tables are one below another, each under
    its title.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    for number, table in enumerate(tables):
        if len(tables) > 1:
            writer.writerows(([], [table.title]) if number else ([table.title],))
        writer.writerow(map(_harmless, table.headings))
        writer.writerows(map(_harmless, row) for row in table.rows)
    return text.getvalue().encode()


def _harmless(cell: Cell) -> Cell:
    return harmless(cell) if isinstance(cell, str) else cell


def _of_rows(title: str, rows: Sequence[Struct]) -> Table:
    cells = [dict(_cells(row)) for row in rows]
    # In the order of the fields: of amounts by currency, each row has only those that it needs.
    seen = {place: any(row.get(place) is not None for row in cells) for row in cells for place in row}
    filled = {place.field for place, has_values in seen.items() if has_values}
    places = sorted((p for p, has_values in seen.items() if has_values or p.field not in filled), key=lambda p: p.field)
    return Table(title, [place.heading for place in places], [[row.get(place) for place in places] for row in cells])


def _of_figures(title: str, figures: list[list[Cell]]) -> Table:
    return Table(title, ["Figure", "Value"], figures)


def _cells(row: Struct) -> Iterator[tuple[_Place, Cell]]:
    for number, name in enumerate(row.__struct_fields__):
        value = getattr(row, name)
        if isinstance(value, Struct):
            for inner, cell in _cells(value):
                # The row has the reference itself.
                if not (inner.heading == "Id" and f"{name}_id" in row.__struct_fields__):
                    yield _Place(number, f"{_words(name)} {inner.heading.lower()}"), cell
        elif isinstance(value, dict):
            words = _words(name.removesuffix("_by_currency").removeprefix("by_"))
            for key, each in sorted(value.items()):
                yield _Place(number, f"{words} {key}"), _cell(each)
        else:
            yield _Place(number, _words(name)), _cell(value)


def _cell(value: Any) -> Cell:
    """Times as text in RFC 3339, since spreadsheets know no time zones."""
    if isinstance(value, list):
        return "; ".join(str(_cell(each)) for each in value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value if value is None or isinstance(value, int | Decimal | date) else str(value)


def _words(name: str) -> str:
    """A field's name as words."""
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]
