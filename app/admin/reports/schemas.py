"""Reports as JSON. Amounts are of the tenant's default currency; beside each stands the same by currency."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, Struct, field

from app.admin.deals.schemas import Deal
from app.web.paging import UserFilter
from app.web.structs import From, Maybe, Until

ByCurrency = dict[str, Decimal]
Share = Annotated[Decimal, Meta(description="From 0 to 1")]


class PeriodQuery(Struct, kw_only=True):
    """A report's period."""

    from_: Maybe[From] = field(default=UNSET, name="from")
    to: Maybe[Until] = UNSET


class DealReportQuery(PeriodQuery, kw_only=True):
    """By the deals' created_at, and their owners."""

    owner_id: Maybe[UserFilter] = UNSET


class ForecastBy(StrEnum):
    """How long a forecast's periods are."""

    MONTH = "month"
    QUARTER = "quarter"


class ForecastQuery(DealReportQuery, kw_only=True):
    """A range of whole days, by their months or quarters; at first this quarter and the next three."""

    by: Maybe[ForecastBy] = UNSET


class CustomerFigures(Struct):
    """How many customers there are."""

    total: int
    by_status: dict[str, int]


class DealFigures(Struct):
    """How many deals there are, and what they are worth."""

    total: int
    total_value: Decimal
    total_value_by_currency: ByCurrency
    won_value: Decimal
    won_value_by_currency: ByCurrency
    won_count: int
    lost_count: int
    open_count: int
    open_value: Decimal
    open_value_by_currency: ByCurrency
    weighted_value: Decimal
    weighted_value_by_currency: ByCurrency
    average_deal_size: Decimal
    average_deal_size_by_currency: ByCurrency
    by_stage: dict[str, int]


class ActivityFigures(Struct):
    """How many activities there are."""

    total: int
    scheduled: int
    completed: int
    overdue: int
    cancelled: int
    by_type: dict[str, int]


class TopCustomer(Struct):
    """One of the customers with the most valuable deals."""

    id: int
    name: str
    email: str | None
    company: str | None
    deals_count: int
    deals_value: Decimal


class Metrics(Struct):
    """The figures at the top of the page."""

    total_customers: int
    active_deals: int
    pipeline_value: Decimal
    pipeline_value_by_currency: ByCurrency
    activities_this_week: int
    customers_this_month: int
    won_deals_this_month: int


class StageFigures(Struct):
    """The deals that are in a stage now."""

    stage: str
    count: int
    value: Decimal
    value_by_currency: ByCurrency


class DayFigures(Struct):
    """The activities of a day, by type."""

    date: date
    count: int
    breakdown: dict[str, int]


class Performer(Struct):
    """One of the people who won most in the last 90 days."""

    id: int | str
    name: str | None
    email: str | None
    deals_closed: int
    pipeline_value: Decimal


class Overview(Struct):
    """Everything on one page."""

    customers: CustomerFigures
    deals: DealFigures
    activities: ActivityFigures
    recent_deals: list[Deal]
    top_customers: list[TopCustomer]
    metrics: Metrics
    deals_by_stage: list[StageFigures]
    activities_over_time: list[DayFigures]
    top_performers: list[Performer]


class StatusSum(Struct):
    """The deals of one status and currency."""

    status: str
    currency: str
    count: int
    total: Decimal
    average: Decimal


class DealSummary(Struct):
    """Deals by status and currency; the days to close are those of won deals."""

    by_status: list[StatusSum]
    new_deals_last_30_days: int
    average_days_to_close: Decimal | None


class FunnelStage(Struct):
    """How many deals came to a stage and stayed how long.

    `conversion` is the share of those in the open stage before it that came here or further.
    """

    stage: str
    display_name: str
    kind: str
    entered: int
    current: int
    value: Decimal
    value_by_currency: ByCurrency
    conversion: Share | None
    median_seconds: int | None
    p90_seconds: int | None


class Funnel(Struct):
    """Every stage in order."""

    stages: list[FunnelStage]


class ForecastPeriod(Struct):
    """What was won and lost in a period, and is expected in it, in one currency. Start and end are days of it; open
    deals without an expected_close_date are of the period `none`, those whose day is over of `overdue`.
    """

    period: str
    start: date | None
    end: date | None
    currency: str
    won_count: int = 0
    won_value: Decimal = Decimal(0)
    open_count: int = 0
    open_value: Decimal = Decimal(0)
    weighted_value: Decimal = Decimal(0)
    lost_count: int = 0
    lost_value: Decimal = Decimal(0)


class Forecast(Struct):
    """Every period of the range, for every currency that occurs."""

    periods: list[ForecastPeriod]


class TeamMember(Struct):
    """What one person has going, and has done in the period; the id is null for what belongs to no one."""

    id: int | str | None
    name: str | None
    email: str | None
    open_deals: int
    open_value: Decimal
    open_value_by_currency: ByCurrency
    won_count: int
    won_value: Decimal
    won_value_by_currency: ByCurrency
    lost_count: int
    win_rate: Share | None
    average_days_to_close: Decimal | None
    activities_completed: int
    activities_overdue: int


class Team(Struct):
    """The people, those who won most first. An agent sees its own row."""

    data: list[TeamMember]
