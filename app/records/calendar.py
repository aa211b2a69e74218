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

# Asked once in a statement, by a subselect of its own.
TODAY_SQL = "(SELECT date_trunc('day', now() AT TIME ZONE timezone) AT TIME ZONE 'UTC' FROM settings)"
TODAY: ColumnElement[datetime] = literal_column(TODAY_SQL, DateTime(timezone=True))


def at_midnight(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a time is that of a whole day, where no column says so."""
    return cast(func.timezone(literal_column("'UTC'"), column), Time) == literal_column("'00:00'")


DAY = timedelta(days=1)
LAST_OF_ALL = datetime.max.replace(tzinfo=UTC)
_ZONE = select(TenantSettings.timezone)


async def zone_of(tx: Transaction) -> ZoneInfo:
    """The tenant's timezone."""
    return ZoneInfo((await tx.connection.execute(_ZONE)).scalar_one())


def day_of(moment: datetime, zone: ZoneInfo) -> date:
    """The calendar day that a moment is in."""
    try:
        return moment.astimezone(zone).date()
    except OverflowError:  # the ends of the calendar
        return moment.date()


def midnight(day: date) -> datetime:
    """How a whole day is stored."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


class Bound(NamedTuple):
    """Where a period begins or ends: for what happens at a moment, and for what has a whole day.

    `suffices` says that the moment alone decides about whole days, too: no midnight is between the two.
    """

    moment: datetime
    midnight: datetime
    suffices: bool


def lower_bound(text: str, zone: ZoneInfo) -> Bound:
    """From a moment on, or from a bare date on, which is a day of this timezone."""
    moment, day = _bound(text, zone, first_moment)
    return Bound(moment, day, timedelta() <= day - moment < DAY)


def upper_bound(text: str, zone: ZoneInfo) -> Bound:
    """Until a moment, or until the end of a bare date."""
    moment, day = _bound(text, zone, last_moment)
    return Bound(moment, day, timedelta() <= moment - day < DAY)


def _bound(text: str, zone: ZoneInfo, moment_of: Callable[[date, ZoneInfo], datetime]) -> tuple[datetime, datetime]:
    moment = read_time(text)
    if isinstance(moment, BareDate):
        return moment_of(moment.date(), zone), midnight(moment)
    return moment, midnight(day_of(moment, zone))


def first_moment(day: date, zone: ZoneInfo) -> datetime:
    """When a day begins; where its midnight is skipped or comes twice, the first moment that is that day."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def last_moment(day: date, zone: ZoneInfo) -> datetime:
    """When a day ends, to the microsecond."""
    after = next_moment(day, zone)
    return after if after == LAST_OF_ALL else after - timedelta(microseconds=1)


def next_moment(day: date, zone: ZoneInfo) -> datetime:
    """When a day is over; after the calendar's last one nothing comes."""
    try:
        return first_moment(day + timedelta(days=1), zone)
    except OverflowError:
        return LAST_OF_ALL
