"""The forecast: what was closed and what is expected to be, by period."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import MAXYEAR, UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from msgspec import UNSET, Struct

from app.admin.reports import from_sums
from app.admin.reports.rows import PeriodRow
from app.admin.reports.schemas import Forecast, ForecastBy, ForecastPeriod, ForecastQuery
from app.admin.reports.service import money, people_of
from app.records.calendar import day_of, lower_bound, upper_bound, zone_of
from app.records.transaction import Transaction
from app.web.errors import Fault, invalid

MOST_PERIODS = 120
QUARTER = 3  # months


class Period(Struct):
    """A part of the range, or what is of none; `place` is what the database calls it."""

    place: int | None
    name: str
    start: date | None = None
    end: date | None = None


class Span(NamedTuple):
    """What a forecast is about: up to the last day, period by period."""

    zone: ZoneInfo
    today: date
    last: date
    periods: list[Period]


async def span_of(tx: Transaction, query: ForecastQuery) -> Span:
    """Raises AppError for a range of too many periods, or of no day."""
    by = ForecastBy.QUARTER if query.by is UNSET else query.by
    zone = await zone_of(tx)
    today = day_of(datetime.now(UTC), zone)
    first = _first_of(today, QUARTER) if query.from_ is UNSET else lower_bound(query.from_, zone).midnight.date()
    year = _last_of(_later(_first_of(first, QUARTER), 3 * QUARTER), QUARTER)
    last = year if query.to is UNSET else upper_bound(query.to, zone).midnight.date()
    if last < first:
        raise invalid(Fault("to", "must not be before from"))
    return Span(zone, today, last, [Period(-1, "overdue"), *_periods(first, last, by), Period(None, "none")])


async def forecast(tx: Transaction, query: ForecastQuery) -> Forecast:
    """By the days of the tenant's timezone. Raises AppError for a range of too many periods, or of no day."""
    zone, today, last, shown = await span_of(tx, query)
    starts = [period.start for period in shown if period.start is not None]
    people = people_of(tx, query)
    rows = await from_sums.period_rows(tx, starts, last, today, zone, people)
    places = {period.place for period in shown}
    sums = {(row.place, row.currency, row.kind): row for row in rows if row.place in places}
    currencies = sorted({currency for _, currency, _ in sums})
    return Forecast([_figures(period, currency, sums) for period in shown for currency in currencies])


def _periods(first: date, last: date, by: ForecastBy) -> Iterator[Period]:
    """The months or quarters that the range touches, each as far as it does."""
    months = QUARTER if by is ForecastBy.QUARTER else 1
    start = first
    for place in range(1, MOST_PERIODS + 1):
        whole, end = _first_of(start, months), _last_of(start, months)
        name = f"{start.year:04}-Q{whole.month // QUARTER + 1}" if months == QUARTER else start.isoformat()[:7]
        yield Period(place, name, start, min(end, last))
        if end >= last:
            return
        start = end + timedelta(days=1)
    raise invalid(Fault("to", f"is too far from `from`: at most {MOST_PERIODS} periods are shown"))


def _figures(period: Period, currency: str, sums: dict[tuple[int | None, str, str], PeriodRow]) -> ForecastPeriod:
    won, open_, lost = (
        sums.get((period.place, currency, kind), PeriodRow(period.place, currency, kind))
        for kind in ("won", "open", "lost")
    )
    return ForecastPeriod(
        period=period.name,
        start=period.start,
        end=period.end,
        currency=currency,
        won_count=won.count,
        won_value=money(won.value, currency),
        open_count=open_.count,
        open_value=money(open_.value, currency),
        weighted_value=money(open_.weighted, currency),
        lost_count=lost.count,
        lost_value=money(lost.value, currency),
    )


def _first_of(day: date, months: int) -> date:
    """The first day of the month, or the quarter, that a day is in."""
    return date(day.year, (day.month - 1) // months * months + 1, 1)


def _last_of(day: date, months: int) -> date:
    """The last day of it."""
    after = _later(_first_of(day, months), months)
    return after if after == date.max else after - timedelta(days=1)


def _later(day: date, months: int) -> date:
    """The first day of the month that comes so many months later, or the calendar's last."""
    years, month = divmod(day.month - 1 + months, 12)
    return date.max if day.year + years > MAXYEAR else date(day.year + years, month + 1, 1)
