"""The orders of lists. A list is read in one or more stretches, each of which an index can give in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, null

from app.db.transaction import Transaction


class Stretch(NamedTuple):
    """A part of a list whose rows an index gives in order: by this column, or without one all alike and by id.

    `descending` says which way, where that is not the client's choice.
    """

    condition: ColumnElement[bool] | None = None
    column: ColumnElement[Any] | None = None
    descending: bool | None = None

    @property
    def key(self) -> ColumnElement[Any]:
        """What a cursor remembers of a row, beside its stretch and its id."""
        return (null() if self.column is None else self.column).label("sort_key")


class Order(NamedTuple):
    """The stretches that make up an order, by their places, and how many there are.

    `turns` says that the descending order takes them from the last one on.
    """

    stretch: Callable[[int], Stretch]
    stretches: int | Select[Any]
    turns: bool = False

    async def places(self, tx: Transaction, *, descending: bool) -> Sequence[int]:
        """The stretches in the order in which they are read."""
        count = self.stretches
        if not isinstance(count, int):
            count = int((await tx.connection.execute(count)).scalar_one())
        return range(count)[::-1] if self.turns and descending else range(count)


def by_stretches(*stretches: Stretch) -> Order:
    """An order of these stretches, one after the other."""
    return Order(stretches.__getitem__, len(stretches))


def by_column(column: ColumnElement[Any], *, nullable: bool = False) -> Order:
    """A sort by one column. Nulls are a stretch of their own, which comes last in either direction."""
    if nullable:
        return by_stretches(Stretch(column.is_not(None), column), Stretch(column.is_(None)))
    return by_stretches(Stretch(column=column))


def by_group(group: Callable[[int], ColumnElement[bool]], groups: int | Select[Any]) -> Order:
    """A sort by what has few values, in an order of its own."""
    return Order(cache(lambda place: Stretch(group(place))), groups, turns=True)
