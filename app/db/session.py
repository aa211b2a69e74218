"""A person's statements: one transaction, which tells the database with its first statement who asks."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import lru_cache
from itertools import count
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import structlog
from psycopg import AsyncCursor, Error, OperationalError, ProgrammingError, capabilities, errors
from psycopg.abc import Buffer
from psycopg.pq import TransactionStatus
from sqlalchemy import Executable, text

from app.db.errors import translate, translate_errors
from app.db.pool import Connection, Lender, NoResponseError
from app.db.result import Result
from app.db.statements import CompiledStatement, compile_once
from app.db.telemetry import record_statement
from app.web.errors import AppError, Code

log = structlog.get_logger("database")

# At most so many rows are fetched at once, to limit memory: a note has up to 80 KB, and each connection may read a
# list.
MOST_HELD = 50
STREAM_CHUNK_ROWS = 10 if capabilities.has_stream_chunked() else 1
NOTHING = text("SELECT")
# The innermost savepoint of this name is meant each time.
SAVEPOINT, RELEASE = text("SAVEPOINT part"), text("RELEASE SAVEPOINT part")
ROLLBACK_TO = text("ROLLBACK TO SAVEPOINT part")
MOST_SCOPES = 50_000
# A column's type has changed since a statement was prepared, or the prepared statement is gone. A new connection
# prepares it again.
STALE = {"0A000", "26000"}
# Before `crm db upgrade`: no such role, or one that the login is no member of.
ROLE_MISSING = (errors.InvalidParameterValue, errors.InsufficientPrivilege)

OPEN = {TransactionStatus.INTRANS, TransactionStatus.INERROR}

T = TypeVar("T")
Cursor = AsyncCursor[tuple[Any, ...]]
_numbers = count(1)


class Identity(NamedTuple):
    """Who asks: a statement that sets it for one transaction. Its first two parameters are the role and the tenant."""

    sql: str
    parameters: Sequence[str]
    # What prepares the database for this.
    command: str = "crm db upgrade"


@lru_cache(MOST_SCOPES)
def _scope(_role: str, _tenant: str) -> int:
    """A number for each role and tenant. It is put into the SQL as a comment, so that each has prepared statements of
    its own: a plan that was made for a small tenant can be bad for a large one.
    """
    return next(_numbers)


class Session(ABC):
    """Executes statements over one connection, which the pool lends with the first of them. It is a context, whose end
    ends the transaction.
    """

    _begin: ClassVar[str | None]
    _one_round_trip: ClassVar[bool] = True

    def __init__(self, pool: Lender, identity: Identity, slow_ms: float) -> None:
        self._pool = pool
        self._identity = identity
        role, tenant, *_ = identity.parameters
        self._scope = _scope(role, tenant)
        self._slow_ms = slow_ms
        self._connection: Connection | None = None
        # Whether a transaction is open, or was when its connection broke.
        self._begun = False
        self._failed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _kind: object, failure: BaseException | None, _trace: object) -> None:
        """Raises AppError for what the database refused inside, or refuses at the end."""
        with translate_errors():
            await self._leave(well=failure is None)
        if isinstance(failure, Exception) and (translated := translate(failure)) is not failure:
            raise translated from failure

    async def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Result[Any]:
        """One statement. Raises psycopg.Error; AppError before `crm db upgrade`."""
        compiled = compile_once(statement)
        cursor = await self._execute(compiled, parameters or {})
        if cursor.pgresult is None:
            raise OperationalError("the statement has no result")
        if cursor.rownumber is None:  # it returns no rows
            return Result([])
        names = compiled.names(cursor)
        return Result(compiled.read(await cursor.fetchall()), names)

    async def fetch(
        self, statement: Executable, parameters: Mapping[str, Any], each: Callable[[tuple[Any, ...]], T], *, most: int
    ) -> list[T]:
        """What `each` makes of a query's rows. There are so many at most: of many, never all are held at once.

        Raises as `execute`.
        """
        compiled = compile_once(statement)
        if most > MOST_HELD:
            return await self._stream(compiled, parameters, each)
        cursor = await self._execute(compiled, parameters)
        compiled.names(cursor)
        return [each(row) for row in compiled.read(await cursor.fetchall())]

    async def _stream(
        self, compiled: CompiledStatement, values: Mapping[str, Any], each: Callable[[tuple[Any, ...]], T]
    ) -> list[T]:
        # First the connection, then the turn: in the other order two sessions could wait for each other.
        if not self._begun:
            await self._execute(compile_once(NOTHING), {})
        connection = self._connection
        if connection is None or not self._begun:
            raise RuntimeError("rows can be streamed within a transaction only")
        async with self._pool.stream_turn():
            return await self._streamed(connection, compiled, compiled.parameters(values), each)

    async def _streamed(
        self,
        connection: Connection,
        compiled: CompiledStatement,
        parameters: list[Any],
        each: Callable[[tuple[Any, ...]], T],
    ) -> list[T]:
        made: list[T] = []
        began = time.time_ns()
        failure: BaseException | None = None
        cursor = connection.cursor()
        # A generator: it holds the connection until it is closed.
        rows: Any = cursor.stream(compiled.sql, parameters, size=STREAM_CHUNK_ROWS)
        try:
            with connection.limited():
                async with aclosing(rows):
                    async for row in rows:
                        compiled.names(cursor)
                        made.extend(map(each, compiled.read([row])))
        except BaseException as error:
            failure = error
            raise
        finally:
            record_statement(compiled.sql, began, time.time_ns(), failure, self._slow_ms)
        return made

    async def copy(
        self, statement: Executable, parameters: Mapping[str, Any], options: str
    ) -> AsyncGenerator[Buffer, None]:
        """A query's rows, each as COPY writes it with these options: it is not read into Python's values. Close the
        generator at its end. Raises as `execute`.
        """
        if not self._begun:
            await self._execute(compile_once(NOTHING), {})
        connection = self._connection
        if connection is None or not self._begun:
            raise RuntimeError("rows can be copied within a transaction only")
        compiled = compile_once(statement)
        # COPY takes no parameters.
        query = f"COPY ({compiled.with_literals(parameters, connection)}) TO STDOUT ({options})"
        began = time.time_ns()
        failure: BaseException | None = None
        try:
            with connection.limited():
                async with connection.cursor().copy(query.encode()) as rows:
                    async for row in rows:
                        yield row
        except BaseException as error:
            failure = error
            self._failed = True
            raise
        finally:
            record_statement(compiled.sql, began, time.time_ns(), failure, self._slow_ms)

    async def _leave(self, *, well: bool) -> None:  # noqa: ARG002 -- it matters to writers
        if self._connection is None:
            return
        try:
            # What goes wrong here is the connection's end, and not what the caller should hear of.
            with suppress(Error):
                await self._end(self._connection)
        finally:
            await self._pool.release(self._connection)

    @abstractmethod
    async def _end(self, connection: Connection) -> None:
        """Leave the connection without a transaction."""

    async def _execute(self, compiled: CompiledStatement, values: Mapping[str, Any]) -> Cursor:
        parameters = compiled.parameters(values)
        first = not self._begun
        try:
            return await self._send(compiled, parameters)
        except Error as error:
            connection = self._connection
            if connection is None:
                raise
            if compiled.prepare and error.sqlstate in STALE:
                await connection.close()
                if not first:
                    raise AppError(Code.SERVICE_UNAVAILABLE) from error
            if not connection.closed or not first or isinstance(error, NoResponseError):
                raise
            # The first statement had no effect yet, so it is safe to retry it on a new connection.
            self._connection, self._begun = None, False
            await self._pool.release(connection)
            return await self._send(compiled, parameters)

    async def _send(self, compiled: CompiledStatement, parameters: list[Any]) -> Cursor:
        if self._connection is None:
            self._connection = await self._pool.acquire()
        connection = self._connection
        began = time.time_ns()
        failure: BaseException | None = None
        identified: Cursor | None = None
        sql = f"/* {self._scope} */ {compiled.sql}" if compiled.prepare else compiled.sql
        prepare = None if compiled.prepare else False
        try:
            with connection.limited():
                if self._begun:
                    return await connection.execute(sql, parameters, prepare=prepare)
                async with connection.pipeline():
                    if self._begin is not None:
                        self._begun = True
                        await connection.execute(self._begin, prepare=False)
                    identified = connection.cursor()
                    await identified.execute(self._identity.sql, self._identity.parameters)
                    if self._one_round_trip:
                        return await connection.execute(sql, parameters, prepare=prepare)
                return await connection.execute(sql, parameters, prepare=prepare)
        except BaseException as error:
            failure = error
            self._failed = True
            if isinstance(error, ROLE_MISSING) and identified is not None and identified.statusmessage is None:
                advice = f"the database is not prepared for this login: run {self._identity.command}"
                log.error(advice, reason=str(error))
                raise AppError(Code.SERVICE_UNAVAILABLE) from error
            raise
        finally:
            record_statement(compiled.sql, began, time.time_ns(), failure, self._slow_ms)


class Reader(Session):
    """For reading: all statements see the database as it is when the first of them begins."""

    _begin: ClassVar[str | None] = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

    async def _end(self, connection: Connection) -> None:
        # Nothing was written. A ROLLBACK would make psycopg forget all prepared statements.
        with connection.limited():
            await connection.commit()
            if self._failed and connection.prepare_threshold is not None:
                # psycopg forgets the name of a statement that failed at first, and the server would keep it.
                await connection.execute("DEALLOCATE ALL", prepare=False)


class SingleReader(Reader):
    """For reading by one statement only: it is a transaction by itself, and saves the round trip that ends one."""

    _begin = None

    async def _execute(self, compiled: CompiledStatement, values: Mapping[str, Any]) -> Cursor:
        if self._connection is not None:
            raise RuntimeError("a second statement would see the database at another moment")
        return await super()._execute(compiled, values)

    async def _end(self, connection: Connection) -> None:
        if self._failed:
            await super()._end(connection)


class Writer(Session):
    """For writing: one transaction, which begins with the first statement. It is committed when the block ends well,
    and rolled back when it does not.
    """

    _begin = "BEGIN"
    # After a pipeline the server does not watch how long the transaction is idle: that must not be so once a statement
    # holds locks.
    _one_round_trip = False

    def __init__(self, pool: Lender, identity: Identity, slow_ms: float) -> None:
        super().__init__(pool, identity, slow_ms)
        self._savepoints = 0

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part of the transaction: if it fails, it alone is undone. Raises as `execute`."""
        await self.execute(SAVEPOINT)
        self._savepoints += 1
        try:
            yield
        except BaseException:
            if self._connection and self._connection.info.transaction_status in OPEN:
                await self.execute(ROLLBACK_TO)
                await self.execute(RELEASE)
            raise
        else:
            await self.execute(RELEASE)
        finally:
            self._savepoints -= 1

    async def _leave(self, *, well: bool) -> None:
        try:
            if well:
                await self.commit()
        finally:
            await super()._leave(well=well)

    async def commit(self) -> None:
        """Raises psycopg.Error for what the database refuses only now."""
        connection = self._connection
        if connection is None:  # nothing was executed
            return
        if connection.info.transaction_status != TransactionStatus.INTRANS:
            # The server answers such a COMMIT with a ROLLBACK, and calls it a success.
            raise RuntimeError("what failed, or is gone, can't be committed")
        with connection.limited():
            await connection.commit()

    async def begin_again(self) -> None:
        """Undo everything so far, or in a savepoint what was done in it; what is executed next goes on from there, as
        the same person.
        """
        if self._savepoints:
            await self.execute(ROLLBACK_TO)
            return
        if self._connection is not None:
            await self._end(self._connection)
        self._begun = False

    async def _end(self, connection: Connection) -> None:
        with connection.limited():
            if not self._failed and connection.info.transaction_status == TransactionStatus.INTRANS:
                # After a ROLLBACK psycopg forgets all prepared statements, but `copy` doesn't look at what it sent: it
                # only complains, once it is done, that it was no COPY.
                with suppress(ProgrammingError):
                    async with connection.cursor().copy("ROLLBACK"):
                        pass
            if connection.info.transaction_status in OPEN:
                await connection.rollback()
