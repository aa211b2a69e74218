"""The driver's connection, with several statements in one round trip, and a limit of our own for every answer.

The server's limits end what the server does too slowly. One that is paused, or behind a network that drops everything,
ends nothing, and would hold each request and each connection for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, TypeVar

from psycopg import AsyncConnection, OperationalError, postgres
from psycopg.abc import PQGen
from psycopg.abc import Transformer as AnyTransformer
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.waiting import Ready, Wait

# Above the server's statement_timeout, which leaves the connection whole.
ANSWER_SECONDS = 6.0
LOOK_EVERY_SECONDS = 0.1
MOST_PREPARED = 200  # of one connection
TEXT = [PyFormat.TEXT]
# The driver calls a small number a small integer; a statement is prepared once for all of them.
WIDER = {postgres.types[small].oid: postgres.types["int8"].oid for small in ("int2", "int4")}
# Its SQL, and the types of its parameters.
Statement: TypeAlias = tuple[str, tuple[int, ...]]

_limit: ContextVar[float | None] = ContextVar("answer_seconds", default=ANSWER_SECONDS)

T = TypeVar("T")


@contextmanager
def patience(seconds: float | None) -> Iterator[None]:
    """Wait this long for each answer inside; None waits for ever."""
    before = _limit.set(seconds)
    try:
        yield
    finally:
        _limit.reset(before)


class Question(NamedTuple):
    """A statement with its parameters, in it as $1, $2 …"""

    sql: str
    parameters: Sequence[Any] = ()


class Answer(NamedTuple):
    """A statement's rows, as the driver loads them, and what the server says of their columns."""

    rows: list[tuple[Any, ...]]
    result: PGresult


class Connection(AsyncConnection[Any]):
    """A connection that is closed, and raises OperationalError, where an answer does not come in time."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        # The names of prepared statements, those used last at the end.
        self._names: dict[Statement, bytes] = {}
        self._named = 0

    async def wait(self, gen: PQGen[T], interval: float = LOOK_EVERY_SECONDS, timeout: float | None = None) -> T:  # noqa: ASYNC109 -- the driver's own signature
        """As the driver's, which all of its work goes through."""
        try:
            return await super().wait(gen, interval, _limit.get() if timeout is None else timeout)
        except OperationalError as error:
            if error.sqlstate is None:  # nothing that the server said: it is silent, or gone
                self.pgconn.finish()
            raise

    async def ask(self, *questions: Question) -> Answer:
        """Execute these in one round trip and return the last one's answer; outside of a transaction they are one.

        The driver's own pipeline does the same, and waits for the event loop at every step. Raises psycopg.Error.
        """
        result = await self.wait(self._conversation(questions))
        reader = self._transformer
        reader.set_pgresult(result)
        rows = reader.load_rows(0, result.ntuples, tuple)
        reader.set_pgresult(None)
        return Answer(rows, result)

    async def rollback(self) -> None:
        """As the driver's, but what is prepared stays prepared: it forgets that with each rollback."""
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            await self.ask(Question("ROLLBACK"))

    @cached_property
    def _transformer(self) -> AnyTransformer:
        return Transformer.from_context(self)

    def _conversation(self, questions: Sequence[Question]) -> PQGen[PGresult]:
        pgconn = self.pgconn
        pgconn.enter_pipeline_mode()
        prepares = [prepares for question in questions for prepares in self._send(question)]
        pgconn.pipeline_sync()
        while pgconn.flush():
            if (yield Wait.RW) & Ready.R:
                pgconn.consume_input()
        results = []
        while True:
            while pgconn.is_busy():
                yield Wait.R
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is not None:
                if result.status == ExecStatus.PIPELINE_SYNC:
                    break
                results.append(result)
            elif pgconn.status == ConnStatus.BAD:
                raise OperationalError("the connection is lost")
        pgconn.exit_pipeline_mode()
        for prepared, result in zip(prepares, results, strict=True):
            if result.status == ExecStatus.FATAL_ERROR:
                raise error_from_result(result, self.info.encoding)
            if prepared:
                statement, name = prepared
                self._names[statement] = name
        return results[-1]

    def _send(self, question: Question) -> Iterator[tuple[Statement, bytes] | None]:
        """Send a question, and yield for each answer that will come what it prepares."""
        values = self._transformer.dump_sequence(question.parameters, TEXT * len(question.parameters))
        statement = question.sql, tuple(WIDER.get(oid, oid) for oid in self._transformer.types or ())
        if self.prepare_threshold is None:
            self.pgconn.send_query_params(question.sql.encode(), values, statement[1])
            yield None
            return
        name = self._names.pop(statement, None)
        if name is None:
            if len(self._names) >= MOST_PREPARED:
                longest_unused = self._names.pop(next(iter(self._names)))
                self.pgconn.send_query_params(b"DEALLOCATE " + longest_unused, None)
                yield None
            self._named += 1
            name = b"crm_%d" % self._named
            self.pgconn.send_prepare(name, question.sql.encode(), statement[1])
            yield statement, name
        else:
            self._names[statement] = name  # as the one used last
        self.pgconn.send_query_prepared(name, values)
        yield None
