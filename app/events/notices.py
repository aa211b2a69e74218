"""New notifications of people who have a live stream open."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Struct
from sqlalchemy import ARRAY, BigInteger, ColumnElement, Float, Select, Text, any_, bindparam, cast, func, select

from app.models import Notification
from app.records.transaction import Transaction
from app.web.event_stream import event as event_block

# A transaction has its time from its beginning, and may be open for so long. So the notifications of this time are read
# again and again, and what a stream has told, it does not tell again.
LATE_SECONDS = 15.0
# Looks are seldom further apart than this.
KNOWN_SECONDS = 60.0

c = Notification.__table__.c


def _since(seconds: ColumnElement[float]) -> ColumnElement[bool]:
    return c.at > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)


# Those that a person has when a stream begins.
KNOWN: ColumnElement[Any] = func.array(
    select(c.id)
    .where(c.user_id == bindparam("user_id", type_=Text), _since(bindparam("late", type_=Float)))
    .correlate(None)
    .scalar_subquery(),
    type_=ARRAY(BigInteger),
)
NEW: Select[Any] = (
    select(c.id, cast(c.user_id, Text), c.kind, c.at, c.resource_type, c.resource_id)
    .where(
        c.in_app,
        c.user_id == any_(bindparam("people", type_=ARRAY(Text))),
        _since(bindparam("seconds", type_=Float)),
    )
    .order_by(c.id)
)


class NotificationEvent(Struct):
    """Somebody was told something: whoever the stream is of. What it says, `GET /admin/me/notifications` does."""

    id: int
    kind: str
    at: datetime
    resource_type: str
    resource_id: int


class Notice(NamedTuple):
    """A new notification, for this person, as a stream sends it."""

    id: int
    person: str
    text: bytes


async def read_notices(tx: Transaction, people: list[str], seconds: float) -> list[Notice]:
    """The notifications of these people in so many seconds, and those before them that could be committed since then.

    `tx` is the service's own.
    """
    rows = await tx.connection.execute(NEW, {"people": people, "seconds": seconds + LATE_SECONDS})
    return [
        Notice(id_, person, event_block("notification", NotificationEvent(id_, *shown))) for id_, person, *shown in rows
    ]
