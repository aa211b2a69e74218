"""The query parameters that every list takes, and the answers of lists."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Generic, Literal, TypeVar

from msgspec import UNSET, Meta, Struct

from app.web.structs import Maybe
from app.web.text import SEARCH

MAX_PAGE_SIZE = 100
# Words in a filter by user that are not user ids.
SPECIAL_USERS = frozenset({"me", "none"})

Row = TypeVar("Row")


class SortOrder(StrEnum):
    """Nulls come last either way."""

    ASC = "asc"
    DESC = "desc"


class Deleted(StrEnum):
    """Whether a list shows the trash."""

    EXCLUDE = "exclude"
    ONLY = "only"
    INCLUDE = "include"


class PageQuery(Struct, kw_only=True):
    """Which part of a list."""

    page: Maybe[Annotated[int, Meta(ge=1, le=10**9, description="From 1; not together with cursor")]] = UNSET
    page_size: Maybe[Annotated[int, Meta(ge=1, le=10**9, description="Over 100 counts as 100")]] = UNSET
    cursor: Maybe[
        Annotated[
            str,
            Meta(
                max_length=16_384,
                description="next_cursor of the page before; filters and sort may be left out",
                extra_json_schema={"pattern": "^[A-Za-z0-9_-]+$"},
            ),
        ]
    ] = UNSET


class ListQuery(PageQuery, kw_only=True):
    """What every list takes that can be sorted. A subclass adds its filters and its `sort_by`."""

    sort_order: Maybe[SortOrder] = UNSET


# Everything in a query that is not a filter.
NOT_FILTERS = frozenset({*ListQuery.__struct_fields__, "sort_by"})

Search = Annotated[
    str,
    Meta(
        max_length=255,
        description="Words that must all be found, in any field and order, without regard to case and accents. In"
        " double quotes they are one term. Digits find a phone number in any notation",
        **SEARCH,
    ),
]
UserFilter = Annotated[
    list[Annotated[str, Meta(max_length=66)]],
    Meta(
        description="User ids, comma-separated, or `me` or `none`. In double quotes a value is taken literally",
        extra={"keep_quoted": SPECIAL_USERS},
    ),
]


class Page(Struct, Generic[Row]):
    """One page of a list. With a cursor, total, page and total_pages are null."""

    data: list[Row]
    total: int | None
    page: int | None
    page_size: int
    total_pages: int | None
    next_cursor: str | None
    total_capped: Maybe[
        Annotated[Literal[True], Meta(description="There are more than `total`: for a search of one or two letters")]
    ] = UNSET


class Everything(Struct, Generic[Row]):
    """A short list with all of its records."""

    data: list[Row]
    total: int
