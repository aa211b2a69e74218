"""Lists: filters, order, page and cursor as prebuilt selects. Building one costs more than running it, so each shape
(which filters are there, which order, by page or by cursor) is built once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, StrEnum
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET
from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.access.permissions import Permission
from app.db.nested import Columns, selected
from app.db.transaction import Transaction
from app.web.cursor import CursorSigner, Position
from app.web.errors import AppError, Code, Fault, invalid
from app.web.paging import LARGEST_PAGE, Deleted, ListQuery, Page, SortOrder
from app.web.structs import View

Row = TypeVar("Row", bound=View)

# Everything in a query that is not a filter.
PAGING = frozenset(field.name for field in msgspec.structs.fields(ListQuery))


class Filter(NamedTuple):
    """How one query field narrows a list: a variant of its clause for each shape, and the clause's parameters.

    `clause(name, variant)` is built once; `read(value, actor's id)` gives the variant and the value of its parameter.
    """

    clause: Callable[[str, str], ColumnElement[bool]]
    read: Callable[[Any, str], tuple[str, Any]]


def one_of(column: ColumnElement[Any]) -> Filter:
    """Any of the given values."""
    return Filter(
        lambda name, _: column == any_(bindparam(name, type_=ARRAY(column.type))),
        lambda value, _: ("", [item.value if isinstance(item, Enum) else item for item in value]),
    )


def user_in(column: ColumnElement[Any]) -> Filter:
    """Any of the given people; `me` is the one who asks, `none` is nobody."""

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        named = cast(column, Text) == any_(bindparam(name, type_=ARRAY(Text)))
        return or_(named, column.is_(None)) if variant == "none" else named

    def read(value: Sequence[str], me: str) -> tuple[str, Any]:
        people = [me if person == "me" else person for person in value if person != "none"]
        return ("none" if "none" in value else "", people)

    return Filter(clause, read)


def equals(column: ColumnElement[Any]) -> Filter:
    """Exactly this value."""
    return Filter(lambda name, _: column == bindparam(name, type_=column.type), lambda value, _: ("", value))


def at_least(column: ColumnElement[Any]) -> Filter:
    """This value or more."""
    return Filter(lambda name, _: column >= bindparam(name, type_=column.type), lambda value, _: ("", value))


def at_most(column: ColumnElement[Any]) -> Filter:
    """This value or less."""
    return Filter(lambda name, _: column <= bindparam(name, type_=column.type), lambda value, _: ("", value))


def through(reference: ColumnElement[Any], key: ColumnElement[Any], of_target: Filter) -> Filter:
    """A filter of the record that `reference` leads to, by that record's key."""

    def clause(name: str, variant: str) -> ColumnElement[bool]:
        return reference.in_(select(key).where(of_target.clause(name, variant)))

    return Filter(clause, of_target.read)


def found_in(table: str, folded: str) -> Filter:
    """A fragment of the text that `crm_search` looks through."""
    record_table: ColumnElement[str] = literal_column(f"'{table}'::regclass")
    expression: ColumnElement[str] = literal_column(f"'{folded}'")

    def clause(name: str, _: str) -> ColumnElement[bool]:
        return literal_column(f"{table}.id").in_(select(func.crm_search(record_table, expression, bindparam(name))))

    return Filter(clause, lambda value, _: ("", value))


def matching(condition: Callable[[ColumnElement[Any]], ColumnElement[bool]]) -> Filter:
    """A condition of the resource's own on the value."""
    return Filter(lambda name, _: condition(bindparam(name)), lambda value, _: ("", value))


class Sort(NamedTuple):
    """A sort key's column. Where it may be null, nulls come last in either direction."""

    column: ColumnElement[Any]
    nullable: bool = False


class Shape(NamedTuple):
    """What a statement depends on, apart from its parameters."""

    filters: tuple[tuple[str, str], ...]
    deleted: Deleted
    sort_by: str
    sort_order: SortOrder
    # None: from the start; otherwise after a row whose sort key is a value, or is null.
    after: str | None


