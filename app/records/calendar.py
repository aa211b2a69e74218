"""What day it is for a tenant. A whole day is stored as that day's midnight in UTC, whatever the tenant's timezone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, DateTime, Time, cast, func, literal_column, select

from app.models import TenantSettings
from app.records.transaction import Transaction
from app.web.fields import BareDate, read_time

# The start of the current day. A subselect, so that each statement works it out once.
TODAY_SQL = "(SELECT date_trunc('day', now() AT TIME ZONE timezone) AT TIME ZONE 'UTC' FROM settings)"
TODAY: ColumnElement[datetime] = literal_column(TODAY_SQL, DateTime(timezone=True))


def at_midnight(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a time is midnight in UTC: how whole days are stored in columns that have no all_day beside them."""
    return cast(func.timezone(literal_column("'UTC'"), column), Time) == literal_column("'00:00'")


DAY = timedelta(days=1)
LAST_OF_ALL = datetime.max.replace(tzinfo=UTC)
_ZONE = select(TenantSettings.timezone)


async def zone_of(tx: Transaction) -> ZoneInfo:
    """The tenant's timezone."""
    return ZoneInfo((await tx.connection.execute(_ZONE)).scalar_one())


class Zone:
    """The tenant's timezone, for a transaction that reads it once, when it is needed."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._known: ZoneInfo | None = None

    async def get(self) -> ZoneInfo:
        """The timezone."""
        if self._known is None:
            self._known = await zone_of(self._tx)
        return self._known


def day_of(moment: datetime, zone: ZoneInfo) -> date:
    """The calendar day of a moment in this timezone."""
    try:
        return moment.astimezone(zone).date()
    except OverflowError:  # the ends of the calendar
        return moment.date()


def midnight(day: date) -> datetime:
    """How a whole day is stored."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


class Bound(NamedTuple):
    """Where a period begins or ends: as a moment, and as the midnight that a whole day is compared with.

    `suffices` says that comparing with the moment is right for whole days, too: no midnight lies between the two.
    """

    moment: datetime
    midnight: datetime
    suffices: bool


def lower_bound(text: str, zone: ZoneInfo) -> Bound:
    """The lower bound from a moment, or from a bare date, which is a day of this timezone."""
    moment, day = _bound(text, zone, first_moment)
    return Bound(moment, day, timedelta() <= day - moment < DAY)


def upper_bound(text: str, zone: ZoneInfo) -> Bound:
    """The upper bound from a moment, or from a bare date, whose day still counts."""
    moment, day = _bound(text, zone, last_moment)
    return Bound(moment, day, timedelta() <= moment - day < DAY)


def _bound(text: str, zone: ZoneInfo, moment_of: Callable[[date, ZoneInfo], datetime]) -> tuple[datetime, datetime]:
    moment = read_time(text)
    if isinstance(moment, BareDate):
        return moment_of(moment.date(), zone), midnight(moment)
    return moment, midnight(day_of(moment, zone))


def first_moment(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a day, also where clocks change at its midnight."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def last_moment(day: date, zone: ZoneInfo) -> datetime:
    """The last microsecond of a day."""
    after = next_moment(day, zone)
    return after if after == LAST_OF_ALL else after - timedelta(microseconds=1)


def next_moment(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of the next day; for the last day of the calendar, its end."""
    try:
        return first_moment(day + timedelta(days=1), zone)
    except OverflowError:
        return LAST_OF_ALL
