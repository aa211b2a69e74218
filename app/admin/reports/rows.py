"""What each report is made from: its sums, by whatever they were added up."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from msgspec import Struct, field

from app.admin.reports import schemas


class StageRow(Struct):
    """A stage of the tenant."""

    id: int
    name: str
    kind: str
    display_name: str = ""
    order: int = 0


class CustomerRow(Struct):
    """Customers of one status."""

    status: str
    count: int
    this_month: int


class DealRow(Struct):
    """Deals of one stage and currency."""

    stage_id: int
    currency: str
    count: int
    value: Decimal
    weighted: Decimal
    closed_this_month: int


class ActivityRow(Struct):
    """Activities of one type and status."""

    type: str
    status: str
    count: int
    this_week: int


class DayRow(Struct):
    """Activities of one day and type."""

    date: date
    type: str
    count: int


class OverviewRows(Struct):
    """The sums of the overview."""

    currency: str
    today: date
    stages: list[StageRow]
    customers: list[CustomerRow]
    deals: list[DealRow]
    activities: list[ActivityRow]
    days: list[DayRow]
    top_customers: list[schemas.TopCustomer]
    top_performers: list[schemas.Performer]


class FunnelRow(Struct):
    """The sums of one stage of the funnel."""

    stage: str
    display_name: str
    kind: str
    first: bool
    entered: int
    came_from: int
    came_on: int
    current: int
    values: dict[str, Decimal]
    seconds: list[float] | None


class FunnelRows(Struct):
    """The sums of the funnel."""

    currency: str
    stages: list[FunnelRow]


class ClosingRow(Struct):
    """Deals of one kind and currency; `dated` have a closing date, and took so many seconds."""

    currency: str
    kind: str
    count: int
    value: Decimal
    dated: int
    seconds: Decimal | None


class SummaryRows(Struct):
    """The sums of the summary, of one currency and kind or of parts of it; `fresh` are of the last 30 days."""

    sums: list[ClosingRow]
    fresh: int


class PersonRow(Struct):
    """The sums of one person in the team's report."""

    id: int | str | None
    name: str | None
    email: str | None
    completed: int
    overdue: int
    closings: list[ClosingRow] = field(default_factory=list)


class TeamRows(Struct):
    """The sums of the team's report."""

    currency: str
    people: list[PersonRow]


class PeriodRow(Struct):
    """Deals of one period of the forecast, of one currency and kind."""

    place: int | None
    currency: str
    kind: str
    count: int = 0
    value: Decimal = Decimal(0)
    weighted: Decimal = Decimal(0)
