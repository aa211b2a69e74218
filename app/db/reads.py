"""Reading in one round trip: who asks and what is asked go to the server together, as one implicit transaction.

A read needs no BEGIN and no COMMIT, which would be round trips of their own and take longer than most answers.
SQLAlchemy writes the SQL, once for each statement, and reads the rows; the driver is spoken to directly.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from psycopg import Error
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGresult
from sqlalchemy import Executable
from sqlalchemy.dialects.postgresql.psycopg import PGDialectAsync_psycopg
from sqlalchemy.engine import Dialect, IteratorResult, Result
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.util import greenlet_spawn

from app.db.driver import Answer, Connection, Question
from app.db.statements import tell

MOST_KEPT = 10_000
# What the engine's dialect is, but for the parameters: $1, $2 …, as the server knows them.
DIALECT: Dialect = PGDialectAsync_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]  # the library's own gap


class Prepared:
    """A statement's SQL, and what becomes of its parameters and columns on the way."""

    def __init__(self, statement: Executable) -> None:
        compiled = cast("Any", statement).compile(dialect=DIALECT)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 -- not DDL
        self.sql = str(compiled)
        # What SQLAlchemy's own execution goes by; there is no public name for it.
        binders: Any = compiled._bind_processors
        bound = {name: bind for bind, name in compiled.bind_names.items()}
        self._parameters = [
            (name, binders.get(name), None if bound[name].required else bound[name].effective_value)
            for name in compiled.positiontup or ()
        ]
        self._columns = compiled._result_columns
        self._metadata: SimpleResultMetaData | None = None
        self._readers: list[tuple[int, Any]] = []

    def question(self, values: Mapping[str, Any]) -> Question:
        """The statement with these values, as the driver takes them."""
        filled = []
        for name, bind, default in self._parameters:
            value = values.get(name, default)
            filled.append(value if bind is None else bind(value))
        return Question(self.sql, filled)

    def result(self, answer: Answer) -> Result[Any]:
        """What was fetched, as the columns' types read it."""
        if self._metadata is None:
            self._metadata = self._described(answer.result)
        rows = [self._read(row) for row in answer.rows] if self._readers else answer.rows
        return IteratorResult(self._metadata, iter(rows))

    def _described(self, result: PGresult) -> SimpleResultMetaData:
        # A text's columns have no types; the driver has read them.
        for place, column in enumerate(self._columns):
            reader = column.type._cached_result_processor(DIALECT, result.ftype(place))
            if reader is not None:
                self._readers.append((place, reader))
        return SimpleResultMetaData([(result.fname(place) or b"").decode() for place in range(result.nfields)])

    def _read(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(row)
        for place, reader in self._readers:
            values[place] = reader(values[place])
        return tuple(values)


# By identity: statements are built once and live as long as the process.
prepared = lru_cache(MOST_KEPT)(Prepared)


class Reads:
    """Stands in for SQLAlchemy's connection, as far as reading needs one. `who` begins each statement's transaction."""

    def __init__(self, engine: AsyncEngine, who: Question, slow_ms: float) -> None:
        self._engine = engine
        self._who = who
        self._slow_ms = slow_ms
        self._connection: PoolProxiedConnection | None = None

    async def __aenter__(self) -> Reads:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._release()

    async def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Result[Any]:
        """One statement, as this person. Raises psycopg.Error."""
        query = prepared(statement)
        question = query.question(parameters or {})
        try:
            answer = await self._ask(question)
        except Error as error:
            if self._connection is None or not await drop_if_gone(self._engine, self._connection, error):
                raise
            self._connection = None
            answer = await self._ask(question)
        return query.result(answer)

    async def _ask(self, question: Question) -> Answer:
        if self._connection is None:
            self._connection = await self._engine.raw_connection()
        began = time.time_ns()
        failure: BaseException | None = None
        try:
            return await driver_of(self._connection).ask(self._who, question)
        except BaseException as error:
            failure = error
            raise
        finally:
            tell(question.sql, began, time.time_ns(), failure, self._slow_ms)

    async def _release(self) -> None:
        if self._connection is None:
            return
        if driver_of(self._connection).pgconn.transaction_status == TransactionStatus.IDLE:
            self._connection.close()
        else:  # somebody hung up in the middle of an answer
            await greenlet_spawn(self._connection.invalidate)


def driver_of(connection: PoolProxiedConnection) -> Connection:
    """The driver's connection that the pool lends out."""
    return cast("Connection", connection.driver_connection)


async def drop_if_gone(engine: AsyncEngine, connection: PoolProxiedConnection, error: BaseException) -> bool:
    """Whether the server is gone: then the pool drops all connections that it had to it."""
    if not isinstance(error, Error) or not driver_of(connection).closed:
        return False
    # As SQLAlchemy does when one of its own statements finds the server gone.
    await greenlet_spawn(engine.pool._invalidate, connection, error)
    return True