class Listing(Generic[Row]):
    """One kind of list. Knows its table, its filters and its orders; what a row looks like is the view's business."""

    def __init__(
        self,
        name: str,
        view: Callable[..., Row],
        columns: Columns,
        source: FromClause,
        *,
        key: ColumnElement[Any],
        filters: Mapping[str, Filter],
        sorts: Mapping[str, Sort],
        default_sort: tuple[str, SortOrder],
        deleted_at: ColumnElement[Any] | None = None,
    ) -> None:
        self._name = name
        self._view = view
        self._columns = selected(columns)
        self._source = source
        self._key = key
        self._filters = filters
        self._sorts = sorts
        self._default_sort = default_sort
        self._deleted_at = deleted_at
        self._selects: dict[Shape, Select[Any]] = {}
        self._counts: dict[Shape, Select[Any]] = {}

    async def page(
        self,
        tx: Transaction,
        query: ListQuery,
        *,
        signer: CursorSigner,
        default_page_size: int,
        scope: Mapping[str, Any] | None = None,
        largest_page: int = LARGEST_PAGE,
    ) -> Page[Row]:
        """The page that a query asks for, and where the next one begins. `scope` sets filters that the query lacks.

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
        deleted = getattr(query, "deleted", UNSET)
        deleted = Deleted.EXCLUDE if deleted is UNSET else deleted
        if deleted is not Deleted.EXCLUDE:
            tx.actor.require(Permission.DELETE)
        shape, parameters = self._shape(tx, query, deleted, position, scope or {})
        statement = self._select(shape)
        window = {"row_limit": size + 1, "row_offset": 0 if position else (number - 1) * size}
        rows = (await tx.connection.execute(statement, parameters | window)).all()
        total = None
        if position is None:
            # The rows themselves tell how many there are where they end on this page.
            if len(rows) <= size and (rows or number == 1):
                total = (number - 1) * size + len(rows)
            else:
                total = (await tx.connection.execute(self._count(shape), parameters)).scalar_one()
        next_cursor = None
        if len(rows) > size:
            last = Position(
                tenant_id=tx.actor.tenant_id,
                listing=self._name,
                filters=self._given_filters(query) | {f"scope.{name}": value for name, value in (scope or {}).items()},
                sort_by=shape.sort_by,
                sort_order=shape.sort_order,
                key=list(rows[size - 1][-2:]),
            )
            next_cursor = signer.encode(last)
        width = len(self._columns)
        return Page(
            data=[self._view(*row[:width]) for row in rows[:size]],
            total=total,
            page=None if position else number,
            page_size=size,
            total_pages=None if total is None else -(-total // size),
            next_cursor=next_cursor,
        )

    def _resumed(self, tx: Transaction, query: ListQuery, position: Position, scope: Mapping[str, Any]) -> ListQuery:
        """The query that the cursor's walk began with; a filter given beside it must be the same."""
        beside = self._given_filters(query)
        walked = {name: value for name, value in position.filters.items() if not name.startswith("scope.")}
        sort_by, sort_order = self._order(query, position.sort_by, position.sort_order)
        if (
            position.tenant_id != tx.actor.tenant_id
            or position.listing != self._name
            or (sort_by, sort_order) != (position.sort_by, position.sort_order)
            or any(name not in walked or walked[name] != value for name, value in beside.items())
            or position.filters != walked | {f"scope.{name}": value for name, value in scope.items()}
        ):
            raise AppError(Code.INVALID_CURSOR)
        walk = walked | {"sort_by": position.sort_by, "sort_order": position.sort_order}
        if query.page_size is not UNSET:
            walk["page_size"] = query.page_size
        try:
            return msgspec.convert(walk, type(query))
        except msgspec.ValidationError:
            raise AppError(Code.INVALID_CURSOR) from None  # signed by a release whose filters were others

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

    def _shape(
        self, tx: Transaction, query: ListQuery, deleted: Deleted, position: Position | None, scope: Mapping[str, Any]
    ) -> tuple[Shape, dict[str, Any]]:
        variants: list[tuple[str, str]] = []
        # What in the scope is no filter is a parameter of the source itself.
        parameters: dict[str, Any] = {name: value for name, value in scope.items() if name not in self._filters}
        for name, narrowing in self._filters.items():
            value = scope[name] if name in scope else getattr(query, name, UNSET)
            if value is not UNSET:
                variant, parameters[name] = narrowing.read(value, tx.actor.user_id)
                variants.append((name, variant))
        default_key, default_order = self._default_sort
        sort_by, sort_order = self._order(query, default_key, default_order)
        after = None
        if position is not None:
            value, parameters["after_id"] = position.key
            after = "null" if value is None else "value"
            if value is not None:
                kind = self._sorts[sort_by].column.type.python_type
                parameters["after"] = msgspec.convert(value, kind, strict=False)
        return Shape(tuple(variants), deleted, sort_by, SortOrder(sort_order), after), parameters

    def _select(self, shape: Shape) -> Select[Any]:
        if shape not in self._selects:
            sort = self._sorts[shape.sort_by]
            descending = shape.sort_order is SortOrder.DESC
            order = [column.desc() if descending else column.asc() for column in (sort.column, self._key)]
            if sort.nullable:
                order[0] = order[0].nulls_last()
            conditions = self._conditions(shape)
            if shape.after is not None:
                conditions.append(self._beyond(sort, descending=descending, after_null=shape.after == "null"))
            self._selects[shape] = (
                select(*self._columns, sort.column.label("sort_key"), self._key.label("sort_id"))
                .select_from(self._source)
                .where(*conditions)
                .order_by(*order)
                .limit(bindparam("row_limit"))
                .offset(bindparam("row_offset"))
            )
        return self._selects[shape]

    def _count(self, shape: Shape) -> Select[Any]:
        if shape not in self._counts:
            self._counts[shape] = select(func.count()).select_from(self._source).where(*self._conditions(shape))
        return self._counts[shape]

    def _conditions(self, shape: Shape) -> list[ColumnElement[bool]]:
        conditions = [self._filters[name].clause(name, variant) for name, variant in shape.filters]
        if self._deleted_at is not None and shape.deleted is not Deleted.INCLUDE:
            trashed = shape.deleted is Deleted.ONLY
            conditions.append(self._deleted_at.is_not(None) if trashed else self._deleted_at.is_(None))
        return conditions

    def _beyond(self, sort: Sort, *, descending: bool, after_null: bool) -> ColumnElement[bool]:
        """The rows that come after the cursor's."""
        after_id = bindparam("after_id", type_=self._key.type)
        later_id = self._key < after_id if descending else self._key > after_id
        if after_null:
            return and_(sort.column.is_(None), later_id)
        after = bindparam("after", type_=sort.column.type)
        here, there = tuple_(sort.column, self._key), tuple_(after, after_id)
        beyond = here < there if descending else here > there
        return or_(beyond, sort.column.is_(None)) if sort.nullable else beyond
