"""People as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import UNSET

from app.web.paging import ListQuery, Search, UserFilter
from app.web.structs import Maybe, View


class User(View):
    """A person who may be given customers to look after."""

    id: int | str
    name: str | None
    email: str | None
    role: str
    last_seen_at: datetime


class UserSort(StrEnum):
    """What a list of people can be sorted by."""

    NAME = "name"
    EMAIL = "email"
    LAST_SEEN_AT = "last_seen_at"


class UserQuery(ListQuery):
    """Filter and order of a list of people."""

    sort_by: Maybe[UserSort] = UNSET
    id: Maybe[UserFilter] = UNSET
    search: Maybe[Search] = UNSET
