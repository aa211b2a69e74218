"""The orders of lists. An order consists of one or more segments, and an index gives the rows of each in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Select, null

from app.records.transaction import Transaction


class Segment(NamedTuple):
    """A part of a list, in the order of this column, or of the ids if there is none.

    `descending` is set where the direction is not the client's choice.
    """

    condition: ColumnElement[bool] | None = None
    column: ColumnElement[Any] | None = None
    descending: bool | None = None

    @property
    def key(self) -> ColumnElement[Any]:
        """The value that a cursor remembers of a row, beside its segment and its id."""
        return (null() if self.column is None else self.column).label("sort_key")


class Order(NamedTuple):
    """The segments of an order, by their indexes, and how many there are.

    If it `turns`, the descending order begins with the last segment.
    """

    segment: Callable[[int], Segment]
    segments: int | Select[Any]
    turns: bool = False

    async def indexes(self, tx: Transaction, *, descending: bool) -> Sequence[int]:
        """The indexes of the segments, in the order in which they are read."""
        count = self.segments
        if not isinstance(count, int):
            count = int((await tx.connection.execute(count)).scalar_one())
        return range(count)[::-1] if self.turns and descending else range(count)


def by_segments(*segments: Segment) -> Order:
    """An order of these segments, one after the other."""
    return Order(segments.__getitem__, len(segments))


def by_column(column: ColumnElement[Any], *, nullable: bool | None = None) -> Order:
    """A sort by one column, or by an expression that may be `nullable`. Nulls are a separate segment: they come last in
    both directions.
    """
    if nullable if nullable is not None else isinstance(column, Column) and column.nullable:
        return by_segments(Segment(column.is_not(None), column), Segment(column.is_(None)))
    return by_segments(Segment(column=column))


def by_group(group: Callable[[int], ColumnElement[bool]], groups: int | Select[Any]) -> Order:
    """A sort by groups of rows, in a fixed order of the groups."""
    return Order(cache(lambda index: Segment(group(index))), groups, turns=True)
