"""Totals that the database keeps. Triggers add what a statement changed to a counter row that no other transaction uses
at that moment, so that writers do not wait for each other. Counting a million rows takes 25 times as long as reading a
page of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Select, bindparam, cast, func, literal_column, select, union_all

from app.db.roles import OWN_RECORDS_ROLE
from app.models import RecordCount, ReportChange, ReportSum
from app.records.filters import Filter

c = RecordCount.__table__.c
FACET: ColumnElement[str] = c.facet
# What reports add up: what is added up already, and what waits for it.
kept, waiting = ReportSum.__table__.c, ReportChange.__table__.c
# Reports add up what was created in so many hours. A million rows of two years are in some hundred of such blocks.
BLOCK_HOURS = 192


class Counted(NamedTuple):
    """The live rows of a table, counted by a facet such as a status. `filters` are the list's, for facets; `series` is
    what reports add up by the time of creation, if they do.
    """

    table: str
    filters: Mapping[str, Filter] = MappingProxyType({})
    series: str | None = None

    def total(self, filters: tuple[tuple[str, str], ...]) -> Select[Any] | None:
        """The total for these filters, or None if the counts do not know it."""
        if not all(name in self.filters for name, _ in filters):
            return None
        picked = [self.filters[name].clause(name, variant) for name, variant in filters]
        return total(self.table).where(*picked)


def total(counted: str) -> Select[Any]:
    """All that is counted under this name: live rows of a table, or `attachment_bytes`."""
    return select(cast(func.coalesce(func.sum(c.rows), 0), BigInteger)).where(c.counted == counted)


class Block(NamedTuple):
    """A part of a list by creation: its first hour since 1970, how many rows come before it, how many before the next
    one, and how many there are in all.
    """

    hour: int
    before: int
    until: int
    total: int

    def edge(self, *, descending: bool) -> int:
        """Where it begins for those who read in this direction, in seconds since 1970."""
        return (self.hour + BLOCK_HOURS if descending else self.hour) * 3600


def blocks(series: str, *, descending: bool) -> Select[Any]:
    """The blocks of a list by creation that have any of the `row_limit` rows from `row_offset` on, in their order."""
    # Hours before 1970 are negative, and so is what `mod` leaves of them.
    hour = waiting.hour - func.mod(func.mod(waiting.hour, BLOCK_HOURS) + BLOCK_HOURS, BLOCK_HOURS)
    parts = union_all(
        select(kept.hour, kept.rows).where(
            kept.series == series, kept.by_person.is_(False), kept.span == BLOCK_HOURS, kept.person == ""
        ),
        select(hour, waiting.rows).where(waiting.series == series),
    ).subquery("parts")
    rows = func.sum(parts.c.rows)
    order = parts.c.hour.desc() if descending else parts.c.hour.asc()
    each = (
        select(
            parts.c.hour,
            (func.sum(rows).over(order_by=order) - rows).label("before"),
            func.sum(rows).over(order_by=order).label("until"),
            func.sum(rows).over().label("total"),
        )
        .group_by(parts.c.hour)
        .subquery("blocks")
    )
    offset, limit = (bindparam(name, type_=BigInteger) for name in ("row_offset", "row_limit"))
    return (
        select(each.c.hour, *(cast(column, BigInteger) for column in (each.c.before, each.c.until, each.c.total)))
        .where(each.c.until > offset, each.c.before < offset + limit)
        .order_by(each.c.until, each.c.before)
    )


Which = Callable[[ColumnElement[str], ColumnElement[str]], ColumnElement[bool]]
# The span of sums over all of time, and that of shared deals which say whose they are.
EVER, EVER_WITH_OWNERS = 0, ~0
SEES_OWN_ONLY = literal_column("current_user") == literal_column(f"'{OWN_RECORDS_ROLE}'")


def of_each_person(series: str, which: Which | None = None, *, shared: str | None = None) -> Any:
    """How many live records of a series each person has, as a JSON object: those `which` have such a facet and part.

    Who sees own records only is told of those that are seen: their own, and in the series `shared` those of others.
    """
    numbers = [
        select(kept.person, kept.facet, kept.part, kept.rows).where(
            kept.series == series, kept.by_person, kept.span == EVER
        ),
        select(waiting.person, waiting.facet, waiting.part, waiting.rows).where(waiting.series == series),
    ]
    if shared is not None:
        me = func.current_setting("crm.user")
        numbers += [
            select(func.split_part(each.part, " ", 2), each.facet, each.part, each.rows).where(
                SEES_OWN_ONLY, each.series == shared, each.person == me, *of_all_time
            )
            for each, of_all_time in ((kept, (kept.by_person, kept.span == EVER_WITH_OWNERS)), (waiting, ()))
        ]
    every = union_all(*numbers).subquery("numbers")
    rows = cast(func.sum(every.c.rows), BigInteger).label("rows")
    counted = select(every.c.person, rows).group_by(every.c.person)
    if which is not None:
        counted = counted.where(which(every.c.facet, every.c.part))
    each_person = counted.subquery("people")
    return select(func.jsonb_object_agg(each_person.c.person, each_person.c.rows)).scalar_subquery()
