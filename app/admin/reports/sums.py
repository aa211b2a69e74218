"""What reports add up, from sums that triggers keep: docs/reports.md says how.

A period's ends need not be where the hours of a sum end. What lies between is read from the rows themselves, and added
to the sums or taken away from them, whichever is less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from msgspec import Struct, json
from psycopg.errors import QueryCanceled
from sqlalchemy import TextClause, text

from app.db.database import Database
from app.records.calendar import LAST_OF_ALL, Bound, midnight
from app.records.transaction import Transaction
from app.web.errors import AppError

FOLDED_AT_ONCE = 5_000
HOUR, DAY = 1, 24
SPANS = (HOUR, DAY, 8 * DAY, 64 * DAY)
# Whose the deals of others are is kept by so many hours, and not by the day.
WITH_OWNERS = 8 * DAY
# Beyond all years that are stored, and where a span of each length ends.
FIRST_HOUR, LAST_HOUR = -20_000 * SPANS[-1], 60_000 * SPANS[-1]
MICROSECOND, MICROSECONDS = timedelta(microseconds=1), 3_600_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

FOLD = text("SELECT crm_fold_report_changes(:most)")
PRUNE = text("SELECT crm_prune_report_sums(:most)")


class Between(NamedTuple):
    """From one moment until before another; whole days are compared as days. None is without end."""

    first: datetime | None = None
    last: datetime | None = None
    first_day: date | None = None
    last_day: date | None = None

    @classmethod
    def of(cls, lower: Bound | None, upper: Bound | None) -> Between:
        """From this bound to that one, which still counts."""
        last = last_day = None
        if upper and upper.moment < LAST_OF_ALL:
            last = upper.moment + MICROSECOND
        if upper and upper.midnight.date() < date.max:
            last_day = upper.midnight.date() + timedelta(days=1)
        return cls(lower and lower.moment, last, lower and lower.midnight.date(), last_day)

    def within(self, other: Between | None) -> Between:
        """What is between these ends and the other's."""
        if other is None:
            return self
        return Between(
            max(filter(None, (self.first, other.first)), default=None),
            min(filter(None, (self.last, other.last)), default=None),
            max(filter(None, (self.first_day, other.first_day)), default=None),
            min(filter(None, (self.last_day, other.last_day)), default=None),
        )


class Ask(NamedTuple):
    """What to add up, and a number to know it by. Without `between` it is all rows, also those without a time."""

    place: int
    series: str
    between: Between | None = None
    # The shortest sums that it may be made from: hours are kept of everybody's activities, for 40 days.
    least: int = DAY
    # Whether the figures of shared deals say whose they are.
    with_owners: bool = False


class Figure(Struct, array_like=True):
    """The sums of one facet and part, and of one person, if people were asked for; '' is nobody."""

    place: int
    person: str
    facet: str
    part: str
    rows: int
    amount: Decimal
    weighted: Decimal
    closed: int
    seconds: Decimal

    def plus(self, other: Figure) -> Figure:
        """Both together."""
        return Figure(
            self.place,
            self.person,
            self.facet,
            self.part,
            self.rows + other.rows,
            self.amount + other.amount,
            self.weighted + other.weighted,
            self.closed + other.closed,
            self.seconds + other.seconds,
        )


class _Range(NamedTuple):
    """Sums of one span, by their hours."""

    place: int
    series: str
    whole_day: bool
    span: int
    first: int
    last: int


class _Edge(NamedTuple):
    """Rows to add, or to take away."""

    place: int
    sign: int
    whole_day: bool
    first: str
    last: str


# As in `at_midnight`, of app/records/calendar.py.
_AT_MIDNIGHT = "({} AT TIME ZONE 'UTC')::time = '00:00'"
MEASURES = "rows, amount, weighted, closed, seconds"
_SUMMED = "sum(rows)::bigint, sum(amount), sum(weighted), sum(closed)::bigint, sum(seconds)"


