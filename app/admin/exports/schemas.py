"""Exports as JSON, and what an export of a list takes."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, defstruct
from msgspec.structs import FieldInfo, fields

from app.web.paging import ListQuery
from app.web.structs import Maybe

# What a list's query has that a whole list has no use for.
PAGING = frozenset({"page", "page_size", "cursor"})


class ExportFormat(StrEnum):
    """How an export is written."""

    CSV = "csv"
    XLSX = "xlsx"
    JSONL = "jsonl"


class ExportQuery(Struct, kw_only=True):
    """What every export of a list takes beside the list's own filters, `sort_by` and `sort_order`. A subclass has
    those, and says which columns there are.
    """

    format: Maybe[ExportFormat] = UNSET
    columns: Maybe[list[str]] = UNSET
    bom: Maybe[
        Annotated[
            bool, Meta(description="Whether a CSV begins with a byte order mark, which old versions of Excel need")
        ]
    ] = UNSET


def export_query(query: type[ListQuery], columns: Iterable[str]) -> type[ExportQuery]:
    """What the export of a list takes, whose columns these are."""
    name = query.__name__.removesuffix("Query")
    # By another name, since what a program makes is of no type that is known before.
    make_enum: Any = StrEnum
    known: Any = make_enum(f"{name}Column", {column.upper(): column for column in columns})
    wanted = Annotated[list[known], Meta(description="The columns, comma-separated, in this order; all by default")]
    own = [_declared(field) for field in fields(query) if field.name not in PAGING]
    make_struct: Any = defstruct
    made: type[ExportQuery] = make_struct(
        f"{name}Export", [*own, ("columns", wanted | UnsetType, UNSET)], bases=(ExportQuery,), kw_only=True
    )
    made.__doc__ = f"Filters, order, columns and format of an export of {name.lower()} records."
    return made


def _declared(field: FieldInfo) -> tuple[str, Any, Any]:
    return field.name, field.type, UNSET


class ArchiveResult(Struct):
    """What the job of an archive comes to: how many rows of each type are in it, and of how many attachments the bytes
    are missing in the store. Whoever reads the job gets a `download_url` too, until `expires_at`.
    """

    file_name: str
    content_type: str
    size: int
    expires_at: str
    counts: dict[str, int]
    missing: int
