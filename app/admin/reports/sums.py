"""What reports add up, from sums that triggers keep: docs/reports.md says how.

A period's ends need not be where the hours of a sum end. What lies between is read from the rows themselves, and added
to the sums or taken away from them, whichever is less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

from msgspec import Struct, json
from psycopg.errors import QueryCanceled
from sqlalchemy import Executable, TextClause, text

from app.db.database import Database
from app.db.statements import unprepared
from app.records.calendar import LAST_OF_ALL, Bound, midnight
from app.records.transaction import Transaction
from app.web.errors import AppError

FOLDED_AT_ONCE = 5_000
HOUR, DAY = 1, 24
SPANS = (HOUR, DAY, 8 * DAY, 64 * DAY)
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
    **{
        series: f"{_OF_DEALS.format(column)} AND ({_AT_MIDNIGHT.format(column)}) = whole_day"
        for series, column in (("deals.expected", "expected_close_date"), ("deals.closed", "actual_close_date"))
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
WITH_WHOLE_DAYS = {"deals.expected", "deals.closed", "activities"}


ME = "current_setting('crm.user')"
# Deals that people see though they belong to others, because the customers are theirs: from each customer on, since
# going through the deals of everybody takes longer than the database expects.
OF_MY_CUSTOMERS = f"""
    customers CROSS JOIN LATERAL (
        SELECT * FROM deals WHERE deals.customer_id = customers.id AND deals.deleted_at IS NULL OFFSET 0
    ) AS deals
    WHERE customers.assigned_to = {ME}"""
# Of the period's deals only the history is read.
_WAYS = f"""
    FROM (
        SELECT * FROM shared WHERE EXISTS (
            SELECT FROM asks WHERE series = 'deals.ways' AND shared.created_at >= first AND shared.created_at < last
        )
    ) AS shared CROSS JOIN LATERAL ({WAY.format("shared.id")}) AS ways"""
_SHARED = {
    series: f"SELECT '{series}' AS series, {column} AS at, {day} AS whole_day, {facet} AS facet, shared.* {source}"
    for series, column, day, facet, source in (
        ("deals.created", "created_at", "false", "stage_id::text", "FROM shared"),
        ("deals.ways", "created_at", "false", "way", _WAYS),
        *(
            (series, column, _AT_MIDNIGHT.format(column), "stage_id::text", "FROM shared")
            for series, column in (("deals.expected", "expected_close_date"), ("deals.closed", "actual_close_date"))
        ),
    )
}


@cache
def _shared(series: tuple[str, ...]) -> Executable:
    """The figures of such deals, by whose they are. Their number is that of the person's own customers."""
    return unprepared(
        text(f"""
        WITH asks AS (
            SELECT * FROM unnest(
                CAST(:place AS integer[]), CAST(:series AS text[]),
                CAST(:first AS timestamptz[]), CAST(:last AS timestamptz[]),
                CAST(:first_day AS timestamptz[]), CAST(:last_day AS timestamptz[])
            ) AS asks (place, series, first, last, first_day, last_day)
        ),
        shared AS MATERIALIZED (
            SELECT deals.id, coalesce(owner_id, '') AS person, stage_id, currency, amount, probability,
                   deals.created_at, expected_close_date, actual_close_date
            FROM {OF_MY_CUSTOMERS} AND owner_id IS DISTINCT FROM {ME}
                AND (CAST(:people AS text[]) IS NULL OR coalesce(owner_id, '') = ANY (:people))
        ),
        facts AS ({" UNION ALL ".join(map(_SHARED.__getitem__, series))})
        SELECT coalesce(json_agg(json_build_array(place, person, facet, part, {MEASURES})), '[]')::text
        FROM (
            SELECT place, person, facet, CASE series WHEN 'deals.ways' THEN '' ELSE currency END, count(*),
                   sum(amount), sum(amount * probability), count(actual_close_date),
                   coalesce(sum(extract(epoch FROM greatest(actual_close_date - created_at, '0'))), 0)
            FROM asks JOIN facts USING (series)
            WHERE facet IS NOT NULL AND CASE WHEN whole_day THEN at >= first_day AND at < last_day
                                             ELSE at >= first AND at < last END
            GROUP BY 1, 2, 3, 4
        ) AS sums (place, person, facet, part, {MEASURES})
    """)
    )


async def add_up(
    tx: Transaction, asks: Sequence[Ask], people: Sequence[str] | None = None, *, each: bool = False
) -> list[Figure]:
    """The figures of everybody, of these people ('' is nobody), or of each person; those of no rows are left out.

    Of who sees only own records, it is what belongs to that person, and the deals of others at the person's customers.
    """
    if tx.own_records_only:
        me = tx.actor.user_id
        figures = await _add_up(tx, asks, [me], each=False) if people is None or me in people else []
        if people is None or set(people) - {me}:
            figures += await _add_up_shared(tx, [ask for ask in asks if ask.series.startswith("deals.")], people)
    else:
        figures = await _add_up(tx, asks, people, each=each)
    sums: dict[tuple[int, str, str, str], Figure] = {}
    for figure in figures:
        key = figure.place, figure.person, figure.facet, figure.part
        sums[key] = sums[key].plus(figure) if key in sums else figure
    return [figure for figure in sums.values() if figure.rows]


async def _add_up_shared(tx: Transaction, asks: Sequence[Ask], people: Sequence[str] | None) -> list[Figure]:
    if not asks:
        return []
    betweens = [ask.between or Between() for ask in asks]
    given = {
        "place": [ask.place for ask in asks],
        "series": [ask.series for ask in asks],
        "first": ["-infinity" if it.first is None else it.first.isoformat() for it in betweens],
        "last": ["infinity" if it.last is None else it.last.isoformat() for it in betweens],
        "first_day": ["-infinity" if it.first_day is None else midnight(it.first_day).isoformat() for it in betweens],
        "last_day": ["infinity" if it.last_day is None else midnight(it.last_day).isoformat() for it in betweens],
    }
    statement = _shared(tuple(sorted({ask.series for ask in asks})))
    found = await tx.connection.execute(statement, given | {"people": people})
    return json.decode(found.scalar_one(), type=list[Figure])


async def _add_up(tx: Transaction, asks: Sequence[Ask], people: Sequence[str] | None, *, each: bool) -> list[Figure]:
    by_person = each or people is not None
    ranges: list[_Range] = []
    edges: dict[str, list[_Edge]] = {}
    for ask in asks:
        for whole_day in (False, True) if ask.series in WITH_WHOLE_DAYS else (False,):
            # Of people there are no sums by the hour.
            hours = _hours(ask._replace(least=DAY) if by_person else ask, whole_day, edges)
            ranges += (_Range(ask.place, ask.series, whole_day, *each) for each in hours)
    statement = SUMS_OF_EACH if each else SUMS if people is None else SUMS_OF_NAMED
    given: dict[str, Any] = {name: [getattr(one, name) for one in ranges] for name in _Range._fields}
    found = await tx.connection.execute(statement, given | ({"people": people} if statement is SUMS_OF_NAMED else {}))
    figures = json.decode(found.scalar_one(), type=list[Figure])
    for series, some in edges.items():
        given = {name: [getattr(one, name) for one in some] for name in _Edge._fields}
        found = await tx.connection.execute(EDGES[series], given | {"people": people, "by_person": by_person})
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
