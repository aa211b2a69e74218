"""The rows of each report from the sums that the database keeps, whatever the number of records."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import accumulate, groupby
from math import ceil, floor
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import structlog
from msgspec import Struct, json
from sqlalchemy import Executable, text

from app.admin.deals.schemas import Deal
from app.admin.reports import schemas
from app.admin.reports.queries import (
    DAYS_OF_OWN,
    NEWEST_DEALS,
    NEWEST_OF_OWN,
    TIMES,
    TIMES_AT,
    TIMES_OF_OWN,
    TOP_CUSTOMERS,
    TOP_OF_OWN,
)
from app.admin.reports.rows import (
    ActivityRow,
    ClosingRow,
    CustomerRow,
    DayRow,
    DealRow,
    FunnelRow,
    FunnelRows,
    OverviewRows,
    PeriodRow,
    PersonRow,
    StageRow,
    SummaryRows,
    TeamRows,
)
from app.admin.reports.sums import HOUR, MICROSECOND, Ask, Between, Figure, add_up
from app.records.calendar import day_of, first_moment, midnight
from app.records.transaction import Transaction
from app.web.structs import present_user

log = structlog.get_logger("reports")
TOP = 5
NAMELESS = (None, None)
QUARTER = timedelta(days=90)
FRESH = timedelta(days=30)
DAYS = 30
# Of who sees only own records, so many customers and visits of stages are read rather than looked for among all.
FEW = 2_000
# The median, and what nine of ten stay below.
SHARES = (0.5, 0.9)


class Frame(Struct):
    """What the figures of an organization are read by."""

    now: datetime
    currency: str
    timezone: str
    stages: list[StageRow]

    @property
    def zone(self) -> ZoneInfo:
        """Where its days begin."""
        return ZoneInfo(self.timezone)

    @property
    def kinds(self) -> dict[str, str]:
        """Of each stage, as a facet."""
        return {str(stage.id): stage.kind for stage in self.stages}


FRAME = text("""
    SELECT json_build_object(
        'now', now(), 'currency', default_currency, 'timezone', timezone,
        'stages', (
            SELECT json_agg(json_build_object(
                'id', id, 'name', name, 'display_name', display_name, 'kind', kind, 'order', "order"
            ) ORDER BY "order", id) FROM pipeline_stages
        )
    )::text FROM settings
""")
PEOPLE = text("SELECT id, name, email FROM users WHERE CAST(:ids AS text[]) IS NULL OR id = ANY (:ids)")


async def frame_of(tx: Transaction) -> Frame:
    """The organization's, at this moment."""
    return json.decode((await tx.connection.execute(FRAME)).scalar_one(), type=Frame)


# Numbers by which a report knows its sums. Those of days and periods come after.
ALL, CLOSED, LATELY, CUSTOMERS, NEW_CUSTOMERS, ACTIVITIES, OVERDUE, WEEK, NONE, WAYS, TIMES_IN, FIRST = range(12)


