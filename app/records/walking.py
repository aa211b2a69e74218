"""Which rows are on a page: by its number, counted from the nearer end of the list, or after the cursor's row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import Select

from app.records.counts import Block
from app.records.list_statements import Selects, Shape, Window
from app.records.searching import Search
from app.records.sorting import Order
from app.records.transaction import Transaction
from app.web.errors import Code, bad_field

# A record as `read` made it, and what a cursor remembers of it: the sort key, the segment's index, the id.
Found: TypeAlias = tuple[Any, ...]
# Makes a record of a row's values.
Read: TypeAlias = Callable[[tuple[Any, ...]], Any]

# From this offset on, a page is found by its keys alone, from the nearer end of the list.
DEEP_OFFSET = 1000
# From this offset on, from the nearer end, it is worth asking what is known of where in the list a row is.
FAR_OFFSET = 10_000


class Walk:
    """Walks through the rows of one kind of list in any of its orders, one segment after the other."""

    def __init__(self, selects: Selects, orders: Mapping[str, Order]) -> None:
        self._selects = selects
        self._orders = orders

    async def numbered(
        self, tx: Transaction, read: Read, search: Search, parameters: dict[str, Any], offset: int, size: int
    ) -> tuple[list[Found], int]:
        """The rows from an offset on, one more than asked for if there are more, and how many there are in total."""
        shape = search.shape
        if offset < DEEP_OFFSET:
            # A search mostly finds few rows, and counting them takes long.
            counting = None if search.is_search else self._counting(tx, search)
            rows, counted = await self._from_offset(tx, read, shape, parameters, offset, size + 1, counting=counting)
            # On the last page, the rows themselves tell the total.
            if len(rows) <= size and (rows or not offset):
                return rows, offset + len(rows)
            return rows, await self.total(tx, search, parameters) if counted is None else counted
        total = await self.total(tx, search, parameters)
        if search.most is not None and total > search.most:
            rows, _ = await self._from_offset(tx, read, shape, parameters, offset, size + 1, deep=True)
            return rows, total
        wanted = min(size + 1, total - offset)
        if wanted <= 0:
            return [], total
        from_end = total - offset - wanted
        if min(offset, from_end) >= FAR_OFFSET:
            found = await self._from_block(tx, read, shape, parameters, offset, wanted, total)
            if found is not None:
                return found, total
        if offset <= total // 2:
            rows, _ = await self._from_offset(tx, read, shape, parameters, offset, wanted, deep=True)
            return rows, total
        rows, _ = await self._from_offset(tx, read, shape, parameters, from_end, wanted, deep=True, backward=True)
        return rows[::-1], total

    async def after(
        self, tx: Transaction, read: Read, shape: Shape, parameters: dict[str, Any], key: list[Any], limit: int
    ) -> list[Found]:
        """Rows that come after the one with this key."""
        order = self._orders[shape.sort_by]
        indexes = await order.indexes(tx, descending=shape.descending)
        try:
            value, here, last_id = key
            column = order.segment(here).column if here in indexes else None
            if column is not None:
                value = msgspec.convert(value, column.type.python_type)
        except ValueError:  # signed by a release that sorted by something else here
            raise bad_field(Code.INVALID_CURSOR, "cursor") from None
        found: list[Found] = []
        for index in indexes[indexes.index(here) :] if here in indexes else ():
            after = {}
            if index == here:
                after = {"after_id": last_id} | ({} if column is None else {"after": value})
            window = Window(index, limit, after=index == here)
            found += await self._rows(tx, read, shape, window, parameters | after)
            if len(found) >= limit:
                break
        return found[:limit]

    async def _from_offset(
        self,
        tx: Transaction,
        read: Read,
        shape: Shape,
        parameters: dict[str, Any],
        offset: int,
        limit: int,
        *,
        deep: bool = False,
        backward: bool = False,
        counting: Select[Any] | None = None,
    ) -> tuple[list[Found], int | None]:
        """Rows from an offset on, and what `counting` counts, if the first segment has any of them."""
        order = self._orders[shape.sort_by]
        indexes = await order.indexes(tx, descending=shape.descending)
        found: list[Found] = []
        counted: int | None = None
        for index in reversed(indexes) if backward else indexes:
            window = Window(index, limit, skip=bool(offset), deep=deep, backward=backward)
            skipped = {"row_offset": offset} if offset else {}
            if counting is None:
                rows = await self._rows(tx, read, shape, window, parameters | skipped)
            else:
                rows, counted = await self._rows_and_total(tx, read, shape, window, parameters | skipped, counting)
                counting = None
            found += rows
            if len(found) >= limit:
                break
            if rows or not offset:
                offset = 0
            elif len(indexes) > 1:
                passed = await tx.connection.execute(self._selects.count(shape, index), parameters)
                offset -= passed.scalar_one()
        return found[:limit], counted

    async def _from_block(
        self,
        tx: Transaction,
        read: Read,
        shape: Shape,
        parameters: dict[str, Any],
        offset: int,
        wanted: int,
        total: int,
    ) -> list[Found] | None:
        """So many rows from an offset on, counted from the nearer end of the blocks that they are in; None if nobody
        knows of these. A read sees all of it at one moment.
        """
        statement = None if tx.own_records_only else self._selects.blocks(shape)
        if statement is None:
            return None
        touched = await tx.connection.execute(statement, {"row_offset": offset, "row_limit": wanted})
        blocks = [Block(*row) for row in touched]
        if not blocks or blocks[0].total != total:
            return None
        first, last = blocks[0], blocks[-1]
        skipped, from_end = offset - first.before, last.until - offset - wanted
        backward = from_end < skipped
        edge = last.edge(descending=not shape.descending) if backward else first.edge(descending=shape.descending)
        skipped = min(skipped, from_end)
        window = Window(0, wanted, skip=bool(skipped), deep=True, backward=backward, within=True)
        bound = {"edge": edge} | ({"row_offset": skipped} if skipped else {})
        rows = await self._rows(tx, read, shape, window, parameters | bound)
        return rows[::-1] if backward else rows

    async def _rows(
        self, tx: Transaction, read: Read, shape: Shape, window: Window, parameters: dict[str, Any]
    ) -> list[Found]:
        """Rows of one segment."""

        def found(row: tuple[Any, ...]) -> Found:
            return (read(row[:-2]), row[-2], window.segment, row[-1])

        return await tx.connection.fetch(self._selects.rows(shape, window), parameters, found, most=window.limit)

    async def _rows_and_total(
        self,
        tx: Transaction,
        read: Read,
        shape: Shape,
        window: Window,
        parameters: dict[str, Any],
        counting: Select[Any],
    ) -> tuple[list[Found], int | None]:
        counted: int | None = None

        def found(row: tuple[Any, ...]) -> Found:
            nonlocal counted
            *values, sort_key, sort_id, counted = row
            return (read(tuple(values)), sort_key, window.segment, sort_id)

        statement = self._selects.rows_and_total(shape, window, counting)
        return await tx.connection.fetch(statement, parameters, found, most=window.limit), counted

    async def total(self, tx: Transaction, search: Search, parameters: dict[str, Any]) -> int:
        """How many rows the filters match; of a search with a limit, at most one more than the limit."""
        if search.total is not None:
            return search.total
        told = parameters | {"share": search.share} if search.by_index else parameters
        return int((await tx.connection.execute(self._counting(tx, search), told)).scalar_one())

    def _counting(self, tx: Transaction, search: Search) -> Select[Any]:
        shape, selects = search.counted, self._selects
        most = None if search.most is None else search.most + 1
        kept = None if tx.own_records_only else selects.kept_total(shape)
        if kept is not None:
            return kept
        if search.by_index:
            return selects.found_live(shape, most)
        return selects.count(shape) if most is None else selects.count_up_to(shape, most)
