"""Lists: what they can be filtered and sorted by, what a query asks for, and the page that answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from enum import StrEnum
from functools import partial
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast, get_args
from zoneinfo import ZoneInfo

import msgspec
from msgspec import UNSET
from msgspec.structs import fields
from sqlalchemy import ColumnElement, FromClause, Select

from app.access.permissions import Permission
from app.records.calendar import zone_of
from app.records.counts import Counted
from app.records.filters import Filter
from app.records.json_columns import Columns, JsonColumn, selected
from app.records.list_statements import Selects, Shape
from app.records.repository import Repository
from app.records.searching import choose_search
from app.records.sorting import Order, by_column
from app.records.transaction import Transaction
from app.records.walking import Walk
from app.web.cursor import CursorSigner, Position
from app.web.errors import Code, Fault, bad_field, invalid
from app.web.paging import MAX_PAGE_SIZE, NOT_FILTERS, Deleted, ListQuery, Page, SortOrder

Record = TypeVar("Record")
Kept = TypeVar("Kept")

# The default values of filters.
DEFAULTS = {"deleted": Deleted.EXCLUDE.value}
# A cursor holds the filters, and must fit into what a query takes as one.
MOST_FILTER_BYTES = 8192


class Listing(Generic[Record]):
    """One kind of list. What a row looks like is the view's business.

    `query` is what clients send: each of its filters has one in `filters`. It may be sorted by what its `sort_by`
    knows: each by the column of that name, or as `sorts` says. `scope` are filters that only a path sets. `parts` are
    what the source is a union of, with the same columns.
    """

    def __init__(
        self,
        name: str,
        view: Callable[..., Record],
        columns: Columns,
        source: FromClause,
        *,
        key: ColumnElement[Any],
        query: type[ListQuery],
        filters: Mapping[str, Filter] = MappingProxyType({}),
        scope: Mapping[str, Filter] = MappingProxyType({}),
        sorts: Mapping[str, Order | ColumnElement[Any]] = MappingProxyType({}),
        default_sort: tuple[str, SortOrder],
        deleted_at: ColumnElement[Any] | None = None,
        counted: Counted | None = None,
        parts: Sequence[FromClause] = (),
    ) -> None:
        _check_filters(name, query, filters, has_trash=deleted_at is not None)
        self.name = name
        self.query = query
        self.source = source
        self.filters = {**scope, **filters}
        self.sorts = _orders(name, query, source, sorts)
        self._view = view
        self._default_sort = default_sort
        self._select = partial(
            Selects,
            source=source,
            key=key,
            deleted_at=deleted_at,
            filters=self.filters,
            sorts=self.sorts,
            counted=counted,
            parts=parts,
        )
        self._columns = selected(columns)
        self._use(self._columns)

    @classmethod
    def of(
        cls,
        repository: Repository[Record],
        query: type[ListQuery],
        *,
        name: str | None = None,
        facets: Mapping[str, Filter] = MappingProxyType({}),
        series: str | None = None,
        **more: Any,
    ) -> Listing[Record]:
        """The list of a repository's records. `facets` are the filters that pick some of the counts that are kept;
        `series` is what reports add up of these records by the time of creation.
        """
        table = repository.resource.table
        return cls(
            name or str(table.name),  # a quoted_name is a str that JSON does not take
            repository.view,
            repository.columns,
            table,
            key=table.c.id,
            query=query,
            deleted_at=table.c.deleted_at,
            counted=Counted(str(table.name), facets, series) if repository.resource.counted else None,
            **more,
        )

    def _use(self, columns: list[ColumnElement[Any]]) -> None:
        self._selects = self._select(columns)
        self._walk = Walk(self._selects, self.sorts)

    def with_column(self, column: JsonColumn) -> Listing[tuple[Record, Any]]:
        """The same list, with what this says beside each record."""
        pairs = cast("Listing[Any]", copy(self))
        pairs._view = lambda *values: (self._view(*values[:-1]), values[-1])
        pairs._use([*self._columns, column.column])
        return pairs

    async def page(
        self,
        tx: Transaction,
        query: ListQuery,
        keep: Callable[[Record], Kept],
        *,
        signer: CursorSigner,
        default_page_size: int,
        scope: Mapping[str, Any] = MappingProxyType({}),
        largest_page: int = MAX_PAGE_SIZE,
    ) -> Page[Kept]:
        """The page that a query asks for, and where the next one begins. `scope` sets filters that the query lacks.

        `keep` gets each record as it is read, so that never all of them are held.

        Raises AppError: INVALID_CURSOR, INVALID_REQUEST for a page beside a cursor, 403 for the trash.
        """
        if not {*query.__struct_fields__} <= {*self.query.__struct_fields__}:
            raise TypeError(f"the list of {self.name} takes {self.query.__name__}, not {type(query).__name__}")
        size = min(default_page_size if query.page_size is UNSET else query.page_size, largest_page)
        number = 1 if query.page is UNSET else query.page
        position: Position | None = None
        if query.cursor is not UNSET:
            if query.page is not UNSET:
                raise invalid(Fault("page", "does not go together with cursor"))
            position = signer.decode(query.cursor)
            query = self._resumed(tx, query, position, scope)
        filters = _given_filters(query) | {f"scope.{name}": value for name, value in scope.items()}
        if len(msgspec.json.encode(filters)) > MOST_FILTER_BYTES:
            raise invalid(Fault("query", f"has filters of more than {MOST_FILTER_BYTES} bytes together"))
        shape, parameters = await self._shape(tx, query, scope, position)
        search = await choose_search(tx, self._selects, self.sorts[shape.sort_by], shape, parameters)

        def read(values: tuple[Any, ...]) -> Kept:
            return keep(self._view(*values))

        total = None
        if position is not None:
            rows = await self._walk.after(tx, read, search.shape, parameters, position.key, size + 1)
        else:
            rows, total = await self._walk.numbered(tx, read, search, parameters, (number - 1) * size, size)
        capped = search.most is not None and total is not None and total > search.most
        if capped:
            total = search.most
        next_cursor = None
        if len(rows) > size:
            last = Position(
                tenant_id=tx.actor.tenant_id,
                listing=self.name,
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

    async def ids(self, tx: Transaction, query: ListQuery, most: int, *, lock: bool = False) -> list[int]:
        """The ids of all records that a query's filters match, in order, at most so many; with `lock`, locked.

        Raises AppError 403 for the trash.
        """
        shape, parameters = await self._shape(tx, query, {}, None)
        search = await choose_search(tx, self._selects, self.sorts[shape.sort_by], shape, parameters)
        found = await tx.connection.execute(self._selects.keys(search.shape, most, lock=lock), parameters)
        return found.scalars().all()

    async def whole(
        self, tx: Transaction, query: ListQuery, columns: list[ColumnElement[Any]]
    ) -> tuple[list[Select[Any]], dict[str, Any]]:
        """What selects these columns of all records that a query's filters match, in its order: statements, one after
        the other, and their parameters. Raises AppError 403 for the trash.
        """
        shape, parameters = await self._shape(tx, query, {}, None)
        order = self.sorts[shape.sort_by]
        search = await choose_search(tx, self._selects, order, shape, parameters)
        selects = self._select(columns)
        indexes = await order.indexes(tx, descending=shape.descending)
        return [selects.whole(search.shape, index) for index in indexes], parameters

    def _resumed(self, tx: Transaction, query: ListQuery, position: Position, scope: Mapping[str, Any]) -> ListQuery:
        """The query that the cursor's walk began with; a filter given beside it must be the same."""
        beside = _given_filters(query)
        walked = {name: value for name, value in position.filters.items() if not name.startswith("scope.")}
        sort_by, sort_order = _order(query, position.sort_by, position.sort_order)
        if (
            position.tenant_id != tx.actor.tenant_id
            or position.listing != self.name
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
        if _given_filters(resumed).keys() != walked.keys():
            raise bad_field(Code.INVALID_CURSOR, "cursor")
        return resumed

    async def _shape(
        self, tx: Transaction, query: ListQuery, scope: Mapping[str, Any], position: Position | None
    ) -> tuple[Shape, dict[str, Any]]:
        deleted = getattr(query, "deleted", UNSET)
        deleted = Deleted.EXCLUDE if deleted is UNSET else deleted
        if deleted is not Deleted.EXCLUDE:
            tx.actor.require(Permission.DELETE)
        variants: list[tuple[str, str]] = []
        # What in the scope is not a filter is a parameter of the source itself.
        parameters: dict[str, Any] = {name: value for name, value in scope.items() if name not in self.filters}
        zone: ZoneInfo | None = None
        for name, narrowing in self.filters.items():
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
        sort_by, sort_order = _order(query, default_key, default_order)
        return Shape(tuple(variants), deleted, sort_by, sort_order == SortOrder.DESC), parameters


# ── checks at import time: a query and its list must agree ───────────────────────────────────────────────────────────


def _check_filters(name: str, query: type[ListQuery], filters: Mapping[str, Filter], *, has_trash: bool) -> None:
    """Raise TypeError unless each filter that clients may send narrows the list, and the other way round."""
    known = set(query.__struct_fields__) - NOT_FILTERS
    if has_trash is not ("deleted" in known):
        raise TypeError(f"{query.__name__} has a field `deleted` if, and only if, the list of {name} has a trash")
    for missing in sorted(known - {"deleted"} - filters.keys()):
        raise TypeError(f"{query.__name__} has the filter {missing!r}: add it to the filters of the list of {name}")
    for unknown in sorted(filters.keys() - known):
        raise TypeError(f"the list of {name} has the filter {unknown!r}: add it to {query.__name__}, or to its scope")


def _orders(
    name: str, query: type[ListQuery], source: FromClause, sorts: Mapping[str, Order | ColumnElement[Any]]
) -> dict[str, Order]:
    """How each key of the query's `sort_by` sorts."""
    keys = {key.value for key in sort_keys(query)}
    for unknown in sorted(sorts.keys() - keys):
        raise TypeError(f"the list of {name} has the sort {unknown!r}: add it to the sort_by of {query.__name__}")
    orders: dict[str, Order] = {}
    for key in keys:
        if key not in sorts and key not in source.c:
            raise TypeError(f"{query.__name__} has the sort {key!r}: add it to the sorts of the list of {name}")
        order = sorts[key] if key in sorts else source.c[key]
        orders[key] = order if isinstance(order, Order) else by_column(order)
    return orders


def sort_keys(query: type[ListQuery]) -> type[StrEnum]:
    """What a query's `sort_by` may be."""
    (annotation,) = [field.type for field in fields(query) if field.name == "sort_by"]
    (keys,) = [part for part in get_args(annotation) if isinstance(part, type) and issubclass(part, StrEnum)]
    return keys


def _given_filters(query: ListQuery) -> dict[str, Any]:
    given = msgspec.to_builtins(query)
    return {name: value for name, value in given.items() if name not in NOT_FILTERS}


def _order(query: ListQuery, sort_by: str, sort_order: str) -> tuple[str, str]:
    """The order that a query asks for, where it asks for one."""
    key: StrEnum | Any = getattr(query, "sort_by", UNSET)
    return (
        sort_by if key is UNSET else key.value,
        sort_order if query.sort_order is UNSET else query.sort_order.value,
    )


def _in_any_order(value: Any) -> Any:
    return set(value) if isinstance(value, list) else value
