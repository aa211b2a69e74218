"""Lists by page or by cursor, in one order each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from litestar.datastructures import State
from msgspec import UNSET
from sqlalchemy import ColumnElement, Select, Uuid, bindparam, func, select, tuple_
from sqlalchemy.types import BigInteger

from app.db.result import RowMapping
from app.identity.database import Transaction
from app.web.cursor import CursorSigner, Position
from app.web.errors import Code, Fault, bad_field, invalid
from app.web.paging import MAX_PAGE_SIZE, Page, PageQuery

Row = TypeVar("Row")


class Listing:
    """A list: its statement, and the columns that it is sorted by, of which the last ones tell all rows apart."""

    def __init__(self, name: str, rows: Select[Any], order: Sequence[str], *, newest_first: bool = False) -> None:
        self.name, self.order = name, order
        found = rows.subquery()
        key = [found.c[each] for each in order]
        place = [bindparam(f"after_{each.name}", type_=each.type) for each in key]
        self._types = [each.type for each in key]
        sorted_rows = select(found).order_by(*(each.desc() if newest_first else each for each in key))
        most = bindparam("most", type_=BigInteger)
        self.count = select(func.count()).select_from(found)
        self.by_page = sorted_rows.limit(most).offset(bindparam("skipped", type_=BigInteger))
        beyond: ColumnElement[bool] = tuple_(*key) < tuple_(*place) if newest_first else tuple_(*key) > tuple_(*place)
        self.by_cursor = sorted_rows.where(beyond).limit(most)

    def key_of(self, row: RowMapping) -> list[Any]:
        """Where a row stands, as a cursor keeps it."""
        return [str(row[each]) if not isinstance(row[each], bool) else row[each] for each in self.order]

    def place(self, key: Sequence[Any]) -> dict[str, Any]:
        """What `by_cursor` takes."""
        values = (
            UUID(value) if isinstance(kind, Uuid) else value for kind, value in zip(self._types, key, strict=True)
        )
        return {f"after_{name}": value for name, value in zip(self.order, values, strict=True)}


async def page_of(
    tx: Transaction,
    listing: Listing,
    query: PageQuery,
    of: Mapping[str, Any],
    show: Callable[[RowMapping], Row],
    state: State,
) -> Page[Row]:
    """A page of the list that these parameters of its statement choose. Raises AppError INVALID_CURSOR."""
    signer: CursorSigner = state.cursors
    size = state.settings.default_page_size if query.page_size is UNSET else min(query.page_size, MAX_PAGE_SIZE)
    whose = "/".join(map(str, of.values()))
    limits: dict[str, Any] = {**of, "most": size + 1}
    number = total = pages = None
    if query.cursor is not UNSET:
        if query.page is not UNSET:
            raise invalid(Fault("page", "does not go together with cursor"))
        position = signer.decode(query.cursor)
        if (position.tenant_id, position.listing) != (whose, listing.name):
            raise bad_field(Code.INVALID_CURSOR, "cursor")
        statement = listing.by_cursor
        try:
            limits |= listing.place(position.key)
        except (ValueError, AttributeError):  # of a release that sorted by something else here
            raise bad_field(Code.INVALID_CURSOR, "cursor") from None
    else:
        number = 1 if query.page is UNSET else query.page
        statement = listing.by_page
        limits["skipped"] = (number - 1) * size
        total = int((await tx.execute(listing.count, of)).scalar_one())
        pages = -(-total // size)
    rows = (await tx.execute(statement, limits)).mappings().all()
    after = None
    if len(rows) > size:
        place = Position(whose, listing.name, {}, listing.order[0], "", listing.key_of(rows[size - 1]))
        after = signer.encode(place)
    return Page([show(row) for row in rows[:size]], total, number, size, pages, after)
