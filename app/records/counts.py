"""Totals that the database keeps: triggers add what each statement changed to a row that nobody else is changing, so
that no writer waits for another. Counting a million rows anew takes 25 times as long as a page of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, cast, func, select
from sqlalchemy.types import BigInteger

from app.models import RecordCount
from app.records.filters import Filter

c = RecordCount.__table__.c
FACET: ColumnElement[str] = c.facet


class Counted(NamedTuple):
    """What is counted of a table: its live rows, by a facet. `filters` are those of the list that pick facets."""

    table: str
    filters: Mapping[str, Filter] = MappingProxyType({})

    def total(self, filters: tuple[tuple[str, str], ...]) -> Select[Any] | None:
        """The sum for these filters, or None where the counts do not tell."""
        if not all(name in self.filters for name, _ in filters):
            return None
        picked = [self.filters[name].clause(name, variant) for name, variant in filters]
        return select(cast(func.coalesce(func.sum(c.rows), 0), BigInteger)).where(c.counted == self.table, *picked)
