"""Rows inside a row: built by the database as JSON, read straight into a type of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Dialect, Text, cast, func, literal_column
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.types import TypeDecorator


class JsonAs(TypeDecorator[Any]):
    """What `json_list` yields, as this type; no rows are an empty list."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind
        self._decode = msgspec.json.Decoder(kind).decode

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002, D102
        return self._decode(value or "[]")


def json_list(columns: Mapping[str, ColumnElement[Any]], *order: ColumnElement[Any]) -> ColumnElement[str]:
    """An aggregate of rows as the text of a JSON list, in this order."""
    pairs = (part for name, column in columns.items() for part in (literal_column(f"'{name}'"), column))
    return cast(func.json_agg(aggregate_order_by(func.json_build_object(*pairs), *order)), Text)
