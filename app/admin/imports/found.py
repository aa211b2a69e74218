"""What the check of an import found of its rows."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace
from sqlalchemy import Select, select, text, type_coerce
from sqlalchemy.dialects.postgresql import JSONB

from app.admin.exports import service as exports
from app.admin.http import transaction
from app.admin.imports import queries
from app.admin.imports.values import Problem
from app.db.result import RowMapping
from app.files.cells import harmless
from app.files.rows import read_rows
from app.models import Import
from app.models import ImportRow as Row
from app.records.audit_values import present, with_stage_name
from app.records.filters import one_of
from app.records.json_columns import JsonColumn, view_columns
from app.records.listing import Listing
from app.records.transaction import reading
from app.web.errors import AppError, Code
from app.web.file_names import file_headers
from app.web.input import CrmRequest
from app.web.large_responses import MadeFile
from app.web.paging import ListQuery, SortOrder
from app.web.structs import Maybe, View


class Outcome(StrEnum):
    """What a run does with a row."""

    CREATE = "create"
    UPDATE = "update"
    UNCHANGED = "unchanged"
    SKIP = "skip"
    ERROR = "error"


class FoundRow(View):
    """A row of the file, by the number that a spreadsheet shows: what becomes of it, and what it changes. `before` is
    null for a new record, `after` for a row that writes nothing.
    """

    row: int
    outcome: Outcome
    record_id: int | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    problems: list[Problem]


class RowSort(StrEnum):
    """The rows have one order."""

    ROW = "row"


class RowQuery(ListQuery):
    """Filters of a list of rows."""

    sort_by: Maybe[RowSort] = UNSET
    outcome: Maybe[list[Outcome]] = UNSET


c = Row.__table__.c
COLUMNS = view_columns(
    FoundRow,
    Row.__table__,
    row=c.number,
    before=type_coerce(with_stage_name(c.before), JSONB),
    after=type_coerce(with_stage_name(c.document), JSONB),
    problems=JsonColumn(c.problems, list[Problem], empty="[]"),
)
LISTING = Listing(
    "import rows",
    FoundRow,
    COLUMNS,
    Row.__table__,
    key=c.number,
    query=RowQuery,
    filters={"outcome": one_of(c.outcome)},
    scope={"import_id": one_of(c.import_id)},
    sorts={"row": c.number},
    default_sort=("row", SortOrder.ASC),
)


def shown(row: FoundRow) -> FoundRow:
    """The row as clients see it: its values as records show theirs."""
    return replace(row, before=row.before and present(row.before), after=row.after and present(row.after))


PROBLEMS = text("""
    SELECT number, problems FROM import_rows WHERE import_id = :import_id AND outcome = 'error'
    ORDER BY number LIMIT :most
""")
WRONG = text("""
    SELECT number, problems FROM import_rows
    WHERE import_id = :import_id AND outcome = 'error' AND number BETWEEN :first AND :last
""")
SENT: Select[Any] = select(Import.__table__).where(*queries.VISIBLE)
# Rows that are read from the store at once.
AT_ONCE = 1000
WHY = "problems"


async def problems(request: CrmRequest, import_id: int) -> MadeFile:
    """The wrong rows as a table: with the cells that they had, and why they are wrong.

    Raises AppError IMPORT_NOT_FOUND, or ANSWER_ERASED.
    """
    async with transaction(request) as tx:
        row = (await tx.connection.execute(SENT, queries.visible(tx, import_id))).mappings().one_or_none()
    if row is None:
        raise AppError(Code.IMPORT_NOT_FOUND)
    sent: RowMapping = row
    if sent["object_key"] is None:
        raise AppError(Code.ANSWER_ERASED, "The file named somebody who was erased since: send it again")
    name = f"{sent['file_name'].rpartition('.')[0] or sent['file_name']}-problems.csv"
    headers = file_headers(name) | {"Cache-Control": "private, no-store"}
    # It is written to a temporary file first: no transaction is open while somebody reads slowly.
    spool = exports.spool_of(request)
    async for lines in _written(request, sent):
        await spool.write(lines)
    await spool.finish()
    return MadeFile(spool.file, "text/csv", headers)


async def _written(request: CrmRequest, sent: RowMapping) -> AsyncIterator[bytes]:
    """The file, some rows at a time."""
    columns = [column["name"] for column in sent["columns"]]
    if columns[-1] == WHY and (sent["mapping"] or {}).get(WHY) is None:
        # A file of wrong rows that was mended: what was wrong with them then is no news.
        columns.pop()
    yield codecs.BOM_UTF8 + _as_csv([[*columns, WHY]])
    place, left = 0, sent["rows"]
    while left:
        rows, place = await read_rows(request.app.state.store, sent["object_key"], place, min(AT_ONCE, left))
        left -= len(rows)
        async with reading(request.app.state.database, request.user, one_statement=True) as tx:
            numbers = {"first": rows[0].number, "last": rows[-1].number}
            wrong = dict((await tx.connection.execute(WRONG, {"import_id": sent["id"]} | numbers)).all())
        if found := [
            [*_padded(row.cells, len(columns)), why(wrong[row.number])] for row in rows if row.number in wrong
        ]:
            yield _as_csv(found)


def _padded(cells: list[str | None], count: int) -> list[str | None]:
    return [*cells[:count], *[None] * (count - len(cells))]


def why(problems: list[dict[str, Any]]) -> str:
    """Problems of a row as one sentence."""
    return "; ".join(
        f"{name}: {each['message']}" if (name := each["column"] or each["field"]) else each["message"]
        for each in problems
    )


def _as_csv(rows: list[list[str | None]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([[None if cell is None else harmless(cell) for cell in row] for row in rows])
    return text.getvalue().encode()
