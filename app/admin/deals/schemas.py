"""Deals as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta

from app.admin.activities.schemas import Activity
from app.admin.bulk import BulkChange, OwnedAction
from app.admin.nested import ContactBrief, CustomerBrief
from app.admin.notes.schemas import Note
from app.admin.pipeline_stages.schemas import Percent
from app.money import AMOUNT_LIMIT
from app.web.currency import Currency
from app.web.fields import Refused
from app.web.paging import Deleted, ListQuery, Search, UserFilter
from app.web.structs import Body, ExternalId, From, MadeAt, Maybe, RecordId, Time, Until, UserId, View, ViewType
from app.web.text import LINE, NAME, TEXT


def check_amount(amount: Decimal) -> Decimal:
    """The amount as it is; how many decimals it may have is the currency's business. Raises Refused."""
    if not 0 <= amount < AMOUNT_LIMIT:
        raise Refused(f"must be from 0 to below {AMOUNT_LIMIT}")
    return amount


Amount = Annotated[
    Decimal,
    Meta(
        description="Exact, with at most the currency's own decimals",
        examples=[1500.00],
        extra={"check": check_amount},
        extra_json_schema={"minimum": 0, "exclusiveMaximum": AMOUNT_LIMIT},
    ),
]
Title = Annotated[str, Meta(max_length=255, **NAME, examples=["Difference engine, 2 pieces"])]
StageReference = Annotated[
    str,
    Meta(
        max_length=50,
        description="A stage's name",
        examples=["proposal"],
        extra={**LINE["extra"], "choice": True},
        extra_json_schema=LINE["extra_json_schema"],
    ),
]
StageFilter = Annotated[list[Annotated[str, Meta(max_length=50)]], Meta(description="Stage names, comma-separated")]


class DealStatus(StrEnum):
    """The kind of stage that a deal is in."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


class DealSort(StrEnum):
    """What a list of deals can be sorted by."""

    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    TITLE = "title"
    AMOUNT = "amount"
    EXPECTED_CLOSE_DATE = "expected_close_date"
    STAGE = "stage"


class Deal(View):
    """Something that a customer may buy."""

    id: int
    title: str
    description: str | None
    customer_id: int
    contact_id: int | None
    stage: str
    status: DealStatus
    amount: Decimal
    currency: str
    probability: int
    expected_close_date: datetime | None
    actual_close_date: datetime | None
    owner_id: int | str | None
    lost_reason: str | None
    stage_entered_at: datetime
    customer: CustomerBrief | None
    contact: ContactBrief | None
    external_id: str | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    version: int


class StageMove(View):
    """How long a deal was in a stage: from_stage is null for the first, left_at and seconds for the present one.
    `reason` says why a deal was lost.
    """

    id: int
    from_stage: str | None
    to_stage: str
    user_id: int | str | None
    user_name: str | None
    entered_at: datetime
    left_at: datetime | None
    seconds: int | None
    reason: str | None


class DealDetail(Deal):
    """A deal with its activities, notes and moves: the 50 newest activities and notes (fewer where they are more than a
    mebibyte of JSON together), and the last 1,000 moves, the oldest first.
    """

    activities: list[Activity]
    notes: list[Note]
    stage_history: list[StageMove]


class DealChange(Body, kw_only=True):
    """The fields of a deal that can be written. Another stage is a move."""

    view: ClassVar[ViewType] = DealDetail

    title: Maybe[Title] = UNSET
    description: Maybe[Annotated[str, Meta(max_length=10_000, **TEXT)] | None] = UNSET
    customer_id: Maybe[RecordId] = UNSET
    contact_id: Maybe[RecordId | None] = UNSET
    stage: Maybe[StageReference] = UNSET
    amount: Maybe[Amount] = UNSET
    currency: Maybe[Currency] = UNSET
    probability: Maybe[Percent] = UNSET
    expected_close_date: Maybe[Time | None] = UNSET
    actual_close_date: Maybe[Time | None] = UNSET
    owner_id: Maybe[UserId | None] = UNSET
    lost_reason: Maybe[Annotated[str, Meta(max_length=255, **LINE)] | None] = UNSET
    external_id: Maybe[ExternalId | None] = UNSET


class DealCreate(DealChange, kw_only=True):
    """A new deal: in the first open stage, with the tenant's currency, and its creator's, unless given."""

    title: Title
    customer_id: RecordId
    created_at: Maybe[MadeAt | None] = UNSET


class DealQuery(ListQuery):
    """Filters and order of a list of deals."""

    sort_by: Maybe[DealSort] = UNSET
    stage: Maybe[StageFilter] = UNSET
    owner_id: Maybe[UserFilter] = UNSET
    customer_id: Maybe[list[RecordId]] = UNSET
    currency: Maybe[list[Currency]] = UNSET
    external_id: Maybe[list[ExternalId]] = UNSET
    search: Maybe[Search] = UNSET
    amount_min: Maybe[Amount] = UNSET
    amount_max: Maybe[Amount] = UNSET
    expected_close_from: Maybe[From] = UNSET
    expected_close_to: Maybe[Until] = UNSET
    created_from: Maybe[From] = UNSET
    created_to: Maybe[Until] = UNSET
    idle_since: Maybe[
        Annotated[From, Meta(description="Neither the deal nor one of its activities or notes changed since then")]
    ] = UNSET
    status: Maybe[list[DealStatus]] = UNSET
    deleted: Maybe[Deleted] = UNSET


class DealOwner(Body):
    """Who gets a deal."""

    owner_id: UserId | None


class DealBulk(BulkChange, kw_only=True):
    """Which deals, and what to do to each of them."""

    query: ClassVar[type[ListQuery]] = DealQuery
    values_of: ClassVar[Mapping[str, type[Body]]] = {"update": DealChange, "reassign": DealOwner}

    action: OwnedAction
