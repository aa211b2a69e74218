"""Pipeline stages as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta

from app.web.structs import Body, Color, Maybe, RecordId, View, ViewType
from app.web.text import LINE, NAME

# The look-ahead: in Python, $ would let a newline follow.
SLUG = "^[a-z0-9]+(?:[_-][a-z0-9]+)*$(?!\n)"
StageName = Annotated[str, Meta(min_length=1, max_length=50, pattern=SLUG, examples=["demo_held"], extra=LINE["extra"])]
DisplayName = Annotated[str, Meta(max_length=100, **NAME, examples=["Demo held"])]
Percent = Annotated[int, Meta(ge=0, le=100, description="Per cent", examples=[40])]


class StageKind(StrEnum):
    """Whether deals in a stage are still open."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


class PipelineStage(View):
    """A step of the pipeline; deals know it by its name."""

    id: int
    name: str
    display_name: str
    order: int
    color: str
    is_active: bool
    kind: StageKind
    probability: int
    created_at: datetime
    updated_at: datetime
    version: int


class PipelineStageChange(Body, kw_only=True):
    """The fields of a stage that can be written."""

    view: ClassVar[ViewType] = PipelineStage

    name: Maybe[StageName] = UNSET
    display_name: Maybe[DisplayName] = UNSET
    order: Maybe[Annotated[int, Meta(ge=1, le=10_000, description="Its place; the others make room")]] = UNSET
    color: Maybe[Color] = UNSET
    is_active: Maybe[bool] = UNSET
    kind: Maybe[StageKind] = UNSET
    probability: Maybe[Percent] = UNSET


class PipelineStageCreate(PipelineStageChange, kw_only=True):
    """A new stage. Without an order it goes before the first closed one."""

    name: StageName
    display_name: DisplayName


class StageOrder(Body, kw_only=True):
    """Every stage's id exactly once, in the new order."""

    ids: Annotated[list[RecordId], Meta(max_length=10_000, examples=[[3, 1, 2]])]
