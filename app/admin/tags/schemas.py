"""Tags as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta

from app.web.structs import Body, Color, Maybe, View, ViewType
from app.web.text import NAME

TagName = Annotated[str, Meta(max_length=100, **NAME, description="Unique whatever its case", examples=["VIP"])]


class Tag(View):
    """A label for customers; customer_count counts those that are not in the trash."""

    id: int
    name: str
    color: str | None
    customer_count: int
    created_at: datetime
    updated_at: datetime
    version: int


class TagChange(Body, kw_only=True):
    """The fields of a tag that can be written."""

    view: ClassVar[ViewType] = Tag

    name: Maybe[TagName] = UNSET
    color: Maybe[Color | None] = UNSET


class TagCreate(TagChange, kw_only=True):
    """A new tag."""

    name: TagName