def _sums(people: str, by_person: str, pending: str) -> TextClause:
    return text(f"""
        WITH ranges AS (
            SELECT * FROM unnest(
                CAST(:place AS integer[]), CAST(:series AS text[]), CAST(:whole_day AS boolean[]),
                CAST(:span AS integer[]), CAST(:first AS integer[]), CAST(:last AS integer[])
            ) AS ranges (place, series, whole_day, span, first, last)
        ),
        people AS ({people}),
        found AS (
            SELECT place, sums.* FROM ranges CROSS JOIN people CROSS JOIN LATERAL (
                SELECT person, facet, part, {MEASURES} FROM report_sums
                WHERE series = ranges.series AND by_person = {by_person} AND span = ranges.span
                    AND person = people.person AND hour >= first AND hour < last
                    AND whole_day = ranges.whole_day OFFSET 0
            ) AS sums
            UNION ALL
            SELECT place, CASE WHEN {by_person} THEN person ELSE '' END,
                   CASE WHEN {by_person} AND series = 'activities' AND span <> 0 THEN '' ELSE facet END, part,
                   {MEASURES}
            FROM ranges JOIN report_changes AS changes USING (series, whole_day)
            WHERE hour >= first AND hour < last AND {pending}
        )
        SELECT coalesce(json_agg(json_build_array(place, person, facet, part, {MEASURES})), '[]')::text
        FROM (SELECT place, person, facet, part, {_SUMMED} FROM found GROUP BY 1, 2, 3, 4)
            AS sums (place, person, facet, part, {MEASURES})
    """)


SUMS = _sums("SELECT ''::text AS person", "false", "true")
SUMS_OF_NAMED = _sums("SELECT unnest(CAST(:people AS text[])) AS person", "true", "person = ANY (:people)")
SUMS_OF_EACH = _sums(
    "SELECT DISTINCT person FROM report_sums WHERE series = ANY (:series) AND by_person AND span = 0", "true", "true"
)

# So many numbers of `stage_history.time_bucket` are one in `deals.durations`.
COUNTED_TOGETHER = 8
# The stages that a deal ever entered, in the order of their ids as texts.
WAY = "SELECT string_agg(DISTINCT to_stage_id::text, ',') AS way FROM stage_history WHERE deal_id = {} OFFSET 0"
_BETWEEN = "deleted_at IS NULL AND {0} >= first AND {0} < last"
_OF_DEALS = f"""
    SELECT coalesce(owner_id, '') AS person, stage_id::text AS facet, currency AS part,
           amount, amount * probability AS weighted, (actual_close_date IS NOT NULL)::integer AS closed,
           CASE WHEN actual_close_date > created_at
                THEN extract(epoch FROM actual_close_date - created_at) ELSE 0 END AS seconds
    FROM deals WHERE {_BETWEEN}"""
_OF_ACTIVITIES = f"""
    SELECT coalesce(assigned_to, '') AS person, CASE WHEN :by_person THEN '' ELSE type END AS facet,
           CASE WHEN status = 'scheduled' AND due_date IS NULL THEN 'someday' ELSE status END AS part,
           0 AS amount, 0 AS weighted, 0 AS closed, 0 AS seconds
    FROM activities WHERE {_BETWEEN}"""
ME = "current_setting('crm.user')"
# Deals of others, at the customers of who asks. They are counted for who asks, and their part says whose they are.
_SHARED = f"""
    SELECT {ME} AS person, stage_id::text AS facet, currency || ' ' || coalesce(owner_id, '') AS part,
           amount, amount * probability AS weighted, (actual_close_date IS NOT NULL)::integer AS closed,
           CASE WHEN actual_close_date > created_at
                THEN extract(epoch FROM actual_close_date - created_at) ELSE 0 END AS seconds
    FROM crm_shared_deals('{{0}}', first, last) WHERE true"""
# The rows of each series that begin with a moment and end before another one.
_ROWS = {
    "customers": f"""
        SELECT coalesce(assigned_to, '') AS person, status AS facet, '' AS part,
               0 AS amount, 0 AS weighted, 0 AS closed, 0 AS seconds
        FROM customers WHERE {_BETWEEN.format("created_at")}""",
    "deals.created": _OF_DEALS.format("created_at"),
    "deals.ways": f"""
        SELECT coalesce(owner_id, '') AS person, way AS facet, '' AS part,
               0 AS amount, 0 AS weighted, 0 AS closed, 0 AS seconds
        FROM deals CROSS JOIN LATERAL ({WAY.format("deals.id")}) AS ways
        WHERE {_BETWEEN.format("created_at")} AND way IS NOT NULL""",
    "deals.durations": f"""
        SELECT coalesce(owner_id, '') AS person, facet, part,
               0 AS amount, 0 AS weighted, 0 AS closed, 0 AS seconds
        FROM deals CROSS JOIN LATERAL (
            SELECT to_stage_id::text AS facet, (time_bucket / {COUNTED_TOGETHER})::text AS part FROM stage_history
            WHERE deal_id = deals.id AND left_at IS NOT NULL OFFSET 0
        ) AS visits
        WHERE {_BETWEEN.format("created_at")}""",
    "shared.created": _SHARED.format("created_at"),
    "shared.ways": f"""
        SELECT {ME} AS person, way AS facet, ' ' || coalesce(owner_id, '') AS part,
               0 AS amount, 0 AS weighted, 0 AS closed, 0 AS seconds
        FROM crm_shared_deals('created_at', first, last) AS deals
        CROSS JOIN LATERAL ({WAY.format("deals.id")}) AS ways WHERE way IS NOT NULL""",
    **{
        f"{whose}.{series}": f"{rows.format(column)} AND ({_AT_MIDNIGHT.format(column)}) = whole_day"
        for whose, rows in (("deals", _OF_DEALS), ("shared", _SHARED))
        for series, column in (("expected", "expected_close_date"), ("closed", "actual_close_date"))
    },
    "activities": f"""
        {_OF_ACTIVITIES.format("due_date")} AND all_day = whole_day
        UNION ALL {_OF_ACTIVITIES.format("created_at")} AND due_date IS NULL AND NOT whole_day""",
}


