"""What the search over everything takes and answers."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, Struct

from app.web.structs import Maybe
from app.web.text import SEARCH


class SearchType(StrEnum):
    """The kinds of record that are found."""

    CUSTOMER = "customer"
    CONTACT = "contact"
    DEAL = "deal"
    PROJECT = "project"
    ACTIVITY = "activity"
    NOTE = "note"


class SearchQuery(Struct, kw_only=True):
    """What is looked for, and where."""

    q: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=255,
            description="Words that must all be found in a record, as in the `search` of lists",
            examples=["lovelace"],
            **SEARCH,
        ),
    ]
    types: Maybe[list[SearchType]] = UNSET
    limit: Maybe[Annotated[int, Meta(ge=1, le=10**9, description="20 unless given. Over 100 counts as 100")]] = UNSET


class MatchedField(StrEnum):
    """Where the words were found. `customer` is the name of the customer that a deal belongs to."""

    NAME = "name"
    EMAIL = "email"
    COMPANY = "company"
    PHONE = "phone"
    TITLE = "title"
    CUSTOMER = "customer"
    CONTENT = "content"


class Found(Struct):
    """A record that was found: its name or title, or a part of a note, and a line that tells it from others."""

    type: SearchType
    id: int
    title: str
    subtitle: str | None
    matched: MatchedField
    updated_at: datetime


class SearchResults(Struct):
    """The best records, best first."""

    data: list[Found]