async def overview_rows(tx: Transaction) -> tuple[OverviewRows, list[Deal]]:
    """The sums, and the newest deals."""
    frame = await frame_of(tx)
    zone, today = frame.zone, day_of(frame.now, frame.zone)
    monday, month = today - timedelta(days=today.weekday()), today.replace(day=1)
    next_month = (month + timedelta(days=31)).replace(day=1)
    days = [today - timedelta(days=back) for back in range(DAYS)]
    own = tx.own_records_only
    lately = Ask(LATELY, "deals.closed", _lately(frame), with_owners=True)
    every = Ask(ALL, "deals.created", with_owners=True)
    figures = await add_up(
        tx,
        [
            # The figures of who sees only own records say whose they are, so that they are added up once.
            *([lately] if own else []),
            every,
            Ask(CLOSED, "deals.closed", _days(month, next_month, zone)),
            Ask(CUSTOMERS, "customers"),
            Ask(NEW_CUSTOMERS, "customers", Between(first_moment(month, zone))),
            Ask(ACTIVITIES, "activities"),
            Ask(OVERDUE, "activities", Between(last=frame.now, last_day=today), HOUR),
            Ask(WEEK, "activities", _days(monday, monday + timedelta(days=7), zone), HOUR),
            *(
                Ask(FIRST + back, "activities", _days(day, day + timedelta(days=1), zone), HOUR)
                for back, day in enumerate([] if own else days)
            ),
        ],
    )
    people = figures if own else await add_up(tx, [every, lately], each=True)
    found = _by_place(figures)
    new = Counter({it.facet: it.rows for it in found[NEW_CUSTOMERS]})
    newest = (await tx.connection.execute(NEWEST_OF_OWN if own else NEWEST_DEALS)).scalar_one()
    best = (await tx.connection.execute(TOP_OF_OWN if own else TOP_CUSTOMERS)).scalar_one()
    rows = OverviewRows(
        currency=frame.currency,
        today=today,
        stages=frame.stages,
        customers=[CustomerRow(it.facet, it.rows, new[it.facet]) for it in found[CUSTOMERS]],
        deals=[
            *(DealRow(int(it.facet), it.part, it.rows, it.amount, it.weighted / 100, 0) for it in found[ALL]),
            *(DealRow(int(it.facet), it.part, 0, Decimal(0), Decimal(0), it.rows) for it in found[CLOSED]),
        ],
        activities=[
            *(ActivityRow(it.facet, _shown(it.part), it.rows, 0) for it in found[ACTIVITIES]),
            *(ActivityRow(it.facet, it.part, 0, it.rows) for it in found[WEEK]),
            *(
                ActivityRow(it.facet, status, count, 0)
                for it in found[OVERDUE]
                if it.part == "scheduled"
                for status, count in (("scheduled", -it.rows), ("overdue", it.rows))
            ),
        ],
        days=await _days_of_own(tx, frame, days) if own else _days_of_all(figures, days),
        top_customers=json.decode(best, type=list[schemas.TopCustomer]),
        top_performers=await _top_performers(tx, frame, _by_place(people)),
    )
    return rows, newest


def _days_of_all(figures: Iterable[Figure], days: Sequence[date]) -> list[DayRow]:
    counts = Counter[tuple[int, str]]()
    for figure in figures:
        if figure.place >= FIRST:
            counts[figure.place - FIRST, figure.facet] += figure.rows
    return [DayRow(days[back], kind, count) for (back, kind), count in counts.items()]


async def _days_of_own(tx: Transaction, frame: Frame, days: Sequence[date]) -> list[DayRow]:
    # A day more at either end: a whole day's midnight is that of UTC.
    given = {
        "first": midnight(days[-1] - timedelta(days=1)),
        "last": midnight(days[0] + timedelta(days=2)),
        "first_day": days[-1],
        "last_day": days[0],
        "zone": frame.timezone,
    }
    return json.decode((await tx.connection.execute(DAYS_OF_OWN, given)).scalar_one(), type=list[DayRow])


def _lately(frame: Frame) -> Between:
    since, until = frame.now - QUARTER, max(frame.now, midnight(day_of(frame.now, frame.zone)))
    since_day = since.date() + timedelta(days=since > midnight(since.date()))
    return Between(since, until + MICROSECOND, since_day, until.date() + timedelta(days=1))


async def _top_performers(tx: Transaction, frame: Frame, found: dict[int, list[Figure]]) -> list[schemas.Performer]:
    """Those who won most lately."""
    won, value = Counter[str](), defaultdict[str, Decimal](Decimal)
    for figure in found[LATELY]:
        won[figure.person] += figure.rows if frame.kinds[figure.facet] == "won" else 0
    for figure in found[ALL]:
        here = frame.kinds[figure.facet] == "open" and figure.part == frame.currency
        value[figure.person] += figure.amount if here else 0
    value.pop("", None)
    best = sorted(value, key=lambda person: (-won[person], -value[person], person))[:TOP]
    people = await _people(tx, best)
    return [
        schemas.Performer(present_user(person), *people.get(person, NAMELESS), won[person], value[person])
        for person in best
    ]


