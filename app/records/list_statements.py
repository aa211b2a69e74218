"""The statements of lists. Each is built once for each shape of a list: building one costs more than running it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    Table,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.sql.visitors import replacement_traverse

from app.db.statements import unprepared
from app.records.counts import Counted, blocks
from app.records.filters import Filter, FoundIn, crm_count_found, crm_search
from app.records.sorting import Order, Segment
from app.web.paging import Deleted

# For each kind of statement of a list, some 10 KB each. There is one for each set of filters and each page size.
MOST_KEPT = 200
Where: TypeAlias = list[ColumnElement[bool]]


class Shape(NamedTuple):
    """What the statements of a list depend on, apart from their parameters."""

    filters: tuple[tuple[str, str], ...]
    deleted: Deleted
    sort_by: str
    descending: bool


class Window(NamedTuple):
    """What else a statement depends on: which segment of the order it reads, how much of it, from where, and in which
    direction.

    The limit stands in the statement: as a parameter it would be unknown to the server's planner, which would then plan
    anew for each execution, and that takes longer than to execute it.
    """

    segment: int
    limit: int
    skip: bool = False
    after: bool = False
    deep: bool = False
    backward: bool = False
    # From a moment on, which is a parameter.
    within: bool = False

    @property
    def limit_clause(self) -> ColumnElement[int]:
        """The limit as a literal."""
        return literal_column(str(self.limit), BigInteger)

    @property
    def offset_clause(self) -> ColumnElement[int] | None:
        """The offset as a parameter, if there is one."""
        return bindparam("row_offset", type_=BigInteger) if self.skip else None


class Selects:
    """The statements of one kind of list."""

    def __init__(
        self,
        columns: list[ColumnElement[Any]],
        source: FromClause,
        *,
        key: ColumnElement[Any],
        deleted_at: ColumnElement[Any] | None,
        filters: Mapping[str, Filter],
        sorts: Mapping[str, Order],
        counted: Counted | None,
        parts: Sequence[FromClause] = (),
    ) -> None:
        self._columns = columns
        self._parts = parts
        self._source = source
        self._key = key
        self._deleted_at = deleted_at
        self._filters = filters
        self._sorts = sorts
        self._counted = counted
        self.searched = isinstance(filters.get("search"), FoundIn)
        # Each statement, kept once it was built.
        self.rows = lru_cache(MOST_KEPT)(self._rows)
        self.rows_and_total = lru_cache(MOST_KEPT)(self._rows_and_total)
        self.count = lru_cache(MOST_KEPT)(self._count)
        self.kept_total = lru_cache(MOST_KEPT)(self._kept_total)
        self.blocks = lru_cache(MOST_KEPT)(self._blocks)
        self.sample = lru_cache(MOST_KEPT)(self._sample)
        self.count_up_to = lru_cache(MOST_KEPT)(self._count_up_to)
        self.found_live = lru_cache(MOST_KEPT)(self._found_live)
        self.keys = lru_cache(MOST_KEPT)(self._keys)

    def _rows(self, shape: Shape, window: Window) -> Select[Any]:
        """Rows of one segment, each followed by its sort key and id."""
        keys = [self._segment(shape, window.segment).key, self._key.label("sort_id")]
        wheres = self._wheres(shape, window.segment)
        if isinstance(self._source, Table) and (window.deep or len(wheres) > 1):
            return _planned(shape, self._by_keys(shape, window, self._source, keys, wheres))
        if self._parts:
            return _planned(shape, self._by_parts(shape, window, keys, wheres[0]))
        rows = self._ordered(shape, window, [*self._columns, *keys], wheres[0])
        return _planned(shape, rows.limit(window.limit_clause).offset(window.offset_clause))

    def whole(self, shape: Shape, index: int) -> Select[Any]:
        """All rows of one segment, in its order. The statement is not kept."""
        matching = or_(*(and_(*where) for where in self._wheres(shape, index)))
        return self._ordered(shape, Window(index, 0), self._columns, [matching])

    def _rows_and_total(self, shape: Shape, window: Window, total: Select[Any]) -> Select[Any]:
        """The same, each followed by the total: both in one round trip."""
        return self.rows(shape, window).add_columns(total.scalar_subquery())

    def _by_keys(
        self, shape: Shape, window: Window, table: Table, keys: list[ColumnElement[Any]], wheres: list[Where]
    ) -> Select[Any]:
        # First the keys, from the indexes alone, then the rows of the page.
        found = [self._ordered(shape, window, keys, where) for where in wheres]
        page, limit, offset = found[0], window.limit_clause, window.offset_clause
        if len(found) > 1:
            enough = limit if offset is None else limit + offset
            both = union_all(*(each.limit(enough) for each in found)).subquery("both")
            page = select(both).order_by(*self._direction(shape, window, both.c.sort_key, both.c.sort_id))
        found_keys = page.limit(limit).offset(offset).subquery("page")
        order = self._direction(shape, window, found_keys.c.sort_key, found_keys.c.sort_id)
        return (
            select(*self._columns, found_keys.c.sort_key, found_keys.c.sort_id)
            .select_from(table.join(found_keys, self._key == found_keys.c.sort_id))
            .order_by(*order)
        )

    def _by_parts(self, shape: Shape, window: Window, keys: list[ColumnElement[Any]], where: Where) -> Select[Any]:
        # Each part gives its first rows by its own index: PostgreSQL would read and sort the whole union.
        limit, offset = window.limit_clause, window.offset_clause
        enough = limit if offset is None else limit + offset
        ordered = self._ordered(shape, window, list(self._source.c), where)
        firsts = union_all(*(_moved(ordered.limit(enough), self._source, part) for part in self._parts)).subquery()
        page = select(*self._columns, *keys).select_from(self._source)
        column = self._segment(shape, window.segment).column
        page = page.order_by(*self._direction(shape, window, *(() if column is None else (column,)), self._key))
        return _moved(page.limit(limit).offset(offset), self._source, firsts)

    def _ordered(self, shape: Shape, window: Window, columns: list[ColumnElement[Any]], where: Where) -> Select[Any]:
        column = self._segment(shape, window.segment).column
        if window.after:
            where = [*where, self._beyond(column, descending=self._descending(shape, window.segment))]
        if window.within and column is not None:
            edge = func.to_timestamp(bindparam("edge", type_=BigInteger))
            reads_descending = self._descending(shape, window.segment) is not window.backward
            where = [*where, column < edge if reads_descending else column >= edge]
        order = self._direction(shape, window, *(() if column is None else (column,)), self._key)
        return select(*columns).select_from(self._source).where(*where).order_by(*order)

    def _segment(self, shape: Shape, index: int) -> Segment:
        return self._sorts[shape.sort_by].segment(index)

    def _descending(self, shape: Shape, index: int) -> bool:
        own = self._segment(shape, index).descending
        return shape.descending if own is None else own

    def _direction(self, shape: Shape, window: Window, *columns: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        descending = self._descending(shape, window.segment) is not window.backward
        return [column.desc() if descending else column.asc() for column in columns]

    def _count(self, shape: Shape, index: int | None = None) -> Select[Any]:
        """How many rows the filters match, in all or in one segment."""
        return _planned(shape, _sum(self._counted_where(where) for where in self._wheres(shape, index)))

    def _kept_total(self, shape: Shape) -> Select[Any] | None:
        """The total from the counts that the database keeps, or None if they do not know how many rows match."""
        kept = None if self._counted is None else self._counted.total(shape.filters)
        if kept is None or (self._deleted_at is not None and shape.deleted is Deleted.ONLY):
            return None
        return _sum([kept, *(self._counted_where(where) for where in self._wheres(shape, None)[1:])])

    def _blocks(self, shape: Shape) -> Select[Any] | None:
        """What says where in the list a row is, or None if the database does not keep it for this list and order."""
        series = None if self._counted is None else self._counted.series
        if series is None or shape.filters or shape.deleted is not Deleted.EXCLUDE or shape.sort_by != "created_at":
            return None
        return blocks(series, descending=shape.descending)

    def _sample(self, shape: Shape, index: int, size: int) -> Select[Any]:
        """How many of the first rows of a segment there are, and how many of them a search finds."""
        search = dict(shape.filters)["search"]
        others = shape._replace(filters=tuple(each for each in shape.filters if each[0] != "search"))
        found = self._filters["search"].clause("search", search).label("found")
        rows = self._ordered(others, Window(index, size), [found], self._wheres(others, index)[0])
        first = rows.limit(literal_column(str(size), BigInteger)).subquery("first")
        return _planned(shape, select(func.count(), func.count().filter(first.c.found)).select_from(first))

    def _count_up_to(self, shape: Shape, most: int) -> Select[Any]:
        """How many rows the filters match, at most `most` of the live ones and as many in the trash."""
        limit = literal_column(str(most), BigInteger)
        some = (select(self._key).select_from(self._source).where(*where) for where in self._wheres(shape, None))
        return _planned(shape, _sum(select(func.count()).select_from(each.limit(limit).subquery()) for each in some))

    def _found_live(self, shape: Shape, most: int | None) -> Select[Any]:
        """How many live rows a search finds, without any other filter; `most` of those that are expected to be many."""
        assert isinstance(self._source, Table)  # noqa: S101 -- only tables are searched
        name, variant = self._source.name, dict(shape.filters)["search"]
        if most is not None:
            return _planned(shape, select(crm_count_found(name, "search", variant, most)))
        found = crm_search(name, "search", variant, live=True)
        return _planned(shape, select(func.count()).select_from(found.alias("found")))

    def _keys(self, shape: Shape, most: int, *, lock: bool) -> Select[Any]:
        """The keys of what the filters match, in their order, in which they can be locked; at most so many."""
        matching = or_(*(and_(*where) for where in self._wheres(shape, None)))
        keys = select(self._key).select_from(self._source).where(matching).order_by(self._key)
        keys = keys.limit(literal_column(str(most), BigInteger))
        return _planned(shape, keys.with_for_update() if lock else keys)

    def _counted_where(self, where: Where) -> Select[Any]:
        return select(func.count()).select_from(self._source).where(*where)

    def _wheres(self, shape: Shape, index: int | None) -> list[Where]:
        """The conditions. Live rows and the trash have separate indexes: a list of both has two sets of conditions."""
        segment = Segment() if index is None else self._segment(shape, index)
        conditions = [
            condition
            for name, variant in shape.filters
            for condition in self._filters[name].clauses(name, variant, segment.column)
        ]
        if segment.condition is not None:
            conditions.append(segment.condition)
        if self._deleted_at is None:
            return [conditions]
        live, trashed = self._deleted_at.is_(None), self._deleted_at.is_not(None)
        wanted = {Deleted.EXCLUDE: [live], Deleted.ONLY: [trashed], Deleted.INCLUDE: [live, trashed]}
        return [[*conditions, each] for each in wanted[shape.deleted]]

    def _beyond(self, column: ColumnElement[Any] | None, *, descending: bool) -> ColumnElement[bool]:
        """The rows of a segment that come after the cursor's."""
        after_id = bindparam("after_id", type_=self._key.type)
        if column is None:
            return self._key < after_id if descending else self._key > after_id
        after = bindparam("after", type_=column.type)
        here, there = tuple_(column, self._key), tuple_(after, after_id)
        beyond = here < there if descending else here > there
        if isinstance(self._source, Table):
            return beyond
        # The key of several tables together is in no index. What follows from the condition is.
        return and_(column <= after if descending else column >= after, beyond)


def _moved(statement: Select[Any], source: FromClause, other: FromClause) -> Select[Any]:
    """The same statement of another source, which has the same columns."""

    def replace(element: Any, **_: Any) -> Any:
        if element is source:
            return other
        return other.c[element.key] if getattr(element, "table", None) is source else None

    return cast("Select[Any]", replacement_traverse(statement, {}, replace))


def _planned(shape: Shape, statement: Any) -> Select[Any]:
    """With filters, the planner must see the values: the filter's index is best for few rows, the order's for many."""
    return unprepared(statement) if shape.filters else statement


def _sum(counts: Iterable[Select[Any]]) -> Select[Any]:
    first, *others = counts
    if not others:
        return first
    return select(sum((each.scalar_subquery() for each in others), first.scalar_subquery()))