def _edges(rows: str) -> TextClause:
    return text(f"""
        SELECT coalesce(json_agg(json_build_array(place, person, facet, part, {MEASURES})), '[]')::text
        FROM (
            SELECT place, CASE WHEN :by_person THEN person ELSE '' END, facet, part, sum(sign)::bigint,
                   sum(sign * amount), sum(sign * weighted), sum(sign * closed)::bigint, sum(sign * seconds)
            FROM unnest(
                CAST(:place AS integer[]), CAST(:sign AS integer[]), CAST(:whole_day AS boolean[]),
                CAST(:first AS timestamptz[]), CAST(:last AS timestamptz[])
            ) AS edges (place, sign, whole_day, first, last)
            CROSS JOIN LATERAL ({rows} OFFSET 0) AS rows
            WHERE CAST(:people AS text[]) IS NULL OR person = ANY (:people)
            GROUP BY 1, 2, 3, 4
        ) AS sums (place, person, facet, part, {MEASURES})
    """)


EDGES = {series: _edges(rows) for series, rows in _ROWS.items()}
# Where row-level security would look at the deals of others, too.
EDGES_OF_OWN = EDGES | {
    series: _edges(f"{rows} AND owner_id = {ME}") for series, rows in _ROWS.items() if series.startswith("deals.")
}
WITH_WHOLE_DAYS = {"deals.expected", "deals.closed", "shared.expected", "shared.closed", "activities"}


async def add_up(
    tx: Transaction, asks: Sequence[Ask], people: Sequence[str] | None = None, *, each: bool = False
) -> list[Figure]:
    """The figures of everybody, of these people ('' is nobody), or of each person; those of no rows are left out.

    Of who sees only own records, it is what belongs to that person, and the deals of others at the person's customers
    (shared deals).
    """
    if tx.own_records_only:
        figures = await _add_up_own(tx, asks, people)
    else:
        figures = await _add_up(tx, asks, people, each=each)
    sums: dict[tuple[int, str, str, str], Figure] = {}
    for figure in figures:
        key = figure.place, figure.person, figure.facet, figure.part
        sums[key] = sums[key].plus(figure) if key in sums else figure
    return [figure for figure in sums.values() if figure.rows]


async def _add_up_own(tx: Transaction, asks: Sequence[Ask], people: Sequence[str] | None) -> list[Figure]:
    me = tx.actor.user_id
    others = None if people is None else set(people) - {me}
    own = list(asks) if people is None or me in people else []
    shared = {} if others == set() else {~ask.place: _of_shared(ask, others) for ask in asks if _is_shared(ask)}
    figures = []
    for figure in await _add_up(tx, [*own, *shared.values()], [me], each=False):
        if ask := shared.get(figure.place):
            figure.place = ~figure.place
            figure.part, _, owner = figure.part.partition(" ")
            figure.person = owner if ask.with_owners else ""
            if others is not None and owner not in others:
                continue
        figures.append(figure)
    return figures


def _is_shared(ask: Ask) -> bool:
    return ask.series.startswith("deals.")


def _is_with_owners(ask: Ask) -> bool:
    return ask.with_owners and ask.series.startswith("shared.")


def _of_shared(ask: Ask, owners: set[str] | None) -> Ask:
    """What is asked for, of shared deals. It has a place of its own."""
    with_owners = ask.with_owners or owners is not None
    least = WITH_OWNERS if with_owners else ask.least
    return Ask(~ask.place, ask.series.replace("deals.", "shared."), ask.between, least, with_owners)


