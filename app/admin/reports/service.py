"""Makes each report."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal

from msgspec import UNSET

from app.access.permissions import Permission
from app.admin.activities.schemas import ActivityStatus, ActivityType
from app.admin.customers.schemas import CustomerStatus
from app.admin.reports import from_sums, schemas
from app.admin.reports.rows import (
    ActivityRow,
    ClosingRow,
    DayRow,
    DealRow,
    FunnelRow,
    PersonRow,
)
from app.admin.reports.schemas import ByCurrency, DealReportQuery, PeriodQuery
from app.admin.reports.sums import Between
from app.money import currency_decimals
from app.records.calendar import lower_bound, upper_bound, zone_of
from app.records.filters import named_people
from app.records.transaction import Transaction

KINDS = ("open", "won", "lost")


async def overview(tx: Transaction) -> schemas.Overview:
    """The overview of everything."""
    rows, recent_deals = await from_sums.overview_rows(tx)
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
    rows = await from_sums.summary_rows(tx, await _between(tx, query), people_of(tx, query))
    groups = defaultdict[tuple[int, str], list[ClosingRow]](list)
    for row in rows.sums:
        groups[KINDS.index(row.kind), row.currency].append(row)
    return schemas.DealSummary(
        by_status=[_status_sum(KINDS[kind], currency, parts) for (kind, currency), parts in sorted(groups.items())],
        new_deals_last_30_days=rows.fresh,
        average_days_to_close=_days_to_close(row for row in rows.sums if row.kind == "won"),
    )


async def funnel(tx: Transaction, query: DealReportQuery) -> schemas.Funnel:
    """Every stage, in order, from the stage history."""
    rows = await from_sums.funnel_rows(tx, await _between(tx, query), people_of(tx, query))
    return schemas.Funnel([_funnel_stage(row, rows.currency) for row in rows.stages])


async def team(tx: Transaction, query: PeriodQuery) -> schemas.Team:
    """The report for all people; for an agent, only for itself."""
    only = None if tx.actor.can(Permission.MANAGE_ALL) else tx.actor.user_id
    rows = await from_sums.team_rows(tx, await _between(tx, query), only)
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
    days = [today - timedelta(days=back) for back in reversed(range(from_sums.DAYS))]
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
        average_days_to_close=_days_to_close(kinds["won"]),
        activities_completed=person.completed,
        activities_overdue=person.overdue,
    )


async def _between(tx: Transaction, query: PeriodQuery) -> Between | None:
    if query.from_ is UNSET and query.to is UNSET:
        return None
    zone = await zone_of(tx)
    return Between.of(
        None if query.from_ is UNSET else lower_bound(query.from_, zone),
        None if query.to is UNSET else upper_bound(query.to, zone),
    )


def people_of(tx: Transaction, query: DealReportQuery) -> list[str] | None:
    """The people whose deals a report is about: '' is nobody, None everybody."""
    if query.owner_id is UNSET or query.owner_id is None:
        return None
    return named_people(query.owner_id, tx.actor.user_id) + ([""] if "none" in query.owner_id else [])


def _status_sum(status: str, currency: str, rows: list[ClosingRow]) -> schemas.StatusSum:
    total, count = sum((row.value for row in rows), Decimal(0)), _count(rows)
    return schemas.StatusSum(status, currency, count, money(total, currency), money(total / count, currency))


def _days_to_close(rows: Iterable[ClosingRow]) -> Decimal | None:
    seconds, dated = Decimal(0), 0
    for row in rows:
        seconds, dated = seconds + (row.seconds or 0), dated + row.dated
    return (seconds / 86400 / dated).quantize(Decimal("0.01"), ROUND_HALF_UP) if dated else None


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
