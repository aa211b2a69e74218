"""How a search in a list finds its rows: by the search's index, or by looking at each row of the list in turn."""

from __future__ import annotations

from typing import Any, NamedTuple

from app.records.filters import AS_WALKED
from app.records.list_statements import Selects, Shape
from app.records.sorting import Order
from app.records.transaction import Transaction
from app.web.paging import Deleted

# A search first looks at so many rows, to learn how many of them match.
SAMPLE = 200
# From these shares of matching rows on, looking at each row is faster: for a page, for a total with other filters, and
# for a total without.
WORTH_WALKING, WORTH_COUNTING, WORTH_COUNTING_ALL = 0.01, 0.02, 0.3
# Very many rows have a fragment of one or two letters: they are counted up to this limit.
SHORT, MOST_COUNTED = 2, 10_000


class Search(NamedTuple):
    """How the rows of a list are found, and how they are counted."""

    shape: Shape
    counted: Shape
    total: int | None = None
    by_index: bool = False
    # The most rows that are counted, for a search of one or two letters; and what part of the first rows matched.
    most: int | None = None
    share: float = 0.0

    @property
    def is_search(self) -> bool:
        """Whether the list is searched at all."""
        return "search" in dict(self.shape.filters)


async def choose_search(
    tx: Transaction, selects: Selects, order: Order, shape: Shape, parameters: dict[str, Any]
) -> Search:
    """Where many of the first rows match, the list is walked; where few match, the index gives the ids."""
    variant = dict(shape.filters).get("search")
    if variant not in AS_WALKED or not selects.searched:
        return Search(shape, shape)
    walked = shape._replace(
        filters=tuple((name, AS_WALKED[kind] if name == "search" else kind) for name, kind in shape.filters)
    )
    seen = found = 0
    for index in await order.indexes(tx, descending=shape.descending):
        sample = selects.sample(walked, index, SAMPLE)
        rows, matches = (await tx.connection.execute(sample, parameters)).one()
        seen, found = seen + rows, found + matches
        if seen >= SAMPLE:
            break
    # Without any other filter, the search's index can count alone, which is faster.
    alone = len(shape.filters) == 1 and shape.deleted is Deleted.EXCLUDE and not tx.own_records_only
    through_rows = found >= seen * (WORTH_COUNTING_ALL if alone else WORTH_COUNTING)
    return Search(
        walked if seen < SAMPLE or found >= seen * WORTH_WALKING else shape,
        walked if through_rows else shape,
        by_index=alone and not through_rows,
        total=found if seen < SAMPLE and shape.deleted is not Deleted.INCLUDE else None,
        most=MOST_COUNTED if all(len(fragment) <= SHORT for fragment in parameters["search"]) else None,
        share=found / max(seen, 1),
    )
