"""How the rows of a list that is searched are found: by the index of the search, or on the way through the list."""

from __future__ import annotations

from typing import Any, NamedTuple

from app.records.filters import AS_WALKED
from app.records.list_statements import Selects, Shape
from app.records.sorting import Order
from app.records.transaction import Transaction
from app.web.paging import Deleted

# What is searched is looked for among so many rows first.
SAMPLE = 200
# From which shares on it is faster to go through the rows: for a page, for a total of those that other filters let
# through, for a total of all.
WORTH_WALKING, WORTH_COUNTING, WORTH_COUNTING_ALL = 0.01, 0.02, 0.3
# A fragment of one or two letters, which very many rows have, and up to where such rows are counted.
SHORT, MOST_COUNTED = 2, 10_000


class Search(NamedTuple):
    """How the rows of a list are found, and how they are counted."""

    shape: Shape
    counted: Shape
    total: int | None = None
    by_index: bool = False
    # Up to where rows are counted: there is a limit for a search of one or two letters.
    most: int | None = None

    @property
    def is_search(self) -> bool:
        """Whether the list is searched at all."""
        return "search" in dict(self.shape.filters)


async def choose_search(
    tx: Transaction, selects: Selects, order: Order, shape: Shape, parameters: dict[str, Any]
) -> Search:
    """What many of the first rows have is found on the way through them; what few have, by the ids that the index
    gives.
    """
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
    # Where nothing but the search narrows the list, its index counts alone, and faster.
    alone = len(shape.filters) == 1 and shape.deleted is Deleted.EXCLUDE and not tx.own_records_only
    through_rows = found >= seen * (WORTH_COUNTING_ALL if alone else WORTH_COUNTING)
    return Search(
        walked if seen < SAMPLE or found >= seen * WORTH_WALKING else shape,
        walked if through_rows else shape,
        by_index=alone and not through_rows,
        total=found if seen < SAMPLE and shape.deleted is not Deleted.INCLUDE else None,
        most=MOST_COUNTED if all(len(fragment) <= SHORT for fragment in parameters["search"]) else None,
    )
