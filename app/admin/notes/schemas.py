"""Notes as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta

from app.admin.bulk import Action, BulkChange
from app.admin.nested import CustomerBrief, DealBrief, ProjectBrief
from app.web.paging import Deleted, ListQuery, Search, UserFilter
from app.web.structs import Body, ExternalId, MadeAt, Maybe, RecordId, View, ViewType
from app.web.text import REQUIRED_TEXT

Content = Annotated[str, Meta(max_length=20_000, **REQUIRED_TEXT, examples=["Prefers short messages."])]


class Note(View):
    """What somebody wants to be remembered of a customer, a deal, an activity or a project."""

    id: int
    content: str
    customer_id: int | None
    deal_id: int | None
    activity_id: int | None
    project_id: int | None
    author_id: int | str
    author_name: str | None
    customer: CustomerBrief | None
    deal: DealBrief | None
    project: ProjectBrief | None
    external_id: str | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    version: int


class NoteChange(Body, kw_only=True):
    """The fields of a note that can be written."""

    view: ClassVar[ViewType] = Note

    content: Maybe[Content] = UNSET
    customer_id: Maybe[RecordId | None] = UNSET
    deal_id: Maybe[RecordId | None] = UNSET
    activity_id: Maybe[RecordId | None] = UNSET
    project_id: Maybe[RecordId | None] = UNSET
    external_id: Maybe[ExternalId | None] = UNSET


class NoteCreate(NoteChange, kw_only=True):
    """A new note, by the bearer of the token."""

    content: Content
    created_at: Maybe[MadeAt | None] = UNSET


class NoteSort(StrEnum):
    """What a list of notes can be sorted by."""

    CREATED_AT = "created_at"


class NestedNoteQuery(ListQuery):
    """Filters of the notes of a customer, a deal or a project."""

    sort_by: Maybe[NoteSort] = UNSET
    author_id: Maybe[UserFilter] = UNSET
    external_id: Maybe[list[ExternalId]] = UNSET
    search: Maybe[Search] = UNSET
    deleted: Maybe[Deleted] = UNSET


class NoteQuery(NestedNoteQuery):
    """Filters of all notes."""

    customer_id: Maybe[list[RecordId]] = UNSET
    deal_id: Maybe[list[RecordId]] = UNSET
    activity_id: Maybe[list[RecordId]] = UNSET
    project_id: Maybe[list[RecordId]] = UNSET


class NoteBulk(BulkChange, kw_only=True):
    """Which notes, and what to do to each of them."""

    query: ClassVar[type[ListQuery]] = NoteQuery
    values_of: ClassVar[Mapping[str, type[Body]]] = {"update": NoteChange}

    action: Action
