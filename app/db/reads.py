"""Reading in one round trip: who asks and what is asked go to the server together, as one implicit transaction.

A read needs no BEGIN and no COMMIT, which would be round trips of their own and take longer than most answers.
SQLAlchemy writes the SQL, once for each statement, and reads the rows; the driver is spoken to directly.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from psycopg import AsyncConnection as Driver
from psycopg import AsyncCursor, Error
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Executable
from sqlalchemy.engine import IteratorResult, Result
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.sql.compiler import SQLCompiler

from app.db.statements import tell

MOST_KEPT = 10_000


class Prepared:
    """A statement's SQL, and what becomes of its parameters and columns on the way."""

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        compiled = cast("Any", statement).compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 -- not DDL
        self.sql = str(compiled)
        # What SQLAlchemy's own execution goes by; there is no public name for it.
        self._binders: Any = compiled._bind_processors
        self._fixed = {name: bound.effective_value for bound, name in compiled.bind_names.items() if not bound.required}
        self._columns = compiled._result_columns
        self._dialect = dialect
        self._metadata: SimpleResultMetaData | None = None

    def parameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values as the driver takes them."""
        filled = {**self._fixed, **values}
        for name, bind in self._binders.items():
            filled[name] = bind(filled[name])
        return filled

    def result(self, cursor: AsyncCursor[Any], rows: list[Any]) -> Result[Any]:
        """What was fetched, as the columns' types read it."""
        if self._metadata is None:
            # A text's columns have no types; the driver has read them.
            names = [column.name for column in cursor.description or ()]
            types = [column.type_code for column in cursor.description or ()]
            readers = [
                column.type._cached_result_processor(self._dialect, code)
                for column, code in zip(self._columns, types, strict=bool(self._columns))
            ]
            self._metadata = SimpleResultMetaData(names, _processors=readers if any(readers) else None)
        return IteratorResult(self._metadata, iter(rows))


# By identity: statements are built once and live as long as the process.
prepared = lru_cache(MOST_KEPT)(Prepared)


class Reads:
    """Stands in for SQLAlchemy's connection, as far as reading needs one. `who` begins each statement's transaction."""

    def __init__(self, engine: AsyncEngine, who: tuple[str, Mapping[str, Any]], slow_ms: float) -> None:
        self._engine = engine
        self._who = who
        self._slow_ms = slow_ms

    async def __aenter__(self) -> Reads:
        await self._connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._connection.closed:  # as it is where the server was gone, and did not come back
            await self._release()

    async def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Result[Any]:
        """One statement, as this person. Raises psycopg.Error."""
        query = prepared(statement, self._engine.dialect)
        filled = query.parameters(parameters or {})
        try:
            return await self._ask(query, filled)
        except Error as error:
            if not await drop_if_gone(self._connection, error):
                raise
            await self._release()
            await self._connect()
            return await self._ask(query, filled)

    async def _ask(self, query: Prepared, parameters: Mapping[str, Any]) -> Result[Any]:
        began = time.time_ns()
        failure: BaseException | None = None
        try:
            cursor = self._driver.cursor()
            async with self._driver.pipeline():
                await self._driver.execute(*self._who)
                await cursor.execute(query.sql, parameters)
            return query.result(cursor, await cursor.fetchall())
        except BaseException as error:
            failure = error
            raise
        finally:
            tell(query.sql, began, time.time_ns(), failure, self._slow_ms)

    async def _connect(self) -> None:
        self._connection = await self._engine.connect()
        self._driver = await driver_of(self._connection)
        await self._driver.set_autocommit(True)

    async def _release(self) -> None:
        try:
            if self._driver.info.transaction_status is TransactionStatus.IDLE:
                await self._driver.set_autocommit(False)
            elif not self._connection.invalidated:
                await self._connection.invalidate()  # somebody hung up in the middle of an answer
        finally:
            await self._connection.close()


async def driver_of(connection: AsyncConnection) -> Driver[Any]:
    """The driver's connection under SQLAlchemy's."""
    return cast("Driver[Any]", (await connection.get_raw_connection()).driver_connection)


async def drop_if_gone(connection: AsyncConnection, error: BaseException) -> bool:
    """Whether the server is gone: then the pool drops all connections that it had to it."""
    if not isinstance(error, Error) or not (await driver_of(connection)).closed:
        return False
    await connection.run_sync(_drop_all, error)
    return True


def _drop_all(connection: Connection, error: Error) -> None:
    # As SQLAlchemy does when one of its own statements finds the server gone.
    connection.engine.pool._invalidate(connection.connection, error)