async def summary_rows(tx: Transaction, between: Between | None, people: Sequence[str] | None) -> SummaryRows:
    """Of the deals that were created in a period, and belong to these people."""
    frame = await frame_of(tx)
    fresh = Between(frame.now - FRESH).within(between)
    asks = [Ask(ALL, "deals.created", between), Ask(FIRST, "deals.created", fresh)]
    found = _by_place(await add_up(tx, asks, people))
    sums = [_closing(it, frame.kinds[it.facet]) for it in found[ALL]]
    return SummaryRows(sums, sum(it.rows for it in found[FIRST]))


async def funnel_rows(tx: Transaction, between: Between | None, people: Sequence[str] | None) -> FunnelRows:
    """Of the deals that were created in a period, and belong to these people."""
    frame = await frame_of(tx)
    asks = [Ask(ALL, "deals.created", between), Ask(WAYS, "deals.ways", between)]
    # Of people they are kept for all of time only, and of shared deals not by their owners.
    own = tx.own_records_only
    is_kept = between is None or (people is None and not own)
    if own and people is not None:
        is_kept = is_kept and set(people) == {tx.actor.user_id}
    if is_kept:
        asks.append(Ask(TIMES_IN, "deals.durations", between))
    found = _by_place(await add_up(tx, asks, people))
    ways = [(frozenset(map(int, it.facet.split(","))), it.rows) for it in found[WAYS]]
    if own and sum(it.rows for it in found[TIMES_IN]) <= FEW and await _has_few_customers(tx):
        times = await _times_of_rows(tx, TIMES_OF_OWN, between, people)
    elif is_kept:
        times = await _times_counted(tx, found[TIMES_IN], between, people)
    else:
        times = await _times_of_rows(tx, TIMES, between, people)
    here = defaultdict[int, dict[str, Decimal]](dict)
    current = Counter[int]()
    for it in found[ALL]:
        current[int(it.facet)] += it.rows
        here[int(it.facet)][it.part] = here[int(it.facet)].get(it.part, Decimal(0)) + it.amount
    return FunnelRows(
        frame.currency,
        [
            FunnelRow(
                stage.name,
                stage.display_name,
                stage.kind,
                before is None,
                *_entered(ways, stage, before, frame.stages),
                current[stage.id],
                here[stage.id],
                times.get(stage.id),
            )
            for stage, before in zip(frame.stages, _steps(frame.stages), strict=True)
        ],
    )


def _steps(stages: Sequence[StageRow]) -> Iterator[StageRow | None]:
    """Of each stage the open one before it."""
    before = None
    for stage in stages:
        yield before
        if stage.kind == "open":
            before = stage


def _entered(
    ways: Sequence[tuple[frozenset[int], int]], stage: StageRow, before: StageRow | None, stages: Sequence[StageRow]
) -> tuple[int, int, int]:
    """How many deals entered a stage; and of those that entered the one before, how many came on from there."""
    further = {it.id for it in stages if it.id == stage.id or (it.order > stage.order and it.kind in {"open", "won"})}
    came = [(way, deals) for way, deals in ways if before and before.id in way]
    return (
        sum(deals for way, deals in ways if stage.id in way),
        sum(deals for _, deals in came),
        sum(deals for way, deals in came if way & further),
    )


async def _has_few_customers(tx: Transaction) -> bool:
    customers = await add_up(tx, [Ask(CUSTOMERS, "customers")])
    return sum(it.rows for it in customers) <= FEW


async def _times_of_rows(
    tx: Transaction, statement: Executable, between: Between | None, people: Sequence[str] | None
) -> dict[int, list[float]]:
    first, last, *_ = between or Between()
    found = await tx.connection.execute(statement, {"first": first, "last": last, "people": people})
    return json.decode(found.scalar_one(), type=dict[int, list[float]])


class _Visit(NamedTuple):
    """A visit of a stage, by its number among those that took about as long."""

    stage: int
    bucket: int
    number: int


