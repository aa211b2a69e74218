"""The rows of a statement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")

RowMapping: TypeAlias = Mapping[str, Any]


class Result(Generic[T]):
    """All rows of a statement's answer, under the method names that SQLAlchemy's results have."""

    __slots__ = ("_names", "_rows")

    def __init__(self, rows: list[T], names: Sequence[str] = ()) -> None:
        self._rows = rows
        self._names = names

    def __iter__(self) -> Iterator[T]:
        return iter(self._rows)

    def all(self) -> list[T]:
        """Every row."""
        return self._rows

    def first(self) -> T | None:
        """The first row, if there is one."""
        return self._rows[0] if self._rows else None

    def one_or_none(self) -> T | None:
        """The only row, if there is one. Raises ValueError for several."""
        if len(self._rows) > 1:
            raise ValueError("there are several rows")
        return self.first()

    def one(self) -> T:
        """The only row. Raises ValueError for none or several."""
        (row,) = self._rows
        return row

    def scalars(self) -> Result[Any]:
        """The rows' first columns."""
        rows: list[Any] = self._rows
        return Result([row[0] for row in rows])

    def scalar_one(self) -> Any:
        """The first column of the only row. Raises as `one`."""
        return self.scalars().one()

    def scalar_one_or_none(self) -> Any:
        """The first column of the only row, if there is one. Raises as `one_or_none`."""
        return self.scalars().one_or_none()

    def mappings(self) -> Result[RowMapping]:
        """The rows by their columns' names."""
        rows: list[Any] = self._rows
        return Result([dict(zip(self._names, row, strict=True)) for row in rows])
