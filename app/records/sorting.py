"""The orders of lists. A list is read in one or more segments, each of which an index can give in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Select, null

from app.records.transaction import Transaction


class Segment(NamedTuple):
    """A part of a list whose rows an index gives in order: by this column, or without one all alike and by id.

    `descending` says which way, where that is not the client's choice.
    """

    condition: ColumnElement[bool] | None = None
    column: ColumnElement[Any] | None = None
    descending: bool | None = None

    @property
    def key(self) -> ColumnElement[Any]:
        """What a cursor remembers of a row, beside its segment and its id."""
        return (null() if self.column is None else self.column).label("sort_key")


class Order(NamedTuple):
    """The segments that make up an order, by their indexes, and how many there are.

    `turns` says that the descending order takes them from the last one on.
    """

    segment: Callable[[int], Segment]
    segments: int | Select[Any]
    turns: bool = False

    async def indexes(self, tx: Transaction, *, descending: bool) -> Sequence[int]:
        """The segments in the order in which they are read."""
        count = self.segments
        if not isinstance(count, int):
            count = int((await tx.connection.execute(count)).scalar_one())
        return range(count)[::-1] if self.turns and descending else range(count)


def by_segments(*segments: Segment) -> Order:
    """An order of these segments, one after the other."""
    return Order(segments.__getitem__, len(segments))


def by_column(column: ColumnElement[Any], *, nullable: bool | None = None) -> Order:
    """A sort by one column; an expression says whether it is `nullable`. Nulls are a segment of their own, which comes
    last in either direction.
    """
    if nullable if nullable is not None else isinstance(column, Column) and column.nullable:
        return by_segments(Segment(column.is_not(None), column), Segment(column.is_(None)))
    return by_segments(Segment(column=column))


def by_group(group: Callable[[int], ColumnElement[bool]], groups: int | Select[Any]) -> Order:
    """A sort by what has few values, in an order of its own."""
    return Order(cache(lambda index: Segment(group(index))), groups, turns=True)
