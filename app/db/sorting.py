"""The orders of lists. A list is read in one or more stretches, each of which an index can give in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, literal

from app.db.transaction import Transaction


class Stretch(NamedTuple):
    """A part of a list whose rows an index gives in order: by the sort's column, or else all alike and by id."""

    condition: ColumnElement[bool] | None = None
    ordered: bool = True


class Sort(NamedTuple):
    """A sort key, and the stretches that make up its ascending order.

    Of a column that may be null, nulls are a stretch of their own, which comes last in either direction. A sort by
    `group` has no column: so many `groups`, each of which is one stretch.
    """

    column: ColumnElement[Any]
    nullable: bool = False
    group: Callable[[int], ColumnElement[bool]] | None = None
    groups: int | Select[Any] = 0

    async def places(self, tx: Transaction, *, descending: bool) -> Sequence[int]:
        """The stretches in the order in which they are read."""
        if self.group is None:
            return range(2 if self.nullable else 1)
        count = self.groups
        if not isinstance(count, int):
            count = int((await tx.connection.execute(count)).scalar_one())
        return range(count)[::-1] if descending else range(count)

    def stretch(self, place: int) -> Stretch:
        """What stands at a place."""
        if self.group is not None:
            return Stretch(self.group(place), ordered=False)
        if self.nullable:
            return Stretch(self.column.is_(None), ordered=False) if place else Stretch(self.column.is_not(None))
        return Stretch()

    def key(self, place: int) -> ColumnElement[Any]:
        """What a cursor remembers of a row, beside its id."""
        return (self.column if self.group is None else literal(place)).label("sort_key")


def by_group(group: Callable[[int], ColumnElement[bool]], groups: int | Select[Any]) -> Sort:
    """A sort by what has few values, in an order of its own."""
    return Sort(literal(0), group=cache(group), groups=groups)
