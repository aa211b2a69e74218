"""Makes each report from the sums of its statement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from msgspec import UNSET, Struct, field, json

from app.access.permissions import Permission
from app.admin.activities.schemas import ActivityStatus, ActivityType
from app.admin.customers.schemas import CustomerStatus
from app.admin.reports import queries, schemas
from app.admin.reports.schemas import ByCurrency, DealReportQuery, PeriodQuery
from app.money import currency_decimals
from app.records.calendar import lower_bound, upper_bound, zone_of
from app.records.filters import named_people
from app.records.transaction import Transaction

DAYS = 30


class StageRow(Struct):
    """A stage of the tenant."""

    id: int
    name: str
    kind: str


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
    """One person's deals of one kind and currency."""

    currency: str
    kind: str
    count: int
    value: Decimal
    dated: int
    seconds: Decimal | None


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


async def overview(tx: Transaction) -> schemas.Overview:
    """The overview of everything."""
    statement = queries.OVERVIEW_OF_OWN if tx.own_records_only else queries.OVERVIEW
    figures, recent_deals = (await tx.connection.execute(statement)).one()
    rows = json.decode(figures, type=OverviewRows)
    kinds = {stage.id: stage.kind for stage in rows.stages}
    live = rows.deals
    won, lost, open_ = ([row for row in live if kinds[row.stage_id] == kind] for kind in ("won", "lost", "open"))
    values = {name: _by_currency(part) for name, part in (("total", live), ("won", won), ("open", open_))}
    weighted = _rounded(_summed((row.currency, row.weighted) for row in open_))
    counts = _summed((row.currency, row.count) for row in live)
    average = _rounded({currency: total / counts[currency] for currency, total in values["total"].items()})
    home = rows.currency
    customers = Counter({row.status: row.count for row in rows.customers})
    in_stage = Counter[int]()
    for row in live:
        in_stage[row.stage_id] += row.count
    return schemas.Overview(
        customers=schemas.CustomerFigures(customers.total(), {str(s): customers[s] for s in CustomerStatus}),
        deals=schemas.DealFigures(
            total=_count(live),
            total_value=values["total"].get(home, Decimal(0)),
            total_value_by_currency=values["total"],
            won_value=values["won"].get(home, Decimal(0)),
            won_value_by_currency=values["won"],
            won_count=_count(won),
            lost_count=_count(lost),
            open_count=_count(open_),
            open_value=values["open"].get(home, Decimal(0)),
            open_value_by_currency=values["open"],
            weighted_value=weighted.get(home, Decimal(0)),
            weighted_value_by_currency=weighted,
            average_deal_size=average.get(home, Decimal(0)),
            average_deal_size_by_currency=average,
            by_stage={stage.name: in_stage[stage.id] for stage in rows.stages},
        ),
        activities=_activities(rows.activities),
        recent_deals=recent_deals,
        top_customers=rows.top_customers,
        metrics=schemas.Metrics(
            total_customers=customers.total(),
            active_deals=_count(open_),
            pipeline_value=values["open"].get(home, Decimal(0)),
            pipeline_value_by_currency=values["open"],
            activities_this_week=sum(row.this_week for row in rows.activities),
            customers_this_month=sum(row.this_month for row in rows.customers),
            won_deals_this_month=sum(row.closed_this_month for row in won),
        ),
        deals_by_stage=[
            schemas.StageFigures(stage.name, in_stage[stage.id], here.get(home, Decimal(0)), here)
            for stage in rows.stages
            for here in [_by_currency(row for row in live if row.stage_id == stage.id)]
        ],
        activities_over_time=_days(rows.today, rows.days),
        top_performers=rows.top_performers,
    )


async def summary(tx: Transaction, query: DealReportQuery) -> schemas.DealSummary:
    """Deals by status and currency."""
    found = await tx.connection.execute(queries.SUMMARY, await _chosen(tx, query))
    report = json.decode(found.scalar_one(), type=schemas.DealSummary)
    for row in report.by_status:
        row.total, row.average = (money(amount, row.currency) for amount in (row.total, row.average))
    return report


async def funnel(tx: Transaction, query: DealReportQuery) -> schemas.Funnel:
    """Every stage, in order, from the stage history."""
    statement = queries.FUNNEL_OF_ALL if query == DealReportQuery() else queries.FUNNEL
    found = await tx.connection.execute(statement, await _chosen(tx, query))
    rows = json.decode(found.scalar_one(), type=FunnelRows)
    return schemas.Funnel([_funnel_stage(row, rows.currency) for row in rows.stages])


async def team(tx: Transaction, query: PeriodQuery) -> schemas.Team:
    """The report for all people; for an agent, only for itself."""
    only = None if tx.actor.can(Permission.MANAGE_ALL) else tx.actor.user_id
    found = await tx.connection.execute(queries.TEAM, await _period(tx, query) | {"only": only})
    rows = json.decode(found.scalar_one(), type=TeamRows)
    members = [_member(person, rows.currency) for person in rows.people]
    return schemas.Team(
        sorted(members, key=lambda m: (m.id is None, -m.won_value, -m.won_count, m.name or "", str(m.id)))
    )