async def _add_up(tx: Transaction, asks: Sequence[Ask], people: Sequence[str] | None, *, each: bool) -> list[Figure]:
    by_person = each or people is not None
    ranges: list[_Range] = []
    edges: dict[str, list[_Edge]] = {}
    for ask in asks:
        for whole_day in (False, True) if ask.series in WITH_WHOLE_DAYS else (False,):
            # Of people there are no sums by the hour.
            hours = _hours(ask._replace(least=max(ask.least, DAY)) if by_person else ask, whole_day, edges)
            with_owners = _is_with_owners(ask)
            ranges += (
                _Range(ask.place, ask.series, whole_day, ~span if with_owners else span, first, last)
                for span, first, last in hours
            )
    statement = SUMS_OF_EACH if each else SUMS if people is None else SUMS_OF_NAMED
    given: dict[str, Any] = {name: [getattr(one, name) for one in ranges] for name in _Range._fields}
    found = await tx.connection.execute(statement, given | ({"people": people} if statement is SUMS_OF_NAMED else {}))
    figures = json.decode(found.scalar_one(), type=list[Figure])
    for series, some in edges.items():
        given = {name: [getattr(one, name) for one in some] for name in _Edge._fields}
        statement = (EDGES_OF_OWN if tx.own_records_only else EDGES)[series]
        found = await tx.connection.execute(statement, given | {"people": people, "by_person": by_person})
        figures += json.decode(found.scalar_one(), type=list[Figure])
    return figures


def _hours(ask: Ask, whole_day: bool, edges: dict[str, list[_Edge]]) -> Iterator[tuple[int, int, int]]:
    """The sums to read, as (span, first hour, last hour), and into `edges` the rows."""
    if ask.between is None:
        yield 0, FIRST_HOUR, LAST_HOUR
        return
    between = ask.between
    if whole_day:
        first, last = (None if day is None else midnight(day) for day in (between.first_day, between.last_day))
    else:
        first, last = between.first, between.last
    if first and last and first >= last:
        return
    from_hour = FIRST_HOUR if first is None else _nearest(first, ask.least)
    to_hour = LAST_HOUR if last is None else _nearest(last, ask.least)
    for moment, hour, sign in ((first, from_hour, -1), (last, to_hour, 1)):
        if moment is not None and (off := _microseconds(moment) - hour * MICROSECONDS):
            ends = (_stamp(hour), moment.isoformat()) if off > 0 else (moment.isoformat(), _stamp(hour))
            edges.setdefault(ask.series, []).append(_Edge(ask.place, sign if off > 0 else -sign, whole_day, *ends))
    yield from cover(from_hour, to_hour, [span for span in SPANS if span >= ask.least])


def cover(first: int, last: int, spans: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """What lies between two hours, as (span, first, last): long spans in the middle, shorter ones at the ends."""
    for span, longer in pairwise(spans):
        up, down = -(-first // longer) * longer, last // longer * longer
        if up >= down:
            break
        if first < up:
            yield span, first, up
        if down < last:
            yield span, down, last
        first, last = up, down
    else:
        span = spans[-1]
    if first < last:
        yield span, first, last


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // MICROSECOND


def _nearest(moment: datetime, span: int) -> int:
    """The hour nearest to a moment at which a span of this length ends."""
    length = span * MICROSECONDS
    return (_microseconds(moment) + length // 2) // length * span


def _stamp(hour: int) -> str:
    try:
        return (EPOCH + timedelta(hours=hour)).isoformat()
    except OverflowError:
        return "infinity" if hour > 0 else "-infinity"


async def fold(database: Database) -> int:
    """Add a batch of changes to the sums; returns how many. Raises AppError."""
    try:
        return await _fold(database, FOLDED_AT_ONCE)
    except AppError as error:
        if not isinstance(error.__cause__, QueryCanceled):
            raise
    # On a slow disk a batch can take longer than a statement may: then a small one goes on.
    return await _fold(database, FOLDED_AT_ONCE // 50)


async def _fold(database: Database, most: int) -> int:
    async with database.maintenance() as connection:
        return int((await connection.execute(FOLD, {"most": most})).scalar_one())


async def prune(database: Database) -> int:
    """Delete a batch of sums by the hour that nobody asks for any more; returns how many. Raises AppError."""
    async with database.maintenance() as connection:
        return int((await connection.execute(PRUNE, {"most": FOLDED_AT_ONCE})).scalar_one())
