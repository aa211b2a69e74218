"""How statements get to the database. SQLAlchemy writes the SQL, once for each, and reads the rows; the driver is
spoken to directly, so that who asks and what is asked travel together.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeAlias, TypeVar, cast
from weakref import WeakKeyDictionary

import structlog
from psycopg import Error, errors
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

from app.db.driver import Answer, Connection, NoAnswerError, Question, Taker
from app.db.telemetry import tell
from app.web.errors import AppError, Code

log = structlog.get_logger("database")

# What the engine's dialect is, but for the parameters: $1, $2 …, as the server knows them.
DIALECT: Dialect = PGDialectAsync_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]  # the library's own gap
BEGIN, COMMIT, ROLLBACK = (Question(command, prepare=False) for command in ("BEGIN", "COMMIT", "ROLLBACK"))
Rows: TypeAlias = Result[*tuple[Any, ...]]
S = TypeVar("S", bound=Executable)
T = TypeVar("T")
OPEN = {TransactionStatus.INTRANS, TransactionStatus.INERROR}
# Before `crm db upgrade`: no such role, or one that the login is no member of.
ROLE_MISSING = (errors.InvalidParameterValue, errors.InsufficientPrivilege)


def unprepared(statement: S) -> S:
    """The statement, to be planned for the values that it is sent with, where a plan that suits all would suit few.

    To plan takes about as long as to find one page.
    """
    return statement.execution_options(prepare=False)


class Prepared:
    """A statement's SQL, and what becomes of its parameters and columns on the way."""

    def __init__(self, statement: Executable) -> None:
        compiled = cast("Any", statement).compile(dialect=DIALECT)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 -- not DDL
        self.sql = str(compiled)
        self._prepare = statement.get_execution_options().get("prepare", True)
        # What SQLAlchemy's own execution goes by; there is no public name for it.
        binders: Any = compiled._bind_processors
        bound = {name: bind for bind, name in compiled.bind_names.items()}
        self._parameters = [
            (name, binders.get(name), bound[name].required, bound[name].effective_value)
            for name in compiled.positiontup or ()
        ]
        self._types = [column.type for column in compiled._result_columns]
        self._metadata: SimpleResultMetaData | None = None
        self._readers: list[tuple[int, Any]] = []

    def question(self, values: Mapping[str, Any]) -> Question:
        """The statement with these values, as the driver takes them."""
        filled = []
        for name, bind, required, default in self._parameters:
            value = values[name] if required else values.get(name, default)
            filled.append(value if bind is None else bind(value))
        return Question(self.sql, filled, self._prepare)

    def result(self, answer: Answer) -> Rows:
        """What was fetched, as the columns' types read it."""
        rows = self.read(*answer)
        assert self._metadata is not None  # noqa: S101 -- known with the first rows
        return IteratorResult(self._metadata, iter(rows))

    def read(self, rows: list[tuple[Any, ...]], result: PGresult) -> list[tuple[Any, ...]]:
        """These rows, as the columns' types read them."""
        if self._metadata is None:
            self._metadata = self._described(result)
        return [self._read(row) for row in rows] if self._readers else rows

    def _described(self, result: PGresult) -> SimpleResultMetaData:
        # A text's columns have no types; the driver has read them.
        for place, kind in enumerate(self._types):
            reader = kind._cached_result_processor(DIALECT, result.ftype(place))
            if reader is not None:
                self._readers.append((place, reader))
        return SimpleResultMetaData([(result.fname(place) or b"").decode() for place in range(result.nfields)])

    def _read(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(row)
        for place, reader in self._readers:
            values[place] = reader(values[place])
        return tuple(values)


# By the statement itself: most are built once and live as long as the process; a passing one takes its own along.
_prepared: WeakKeyDictionary[Executable, Prepared] = WeakKeyDictionary()


def prepared(statement: Executable) -> Prepared:
    """A statement as it is sent, worked out once."""
    known = _prepared.get(statement)
    if known is None:
        known = _prepared[statement] = Prepared(statement)
    return known


class Executor(ABC):
    """Executes a person's statements over one connection, lent by the pool with the first of them. `who` tells the
    database who asks.
    """

    def __init__(self, engine: AsyncEngine, who: Question, slow_ms: float) -> None:
        self._engine = engine
        self._who = who
        self._scope = who.parameters[:2]  # the role and the tenant
        self._slow_ms = slow_ms
        self._lent: PoolProxiedConnection | None = None
        self._driver: Connection
        # Whether a transaction is open, or was when its connection broke.
        self._begun = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._lent is None:
            return
        try:
            if self._status in OPEN:
                await self._driver.ask(ROLLBACK)
        finally:
            if self._status == TransactionStatus.IDLE:
                self._lent.close()
            elif self._lent.is_valid:  # somebody hung up in the middle of an answer, or the server is gone
                await greenlet_spawn(self._lent.invalidate)

    async def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Rows:
        """One statement, as this person. Raises psycopg.Error; AppError before `crm db upgrade`."""
        query = prepared(statement)
        return query.result(await self._answered(query, parameters or {}))

    async def fetch(
        self, statement: Executable, parameters: Mapping[str, Any], each: Callable[[tuple[Any, ...]], T]
    ) -> list[T]:
        """What `each` makes of a query's rows, which are read as they arrive. Raises as `execute`."""
        query = prepared(statement)
        made: list[T] = []

        def take(rows: list[tuple[Any, ...]], result: PGresult) -> None:
            made.extend(map(each, query.read(rows, result)))

        await self._answered(query, parameters, take, made.clear)
        return made

    async def _answered(
        self,
        query: Prepared,
        parameters: Mapping[str, Any],
        take: Taker | None = None,
        begin_anew: Callable[[], None] = lambda: None,
    ) -> Answer:
        question = query.question(parameters)._replace(scope=self._scope)
        before = self._before()
        try:
            return await self._ask(before, question, take)
        except Error as error:
            if self._lent is None or not self._driver.closed:
                raise
            # The server is gone: the pool drops all connections to it, as SQLAlchemy does where it executes itself.
            await greenlet_spawn(self._engine.pool._invalidate, self._lent, error)
            if not before or isinstance(error, NoAnswerError):
                raise
            # Of a first statement nothing has lasted, and the server may have come back since.
            self._lent = None
            begin_anew()
            return await self._ask(before, question, take)

    @abstractmethod
    def _before(self) -> tuple[Question, ...]:
        """What goes to the server ahead of the next statement, in the same round trip."""

    async def _ask(self, before: tuple[Question, ...], question: Question, take: Taker | None) -> Answer:
        if self._lent is None:
            self._lent = await self._engine.raw_connection()
            self._driver = cast("Connection", self._lent.driver_connection)
        began = time.time_ns()
        failure: BaseException | None = None
        try:
            return await self._driver.ask(*before, question, take=take)
        except BaseException as error:
            failure = error
            if isinstance(error, ROLE_MISSING) and self._driver.failed is self._who:
                log.error("the database is not prepared for this login: run crm db upgrade", reason=str(error))
                raise AppError(Code.SERVICE_UNAVAILABLE) from error
            raise
        finally:
            self._begun = self._begun or self._status in OPEN
            tell(question.sql, began, time.time_ns(), failure, self._slow_ms)

    @property
    def _status(self) -> int:
        return TransactionStatus.UNKNOWN if self._lent is None else self._driver.pgconn.transaction_status


class Reader(Executor):
    """For reading: each statement is a transaction of its own. It needs no BEGIN and no COMMIT, which would be round
    trips that take longer than most answers.
    """

    def _before(self) -> tuple[Question, ...]:
        return (self._who,)


class Writer(Executor):
    """For writing: one transaction, which begins with the first statement."""

    def _before(self) -> tuple[Question, ...]:
        return () if self._begun else (BEGIN, self._who)

    async def commit(self) -> None:
        """Raises psycopg.Error for what the database refuses only now."""
        if self._lent is None:  # nothing was executed
            return
        if self._status != TransactionStatus.INTRANS:
            # The server answers such a COMMIT with a ROLLBACK, and calls it a success.
            raise RuntimeError("what failed, or is gone, can't be committed")
        await self._driver.ask(COMMIT)

    async def rollback(self) -> None:
        """Undo everything so far; what is executed next begins anew."""
        await self._driver.ask(ROLLBACK)
        self._begun = False