class _Run(NamedTuple):
    """Visits that follow on each other by how long they took: the shortest first, or the longest if `backwards`."""

    stage: int
    bucket: int
    backwards: bool
    skipped: int
    most: int


async def _times_counted(
    tx: Transaction, figures: Iterable[Figure], between: Between | None, people: Sequence[str] | None
) -> dict[int, list[float]]:
    """From how many visits took about how long. Only some that took about as long as what is looked for are read."""
    counts = defaultdict[int, Counter[int]](Counter)
    for it in figures:
        counts[int(it.facet)][int(it.part)] += it.rows
    if not counts:
        return {}
    # As percentile_cont has it.
    exact = {(stage, share): share * (counts[stage].total() - 1) for stage in counts for share in SHARES}
    visits = {
        (stage, place): _visit_at(stage, counts[stage], place)
        for (stage, _), between_two in exact.items()
        for place in (floor(between_two), ceil(between_two))
    }
    seconds = await _seconds_of(tx, sorted(set(visits.values())), counts, between, people)
    if seconds is None:
        return await _times_of_rows(tx, TIMES, between, people)
    times = defaultdict[int, list[float]](list)
    for (stage, _), place in exact.items():
        low, high = (seconds[visits[stage, end]] for end in (floor(place), ceil(place)))
        times[stage].append(low + (place - floor(place)) * (high - low))
    return times


def _visit_at(stage: int, counts: Counter[int], place: int) -> _Visit:
    """The visit at a place among all of a stage, the shortest first."""
    buckets = sorted(counts)
    ends = list(accumulate(counts[bucket] for bucket in buckets))
    at = bisect_right(ends, place)
    return _Visit(stage, buckets[at], place - (ends[at - 1] if at else 0))


async def _seconds_of(
    tx: Transaction,
    visits: Sequence[_Visit],
    counts: Mapping[int, Counter[int]],
    between: Between | None,
    people: Sequence[str] | None,
) -> dict[_Visit, float] | None:
    """How long each of these visits took; None if there are fewer visits in all than would be read for it, or if what
    visits have of their deals is wrong.

    From whichever end of its bucket is nearer, one after the other is read.
    """
    # What follows on each other is found by one run.
    groups = [
        [visit for _, visit in group]
        for _, group in groupby(enumerate(visits), key=lambda it: (*it[1][:2], it[1].number - it[0]))
    ]
    runs = [_run_of(group, counts[group[0].stage][group[0].bucket]) for group in groups]
    given: dict[str, Any] = {name: [getattr(run, name) for run in runs] for name in _Run._fields}
    given |= {"people": people, "first": between and between.first, "last": between and between.last}
    # A bucket also has the visits of other periods and people.
    of_all = between is None and people is None
    given["visits"] = None if of_all else sum(each.total() for each in counts.values())
    found = json.decode((await tx.connection.execute(TIMES_AT, given)).scalar_one(), type=list[list[float]] | None)
    if found is None:
        return None
    if [len(times) for times in found] != [run.most for run in runs]:
        log.error("visits have wrong copies of their deals: run crm db check", tenant=tx.actor.tenant_id)
        return None
    return {
        visit: seconds
        for group, run, times in zip(groups, runs, found, strict=True)
        for visit, seconds in zip(group, times[::-1] if run.backwards else times, strict=True)
    }


def _run_of(group: Sequence[_Visit], size: int) -> _Run:
    """What reads these visits of a bucket of this size."""
    first, last = group[0], group[-1]
    backwards = size - first.number <= last.number
    skipped = size - 1 - last.number if backwards else first.number
    return _Run(first.stage, first.bucket, backwards, skipped, len(group))


