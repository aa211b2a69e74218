"""Lists: what a query asks for, and which rows that is, by page or by cursor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from enum import StrEnum
from functools import partial
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar, cast
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET
from sqlalchemy import ColumnElement, FromClause

from app.access.permissions import Permission
from app.db.transaction import Transaction
from app.records.calendar import zone_of
from app.records.counts import Counted
from app.records.filters import AS_WALKED, Filter, FoundIn
from app.records.json_columns import Columns, JsonColumn, selected
from app.records.list_statements import Part, Selects, Shape
from app.records.sorting import Order
from app.web.cursor import CursorSigner, Position
from app.web.errors import Code, Fault, bad_field, invalid
from app.web.paging import LARGEST_PAGE, Deleted, ListQuery, Page, SortOrder

Record = TypeVar("Record")
Kept = TypeVar("Kept")
# What becomes of a record on its page, and what a cursor remembers of it: the sort key, the segment, the id.
Found: TypeAlias = tuple[Any, ...]
Keep: TypeAlias = Callable[[Any], Any]

# Everything in a query that is not a filter.
PAGING = frozenset(ListQuery.__struct_fields__)
# What a filter is that is not given, where that can be said.
DEFAULTS = {"deleted": Deleted.EXCLUDE.value}
# From here on a page by number is found by its keys alone, from whichever end of the list is nearer.
DEEP_OFFSET = 1000
# What is searched is looked for among so many rows first.
SAMPLE = 200
# From which shares on it is faster to go through the rows: for a page, for a total of those that other filters let
# through, for a total of all.
WORTH_WALKING, WORTH_COUNTING, WORTH_COUNTING_ALL = 0.01, 0.02, 0.3
# Letters of a fragment that very many rows have, and up to where such are counted.
SHORT, MOST_COUNTED = 2, 10_000
# A cursor holds the filters, and must fit into what a query takes as one.
MOST_FILTER_BYTES = 8192


class Search(NamedTuple):
    """How the rows of a list that is searched are found, and how they are counted."""

    shape: Shape
    counted: Shape
    total: int | None = None
    by_index: bool = False
    # Of one or two letters, which so many have that they are not counted out.
    short: bool = False


class Listing(Generic[Record]):
    """One kind of list. Knows its table, its filters and its orders; what a row looks like is the view's business."""

    def __init__(
        self,
        name: str,
        view: Callable[..., Record],
        columns: Columns,
        source: FromClause,
        *,
        key: ColumnElement[Any],
        filters: Mapping[str, Filter],
        sorts: Mapping[str, Order],
        default_sort: tuple[str, SortOrder],
        deleted_at: ColumnElement[Any] | None = None,
        counted: Counted | None = None,
    ) -> None:
        self._name = name
        self._view = view
        self._width = len(columns)
        self._filters = filters
        self._sorts = sorts
        self._default_sort = default_sort
        self._select = partial(
            Selects, source=source, key=key, deleted_at=deleted_at, filters=filters, sorts=sorts, counted=counted
        )
        self._columns = selected(columns)
        self._selects = self._select(self._columns)

    def with_column(self, column: JsonColumn) -> Listing[tuple[Record, Any]]:
        """The same list, with what this says beside each record."""
        pairs = cast("Listing[Any]", copy(self))
        pairs._width = self._width + 1
        pairs._view = lambda *values: (self._view(*values[:-1]), values[-1])
        pairs._selects = self._select([*self._columns, column.column])
        return pairs

    async def page(
        self,
        tx: Transaction,
        query: ListQuery,
        keep: Callable[[Record], Kept],
        *,
        signer: CursorSigner,
        default_page_size: int,
        scope: Mapping[str, Any] | None = None,
        largest_page: int = LARGEST_PAGE,
    ) -> Page[Kept]:
        """The page that a query asks for, and where the next one begins. `scope` sets filters that the query lacks.

        `keep` gets each record as it is read, so that never all of them are held.

        Raises AppError: INVALID_CURSOR, INVALID_REQUEST for a page beside a cursor, 403 for the trash.
        """
        size = min(default_page_size if query.page_size is UNSET else query.page_size, largest_page)
        number = 1 if query.page is UNSET else query.page
        position: Position | None = None
        if query.cursor is not UNSET:
            if query.page is not UNSET:
                raise invalid(Fault("page", "does not go together with cursor"))
            position = signer.decode(query.cursor)
            query = self._resumed(tx, query, position, scope or {})
        filters = self._given_filters(query) | {f"scope.{name}": value for name, value in (scope or {}).items()}
        if len(msgspec.json.encode(filters)) > MOST_FILTER_BYTES:
            raise invalid(Fault("query", f"has filters of more than {MOST_FILTER_BYTES} bytes together"))
        shape, parameters = await self._shape(tx, query, scope or {}, position)
        search = await self._search(tx, shape, parameters)
        total = None
        if position is not None:
            rows = await self._after(tx, keep, search.shape, parameters, position.key, size + 1)
        else:
            rows, total = await self._numbered(tx, keep, search, parameters, (number - 1) * size, size)
        if capped := search.short and total is not None and total > MOST_COUNTED:
            total = MOST_COUNTED
        next_cursor = None
        if len(rows) > size:
            last = Position(
                tenant_id=tx.actor.tenant_id,
                listing=self._name,
                filters=filters,
                sort_by=shape.sort_by,
                sort_order="desc" if shape.descending else "asc",
                key=list(rows[size - 1][-3:]),
            )
            next_cursor = signer.encode(last)
        return Page(
            data=[row[0] for row in rows[:size]],
            total=total,
            page=None if position else number,
            page_size=size,
            total_pages=None if total is None else -(-total // size),
            next_cursor=next_cursor,
            total_capped=True if capped else UNSET,
        )

    # ── which rows ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _numbered(
        self, tx: Transaction, keep: Keep, search: Search, parameters: dict[str, Any], offset: int, size: int
    ) -> tuple[list[Found], int]:
        """The rows from an offset on, one more than asked for where there are more, and how many there are in all."""
        shape = search.shape
        if offset < DEEP_OFFSET:
            rows = await self._walk(tx, keep, shape, parameters, offset, size + 1)
            # The rows themselves tell how many there are where they end on this page.
            if len(rows) <= size and (rows or not offset):
                return rows, offset + len(rows)
            return rows, await self._total(tx, search, parameters)
        total = await self._total(tx, search, parameters)
        if search.short and total > MOST_COUNTED:
            return await self._walk(tx, keep, shape, parameters, offset, size + 1, deep=True), total
        wanted = min(size + 1, total - offset)
        if wanted <= 0:
            return [], total
        if offset <= total // 2:
            return await self._walk(tx, keep, shape, parameters, offset, wanted, deep=True), total
        from_end = total - offset - wanted
        rows = await self._walk(tx, keep, shape, parameters, from_end, wanted, deep=True, backward=True)
        return rows[::-1], total

    async def _walk(
        self,
        tx: Transaction,
        keep: Keep,
        shape: Shape,
        parameters: dict[str, Any],
        offset: int,
        limit: int,
        *,
        deep: bool = False,
        backward: bool = False,
    ) -> list[Found]:
        """Rows from an offset on, through one segment after the other."""
        sort = self._sorts[shape.sort_by]
        places = await sort.places(tx, descending=shape.descending)
        found: list[Found] = []
        for place in reversed(places) if backward else places:
            part = Part(place, limit, skip=bool(offset), deep=deep, backward=backward)
            window = {"row_offset": offset} if offset else {}
            rows = await self._rows(tx, keep, shape, part, parameters | window)
            found += rows
            if len(found) >= limit:
                break
            if rows or not offset:
                offset = 0
            elif len(places) > 1:
                passed = await tx.connection.execute(self._selects.count(shape, place), parameters)
                offset -= passed.scalar_one()
        return found[:limit]

    async def _after(
        self, tx: Transaction, keep: Keep, shape: Shape, parameters: dict[str, Any], key: list[Any], limit: int
    ) -> list[Found]:
        """Rows that come after the one with this key."""
        sort = self._sorts[shape.sort_by]
        places = await sort.places(tx, descending=shape.descending)
        try:
            value, here, last_id = key
            column = sort.segment(here).column if here in places else None
            if column is not None:
                value = msgspec.convert(value, column.type.python_type)
        except ValueError:  # signed by a release that sorted by something else here
            raise bad_field(Code.INVALID_CURSOR, "cursor") from None
        found: list[Found] = []
        for place in places[places.index(here) :] if here in places else ():
            after = {}
            if place == here:
                after = {"after_id": last_id} | ({} if column is None else {"after": value})
            part = Part(place, limit, after=place == here)
            found += await self._rows(tx, keep, shape, part, parameters | after)
            if len(found) >= limit:
                break
        return found[:limit]

    async def _rows(
        self, tx: Transaction, keep: Keep, shape: Shape, part: Part, parameters: dict[str, Any]
    ) -> list[Found]:
        """Rows of one segment."""

        def found(row: tuple[Any, ...]) -> Found:
            return (keep(self._view(*row[: self._width])), row[-2], part.place, row[-1])

        return await tx.connection.fetch(self._selects.rows(shape, part), parameters, found)

    async def _total(self, tx: Transaction, search: Search, parameters: dict[str, Any]) -> int:
        """How many rows the filters match: exactly, or for a search of a letter or two one more than are told of."""
        if search.total is not None:
            return search.total
        shape, selects = search.counted, self._selects
        most = MOST_COUNTED + 1 if search.short else None
        kept = None if tx.own_records_only else selects.kept_total(shape)
        if kept is not None:
            statement = kept
        elif search.by_index:
            statement = selects.found_live(shape, most)
        else:
            statement = selects.count(shape) if most is None else selects.count_up_to(shape, most)
        return int((await tx.connection.execute(statement, parameters)).scalar_one())

    async def _search(self, tx: Transaction, shape: Shape, parameters: dict[str, Any]) -> Search:
        """How to find what is searched. What many of the first rows have is found on the way through them; what few
        have, by the ids that the index gives.
        """
        variant = dict(shape.filters).get("search")
        if variant not in AS_WALKED or not isinstance(self._filters["search"], FoundIn):
            return Search(shape, shape)
        walked = shape._replace(
            filters=tuple((name, AS_WALKED[kind] if name == "search" else kind) for name, kind in shape.filters)
        )
        seen = found = 0
        for place in await self._sorts[shape.sort_by].places(tx, descending=shape.descending):
            sample = self._selects.sample(walked, place, SAMPLE)
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
            short=all(len(fragment) <= SHORT for fragment in parameters["search"]),
        )

    # ── what a query means ───────────────────────────────────────────────────────────────────────────────────────────

    def _resumed(self, tx: Transaction, query: ListQuery, position: Position, scope: Mapping[str, Any]) -> ListQuery:
        """The query that the cursor's walk began with; a filter given beside it must be the same."""
        beside = self._given_filters(query)
        walked = {name: value for name, value in position.filters.items() if not name.startswith("scope.")}
        sort_by, sort_order = self._order(query, position.sort_by, position.sort_order)
        if (
            position.tenant_id != tx.actor.tenant_id
            or position.listing != self._name
            or (sort_by, sort_order) != (position.sort_by, position.sort_order)
            or any(
                _in_any_order(walked.get(name, DEFAULTS.get(name))) != _in_any_order(beside[name]) for name in beside
            )
            or position.filters != walked | {f"scope.{name}": value for name, value in scope.items()}
        ):
            raise bad_field(Code.INVALID_CURSOR, "cursor")
        walk = walked | {"sort_by": position.sort_by, "sort_order": position.sort_order}
        if query.page_size is not UNSET:
            walk["page_size"] = query.page_size
        # What was signed by another release may have other filters.
        try:
            resumed = msgspec.convert(walk, type(query))
        except msgspec.ValidationError:
            raise bad_field(Code.INVALID_CURSOR, "cursor") from None
        if self._given_filters(resumed).keys() != walked.keys():
            raise bad_field(Code.INVALID_CURSOR, "cursor")
        return resumed

    def _given_filters(self, query: ListQuery) -> dict[str, Any]:
        given = msgspec.to_builtins(query)
        return {name: value for name, value in given.items() if name not in PAGING and name != "sort_by"}

    def _order(self, query: ListQuery, sort_by: str, sort_order: str) -> tuple[str, str]:
        """The order that a query asks for, where it asks for one."""
        key: StrEnum | Any = getattr(query, "sort_by", UNSET)
        return (
            sort_by if key is UNSET else key.value,
            sort_order if query.sort_order is UNSET else query.sort_order.value,
        )

    async def _shape(
        self, tx: Transaction, query: ListQuery, scope: Mapping[str, Any], position: Position | None
    ) -> tuple[Shape, dict[str, Any]]:
        deleted = getattr(query, "deleted", UNSET)
        deleted = Deleted.EXCLUDE if deleted is UNSET else deleted
        if deleted is not Deleted.EXCLUDE:
            tx.actor.require(Permission.DELETE)
        variants: list[tuple[str, str]] = []
        # What in the scope is no filter is a parameter of the source itself.
        parameters: dict[str, Any] = {name: value for name, value in scope.items() if name not in self._filters}
        zone: ZoneInfo | None = None
        for name, narrowing in self._filters.items():
            value = scope[name] if name in scope else getattr(query, name, UNSET)
            if value is not UNSET:
                variant, value = narrowing.read(value, tx.actor.user_id)
                bound = {name: value}
                if narrowing.bound is not None:
                    zone = zone or await zone_of(tx)
                    variant, bound = narrowing.bounded(name, value, zone)
                variants.append((name, variant))
                parameters |= bound
        default_key, default_order = self._default_sort
        if position is not None:
            default_key, default_order = position.sort_by, SortOrder(position.sort_order)
        sort_by, sort_order = self._order(query, default_key, default_order)
        return Shape(tuple(variants), deleted, sort_by, sort_order == SortOrder.DESC), parameters


def _in_any_order(value: Any) -> Any:
    return set(value) if isinstance(value, list) else value
