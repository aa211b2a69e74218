"""SQLAlchemy writes a statement's SQL, once, and says how its types are written and read; psycopg executes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from psycopg import AsyncCursor, sql
from psycopg.abc import AdaptContext
from sqlalchemy import Executable, Select, make_url
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase

# Parameters are $1, $2 … as the server knows them.
# Every dialect that comes with SQLAlchemy takes a paramstyle.
DIALECT = make_url("postgresql+psycopg://").get_dialect()(paramstyle="numeric_dollar")  # type: ignore[call-arg]  # the base class does not declare it
# Literals in our own SQL have no dollar sign before a digit.
PLACEHOLDER = re.compile(r"\$([0-9]+)")
S = TypeVar("S", bound=Executable)


def unprepared(statement: S) -> S:
    """The statement, not to be prepared: PostgreSQL plans it for the actual values each time.

    For statements whose best plan depends on the values, so that a generic plan would be bad. Planning takes about as
    long as finding one page.
    """
    return statement.execution_options(prepare=False)


class CompiledStatement:
    """A statement's SQL, and how its parameters and columns are converted."""

    def __init__(self, statement: Executable) -> None:
        # Not every Executable can be compiled, but every statement can.
        compiled = cast("Any", statement).compile(dialect=DIALECT)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 -- not DDL
        self.sql = str(compiled)
        self.prepare: bool = statement.get_execution_options().get("prepare", True)
        self._parameters: list[Any] = []
        # Which of them a caller may give, and how: the others are constants of the statement.
        self._given: list[tuple[int, str, Callable[[Any], Any] | None, bool]] = []
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        for index, name in enumerate(compiled.positiontup or ()):
            bind = binds[name]
            process = bind.type.dialect_impl(DIALECT).bind_processor(DIALECT)
            value = compiled.params[name]
            self._parameters.append(value if process is None or bind.required else process(value))
            if not bind.unique:
                self._given.append((index, name, process, bind.required))
        # The columns of a text have no types: they stay as psycopg reads them.
        columns = statement.exported_columns if isinstance(statement, (Select, UpdateBase)) else ()
        self._types = [column.type for column in columns]
        self._names: list[str] | None = None
        self._processors: list[tuple[int, Callable[[Any], Any]]] = []

    def parameters(self, values: Mapping[str, Any]) -> list[Any]:
        """These values in their places, as psycopg takes them. Raises KeyError for one that is missing."""
        placed = self._parameters.copy()
        for index, name, process, required in self._given:
            if required or name in values:
                value = values[name]
                placed[index] = value if process is None else process(value)
        return placed

    def with_literals(self, values: Mapping[str, Any], context: AdaptContext) -> str:
        """The SQL with these values in it, each written as a literal by psycopg. Raises as `parameters`."""
        placed = self.parameters(values)
        return PLACEHOLDER.sub(lambda number: sql.Literal(placed[int(number[1]) - 1]).as_string(context), self.sql)

    def names(self, cursor: AsyncCursor[Any]) -> list[str]:
        """The names of the columns of such an answer, which has rows; looked at with the first one."""
        if self._names is None:
            described = cursor.description or []
            if self._types:
                for index, (kind, column) in enumerate(zip(self._types, described, strict=True)):
                    processor = kind.dialect_impl(DIALECT).result_processor(DIALECT, column.type_code)
                    if processor is not None:
                        self._processors.append((index, processor))
            self._names = [column.name for column in described]
        return self._names

    def read(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """These rows, as the columns' types read them, once `names` has looked at them."""
        return [self._read(row) for row in rows] if self._processors else rows

    def _read(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(row)
        for index, processor in self._processors:
            values[index] = processor(values[index])
        return tuple(values)


# A cache with weak keys: most statements live as long as the process, and the entry of a temporary one goes with it.
_compiled: WeakKeyDictionary[Executable, CompiledStatement] = WeakKeyDictionary()


def compile_once(statement: Executable) -> CompiledStatement:
    """The statement as it is executed, worked out when it is first used."""
    known = _compiled.get(statement)
    if known is None:
        known = _compiled[statement] = CompiledStatement(statement)
    return known
