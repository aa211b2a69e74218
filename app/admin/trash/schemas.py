"""The trash as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import UNSET, Struct

from app.records.audit_values import ResourceType
from app.web.paging import ListQuery
from app.web.structs import Maybe, View


class TrashSort(StrEnum):
    """The trash has one order."""

    DELETED_AT = "deleted_at"


class Deleter(Struct):
    """The person who put a record into the trash."""

    id: int | str
    name: str | None


class Trashed(View):
    """A record in the trash. `title` is its name, or the beginning of its text."""

    type: ResourceType
    id: int
    title: str
    deleted_at: datetime
    deleted_by: Deleter | None


class TrashQuery(ListQuery):
    """Which kinds of record."""

    sort_by: Maybe[TrashSort] = UNSET
    type: Maybe[list[ResourceType]] = UNSET
