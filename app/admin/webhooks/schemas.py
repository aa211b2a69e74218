"""Webhooks as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, Struct, field

from app.admin.events.schemas import EventPattern
from app.events.types import check_pattern
from app.events.webhooks.attempts import Attempt
from app.web.paging import ListQuery
from app.web.structs import MAX_ID, Body, From, Maybe, Until, View, ViewType
from app.web.text import LINE

MOST_PATTERNS = 50
# Of one request, since it is done at once.
MOST_REPLAYED = 10_000

WebhookUrl = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=2000,
        **LINE,
        description="In production https. Its host must have public addresses only",
        examples=["https://erp.example/crm-events"],
    ),
]


def check_patterns(patterns: list[str]) -> list[str]:
    """The patterns, each of them once. Raises Refused if no type matches one."""
    return [check_pattern(pattern) for pattern in dict.fromkeys(patterns)]


Patterns = Annotated[
    list[Annotated[str, Meta(max_length=64)]],
    Meta(
        extra={"check": check_patterns, "choice": True},
        min_length=1,
        max_length=MOST_PATTERNS,
        description="Types of events, or patterns such as `deal.*`, `*.deleted` and `*`",
        examples=[["deal.won", "customer.*"]],
    ),
]


class Webhook(View):
    """Where events of some types are sent. The secret is shown once, when it is made: elsewhere it is null.
    `failing_since` is when the first of the attempts failed that have failed without a success since.
    """

    id: int
    url: str
    types: list[str]
    description: str | None
    is_active: bool
    secret: str | None
    secret_changed_at: datetime
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int


class WebhookChange(Body, kw_only=True):
    """The fields of a webhook that can be written. One that is switched on again gets what happens from then on."""

    view: ClassVar[ViewType] = Webhook

    url: Maybe[WebhookUrl] = UNSET
    types: Maybe[Patterns] = UNSET
    description: Maybe[Annotated[str, Meta(max_length=1000, **LINE, examples=["Our ERP"])] | None] = UNSET
    is_active: Maybe[bool] = UNSET


class WebhookCreate(WebhookChange, kw_only=True):
    """A new webhook. It gets what happens from then on."""

    url: WebhookUrl
    types: Patterns


class DeliveryStatus(StrEnum):
    """What became of a delivery. One that is pending has not been sent yet, or is tried again."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class DeliverySort(StrEnum):
    """Lists of deliveries have one order."""

    CREATED_AT = "created_at"


class Delivery(View):
    """One event for one webhook. `message_id` is the header `webhook-id` of each attempt. `attempts` are the newest 25,
    in order.
    """

    id: int
    message_id: str
    type: str
    sequence: int
    resource_type: str
    resource_id: int
    status: DeliveryStatus
    attempts: list[Attempt]
    next_attempt_at: datetime | None
    created_at: datetime
    finished_at: datetime | None


class DeliveryQuery(ListQuery):
    """Filters of a list of deliveries."""

    sort_by: Maybe[DeliverySort] = UNSET
    status: Maybe[list[DeliveryStatus]] = UNSET
    type: Maybe[list[EventPattern]] = UNSET
    from_: Maybe[From] = field(default=UNSET, name="from")
    to: Maybe[Until] = UNSET


class WebhookTest(Struct):
    """What a receiver answered to a test. `status` is null where there was no whole answer; `error` says why it is no
    success; `response` is the first KiB of the answer.
    """

    status: int | None
    duration_ms: int
    response: str | None
    error: str | None


class ReplayRange(Body, kw_only=True):
    """Two sequences: what is between them is sent again, without the two themselves."""

    after: Annotated[int, Meta(ge=0, le=MAX_ID, examples=[1200])]
    before: Annotated[int, Meta(ge=1, le=MAX_ID, examples=[1300])]


class Replayed(Struct):
    """How many events are on their way again."""

    deliveries: int
