"""Totals that the database keeps. Triggers add what a statement changed to a counter row that no other transaction uses
at that moment, so that writers do not wait for each other. Counting a million rows takes 25 times as long as reading a
page of them.
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
    """The live rows of a table, counted by a facet such as a status. `filters` are the list's, for facets."""

    table: str
    filters: Mapping[str, Filter] = MappingProxyType({})

    def total(self, filters: tuple[tuple[str, str], ...]) -> Select[Any] | None:
        """The total for these filters, or None if the counts do not know it."""
        if not all(name in self.filters for name, _ in filters):
            return None
        picked = [self.filters[name].clause(name, variant) for name, variant in filters]
        return total(self.table).where(*picked)


def total(counted: str) -> Select[Any]:
    """All that is counted under this name: live rows of a table, or `attachment_bytes`."""
    return select(cast(func.coalesce(func.sum(c.rows), 0), BigInteger)).where(c.counted == counted)
