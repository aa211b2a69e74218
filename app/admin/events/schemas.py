"""The change feed as JSON."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct

from app.events.feed import Event
from app.events.types import check_pattern
from app.records.audit_values import ResourceType
from app.web.structs import MAX_ID, Maybe

MOST_EVENTS = 1000
USUAL_EVENTS = 100
LONGEST_WAIT = 30

EventPattern = Annotated[str, Meta(max_length=64, extra={"check": check_pattern})]


class EventQuery(Struct, kw_only=True):
    """Which events, and how long to wait for one."""

    after: Maybe[
        Annotated[
            int,
            Meta(
                ge=0,
                le=MAX_ID,
                description="The last sequence that you have seen; 0 is the beginning. Without it, only"
                " last_sequence is answered: where to go on from now",
            ),
        ]
    ] = UNSET
    limit: Annotated[int, Meta(ge=1, le=MOST_EVENTS, description=f"How many at most; {USUAL_EVENTS} by default")] = (
        USUAL_EVENTS
    )
    types: Maybe[
        Annotated[
            list[EventPattern],
            Meta(description="Any of these types, comma-separated; `deal.*` and `*.deleted` are patterns"),
        ]
    ] = UNSET
    resource_type: Maybe[list[ResourceType]] = UNSET
    wait: Annotated[
        int,
        Meta(
            ge=0,
            le=LONGEST_WAIT,
            description="Where there is nothing yet: answer as soon as there is, or after so many seconds",
        ),
    ] = 0


class Events(Struct):
    """Events, oldest first. `last_sequence` is the organization's newest, whatever was asked for. If `has_more` is
    true, go on after the last event here, else after `last_sequence`.
    """

    data: list[Event]
    last_sequence: int
    has_more: bool
