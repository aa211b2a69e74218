"""Rows inside a row: the database builds them as JSON, and msgspec reads them into a type."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import (
    ColumnElement,
    DateTime,
    Dialect,
    FromClause,
    Label,
    Select,
    Text,
    cast,
    func,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.types import TypeDecorator

from app.models import UserReference
from app.web.structs import View

MOST_NESTED_BYTES = 1024 * 1024


class JsonAs(TypeDecorator[Any]):
    """A JSON document, fetched as text and read as this type; `empty` stands for null."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: Any, empty: str) -> None:
        super().__init__()
        self.kind = kind
        self.empty = empty

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], Any]:  # noqa: ARG002, D102
        decode, empty = msgspec.json.Decoder(self.kind, float_hook=Decimal).decode, self.empty
        return lambda document: decode(document or empty)


class JsonColumn:
    """A JSON expression and the type that it is read as. It can be selected (`column`) or nested again (`json`)."""

    def __init__(self, json: ColumnElement[Any], kind: Any, *, empty: str = "null") -> None:
        self.json = json
        self.column: ColumnElement[Any] = type_coerce(cast(json, Text), JsonAs(kind, empty))


Columns: TypeAlias = dict[str, ColumnElement[Any] | JsonColumn]


def view_columns(view: type[View], table: FromClause, **special: ColumnElement[Any] | JsonColumn) -> Columns:
    """The columns of a view in its order: by their names in JSON, those of the table but for the special ones."""
    return {name: special[name] if name in special else table.c[name] for name in view.__struct_encode_fields__}


def selected(columns: Columns) -> list[ColumnElement[Any]]:
    """A view's columns for a select of its own."""
    return [column.column if isinstance(column, JsonColumn) else column for column in columns.values()]


def labelled(columns: Columns) -> list[Label[Any]]:
    """A view's columns for a subquery that becomes JSON."""
    return [_as_json(column).label(name) for name, column in columns.items()]


def json_object(columns: Columns) -> ColumnElement[Any]:
    """A view of the selected row as one JSON object, with times as clients see them."""
    pairs = (part for name, column in columns.items() for part in (literal_column(f"'{name}'"), _as_shown(column)))
    return func.json_build_object(*pairs)


def nested_rows(rows: Select[Any], kind: Any) -> JsonColumn:
    """The rows of a select of `labelled` columns, in its order, as a list of this type."""
    table = rows.subquery("nested")
    query = select(func.json_agg(literal_column("nested"))).select_from(table)
    return JsonColumn(query.scalar_subquery(), list[kind], empty="[]")


def first_rows(
    rows: Select[Any], kind: Any, most: int, order: Callable[[Any], tuple[ColumnElement[Any], ...]]
) -> JsonColumn:
    """The first rows of such a select in this order of its columns: at most so many, and fewer if they are more than a
    mebibyte of JSON together.
    """
    first = rows.order_by(*order(rows.selected_columns)).limit(most).subquery("picked")
    place = func.row_number().over(order_by=order(first.c)).label("place")
    whole = select(func.row_to_json(literal_column("picked")).label("json"), place).select_from(first).subquery("whole")
    bytes_so_far = func.sum(func.octet_length(cast(whole.c.json, Text))).over(order_by=whole.c.place, rows=(None, 0))
    weighed = select(whole.c.json, whole.c.place, bytes_so_far.label("bytes")).subquery("weighed")
    in_order = aggregate_order_by(weighed.c.json, weighed.c.place)
    query = select(func.json_agg(in_order)).where(weighed.c.bytes <= MOST_NESTED_BYTES)
    return JsonColumn(query.scalar_subquery(), list[kind], empty="[]")


def newest_rows(rows: Select[Any], kind: Any, most: int) -> JsonColumn:
    """The newest rows of such a select, which has `created_at` and `id`, as `first_rows`."""
    return first_rows(rows, kind, most, lambda row: (row.created_at.desc(), row.id.desc()))


def nested_row(row: Select[Any], kind: Any) -> JsonColumn:
    """The one row of such a select, or null."""
    table = row.limit(1).subquery("nested")
    query = select(func.row_to_json(literal_column("nested"))).select_from(table)
    return JsonColumn(query.scalar_subquery(), kind | None)


def _as_json(column: ColumnElement[Any] | JsonColumn) -> ColumnElement[Any]:
    if isinstance(column, JsonColumn):
        return column.json
    return func.crm_user_json(column) if isinstance(column.type, UserReference) else column


def _as_shown(column: ColumnElement[Any] | JsonColumn) -> ColumnElement[Any]:
    """Times are written here as msgspec writes them elsewhere: in UTC with `Z`, with six decimals or none."""
    if isinstance(column, JsonColumn) or not isinstance(column.type, DateTime):
        return _as_json(column)
    # The colons are in quotes, since some tools that send this statement take :MI for a parameter.
    written = func.to_char(
        func.timezone(literal_column("'UTC'"), column), literal_column("""'YYYY-MM-DD"T"HH24":"MI":"SS.US"Z"'""")
    )
    return func.replace(written, literal_column("'.000000Z'"), literal_column("'Z'"))