def _activities(rows: list[ActivityRow]) -> schemas.ActivityFigures:
    by_status, by_type = Counter[str](), Counter[str]()
    for row in rows:
        by_status[row.status] += row.count
        by_type[row.type] += row.count
    return schemas.ActivityFigures(
        total=by_type.total(),
        **{str(status): by_status[status] for status in ActivityStatus},
        by_type={str(kind): by_type[kind] for kind in ActivityType},
    )


def _days(today: date, rows: list[DayRow]) -> list[schemas.DayFigures]:
    counts = {(row.date, row.type): row.count for row in rows}
    days = [today - timedelta(days=back) for back in reversed(range(DAYS))]
    breakdowns = ((day, {str(kind): counts.get((day, str(kind)), 0) for kind in ActivityType}) for day in days)
    return [schemas.DayFigures(day, sum(breakdown.values()), breakdown) for day, breakdown in breakdowns]


def _funnel_stage(row: FunnelRow, currency: str) -> schemas.FunnelStage:
    values = _rounded(row.values)
    median, p90 = row.seconds or (None, None)
    share = Decimal(row.came_on) / row.came_from if row.came_from else Decimal(0)
    return schemas.FunnelStage(
        stage=row.stage,
        display_name=row.display_name,
        kind=row.kind,
        entered=row.entered,
        current=row.current,
        value=values.get(currency, Decimal(0)),
        value_by_currency=values,
        conversion=None if row.first else round(share, 4),
        median_seconds=None if median is None else int(median),
        p90_seconds=None if p90 is None else int(p90),
    )


def _member(person: PersonRow, currency: str) -> schemas.TeamMember:
    kinds = {kind: [row for row in person.closings if row.kind == kind] for kind in ("open", "won", "lost")}
    won, lost = _count(kinds["won"]), _count(kinds["lost"])
    open_values, won_values = _by_currency(kinds["open"]), _by_currency(kinds["won"])
    dated = sum(row.dated for row in kinds["won"])
    seconds = sum((row.seconds or Decimal(0) for row in kinds["won"]), Decimal(0))
    return schemas.TeamMember(
        id=person.id,
        name=person.name,
        email=person.email,
        open_deals=_count(kinds["open"]),
        open_value=open_values.get(currency, Decimal(0)),
        open_value_by_currency=open_values,
        won_count=won,
        won_value=won_values.get(currency, Decimal(0)),
        won_value_by_currency=won_values,
        lost_count=lost,
        win_rate=round(Decimal(won) / (won + lost), 4) if won + lost else None,
        average_days_to_close=round(seconds / dated / 86400, 2) if dated else None,
        activities_completed=person.completed,
        activities_overdue=person.overdue,
    )


async def _period(tx: Transaction, query: PeriodQuery) -> dict[str, datetime | None]:
    """Where the period begins and ends, for moments and for whole days."""
    ends: dict[str, datetime | None] = dict.fromkeys(("from", "from_day", "to", "to_day"))
    if query.from_ is not UNSET or query.to is not UNSET:
        zone = await zone_of(tx)
        if query.from_ is not UNSET:
            ends["from"], ends["from_day"], _ = lower_bound(query.from_, zone)
        if query.to is not UNSET:
            ends["to"], ends["to_day"], _ = upper_bound(query.to, zone)
    return ends


async def _chosen(tx: Transaction, query: DealReportQuery) -> dict[str, Any]:
    return await _period(tx, query) | owners_of(tx, query)


def owners_of(tx: Transaction, query: DealReportQuery) -> dict[str, Any]:
    """The people whose deals a report is about."""
    people = None if query.owner_id is UNSET else query.owner_id
    owners = people and named_people(people, tx.actor.user_id)
    return {"owners": owners, "nobody": people is not None and "none" in people}


def _count(rows: Iterable[DealRow | ClosingRow]) -> int:
    return sum(row.count for row in rows)


def _by_currency(rows: Iterable[DealRow | ClosingRow]) -> ByCurrency:
    return _rounded(_summed((row.currency, row.value) for row in rows))


def _summed(amounts: Iterable[tuple[str, Decimal | int]]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for currency, amount in amounts:
        sums[currency] = sums.get(currency, Decimal(0)) + amount
    return dict(sorted(sums.items()))


def _rounded(amounts: dict[str, Decimal]) -> ByCurrency:
    return {currency: money(amount, currency) for currency, amount in amounts.items()}


def money(amount: Decimal, currency: str) -> Decimal:
    """Rounded to the currency's decimals."""
    decimals = currency_decimals(currency) or 0
    return amount.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