async def team_rows(tx: Transaction, between: Between | None, only: str | None) -> TeamRows:
    """Of each person with any deals or activities, and of all who were here; or only of one."""
    frame = await frame_of(tx)
    past = Between(last=frame.now, last_day=day_of(frame.now, frame.zone)).within(between)
    asks = [
        Ask(ALL, "deals.created"),
        Ask(ACTIVITIES, "activities", between),
        Ask(OVERDUE, "activities", past),
        *([Ask(CLOSED, "deals.closed", between)] if between else []),
    ]
    found = _by_place(await add_up(tx, asks, None if only is None else [only], each=only is None))
    completed = Counter[str]()
    for it in found[ACTIVITIES]:
        completed[it.person] += it.rows if it.part == "completed" else 0
    overdue = Counter[str]()
    for it in found[OVERDUE]:
        overdue[it.person] += it.rows if it.part == "scheduled" else 0
    closings = defaultdict[str, list[ClosingRow]](list)
    for it in (*found[ALL], *found[CLOSED]):
        kind = frame.kinds[it.facet]
        # The period cuts what is closed.
        if between is None or (kind == "open") == (it.place == ALL):
            closings[it.person].append(_closing(it, kind))
    users = await _people(tx, None if only is None else [only])
    return TeamRows(
        frame.currency,
        [
            PersonRow(
                present_user(person) if person else None,
                *users.get(person, NAMELESS),
                completed[person],
                overdue[person],
                closings[person],
            )
            for person in dict.fromkeys((*users, *completed, *closings))
        ],
    )


async def period_rows(
    tx: Transaction, starts: Sequence[date], last: date, today: date, zone: ZoneInfo, people: Sequence[str] | None
) -> list[PeriodRow]:
    """Of the deals that are expected or were closed in each period, up to the last day: `place` counts from 1. It is -1
    for what is overdue, and None for what has no date.
    """
    frame = await frame_of(tx)
    past = Between(last=first_moment(today, zone), last_day=today)
    asks = [Ask(ALL, "deals.created"), Ask(NONE, "deals.expected"), Ask(OVERDUE, "deals.expected", past)]
    to_come = Between(first_moment(today, zone), None, today)
    for place, (first, after) in enumerate(zip(starts, (*starts[1:], _next_day(last)), strict=True)):
        period = _days(first, after, zone)
        asks += [
            Ask(FIRST + 2 * place, "deals.expected", to_come.within(period)),
            Ask(FIRST + 2 * place + 1, "deals.closed", period),
        ]
    sums: dict[tuple[int | None, str, str], PeriodRow] = {}
    for it in await add_up(tx, asks, people):
        kind = frame.kinds[it.facet]
        is_open = it.place < FIRST or not (it.place - FIRST) % 2
        if is_open != (kind == "open"):
            continue
        shown = {ALL: None, NONE: None, OVERDUE: -1}.get(it.place, (it.place - FIRST) // 2 + 1)
        row = sums.setdefault((shown, it.part, kind), PeriodRow(shown, it.part, kind))
        # Without a date are all but those that have one.
        sign = -1 if it.place == NONE else 1
        row.count += sign * it.rows
        row.value += sign * it.amount
        row.weighted += sign * it.weighted / 100
    return [row for row in sums.values() if row.count]


def _by_place(figures: Iterable[Figure]) -> dict[int, list[Figure]]:
    found = defaultdict[int, list[Figure]](list)
    for figure in figures:
        found[figure.place].append(figure)
    return found


def _days(first: date, after: date | None, zone: ZoneInfo) -> Between:
    """From the first moment of a day until before another day."""
    return Between(first_moment(first, zone), None if after is None else first_moment(after, zone), first, after)


def _next_day(day: date) -> date | None:
    return None if day == date.max else day + timedelta(days=1)


def _shown(part: str) -> str:
    return "scheduled" if part == "someday" else part


def _closing(figure: Figure, kind: str) -> ClosingRow:
    return ClosingRow(figure.part, kind, figure.rows, figure.amount, figure.closed, figure.seconds)


async def _people(tx: Transaction, ids: list[str] | None) -> dict[str, tuple[str | None, str | None]]:
    """The names and emails of those who were here; with ids, of these."""
    found = await tx.connection.execute(PEOPLE, {"ids": ids})
    return {person: (name, email) for person, name, email in found}
