"""The driver's connection, with several statements in one round trip, and a limit of our own for every answer.

The server's limits end what the server does too slowly. One that is paused, or behind a network that drops everything,
ends nothing, and would hold each request and each connection for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, TypeVar

from psycopg import AsyncConnection, OperationalError, capabilities, postgres
from psycopg.abc import Buffer, PQGen
from psycopg.abc import Transformer as AnyTransformer
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGresult
from psycopg.waiting import Ready, Wait

# Above the server's statement_timeout, which leaves the connection whole.
ANSWER_SECONDS = 6.0
LOOK_EVERY_SECONDS = 0.1
# Of an answer that is taken in parts.
ROWS_AT_ONCE = 10
PARTS = {ExecStatus.TUPLES_CHUNK, ExecStatus.SINGLE_TUPLE}
MOST_PREPARED = 200  # of one connection
TEXT = [PyFormat.TEXT]
# A column changed its type since a statement was prepared, or somebody took the statement away: a new connection knows
# nothing of either.
STALE = {"0A000", "26000"}
# The driver calls a small number a small integer; a statement is prepared once for all of them.
INT8 = postgres.types["int8"]
WIDER = {postgres.types[small].oid: INT8.oid for small in ("int2", "int4")} | {
    postgres.types[small].array_oid: INT8.array_oid for small in ("int2", "int4")
}
# Its SQL, the types of its parameters, and the scope.
Statement: TypeAlias = tuple[str, tuple[int, ...], tuple[Any, ...]]

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
    """A statement with its parameters, in it as $1, $2 …

    It is prepared for each `scope` by itself: a plan that was made for a small tenant can be a bad one for a large one.
    """

    sql: str
    parameters: Sequence[Any] = ()
    prepare: bool = True
    scope: Sequence[Any] = ()


class Filled(NamedTuple):
    """A question with its parameters as the server reads them, and their types."""

    question: Question
    values: Sequence[Buffer | None]
    types: tuple[int, ...]


class Sent(NamedTuple):
    """What a result will be the answer to, and the statement that is prepared with it, under which name."""

    question: Question
    prepares: Statement | None = None
    name: bytes = b""


class Answer(NamedTuple):
    """A statement's rows, as the driver loads them, and what the server says of their columns."""

    rows: list[tuple[Any, ...]]
    result: PGresult


# What is done with some rows of an answer, and what the server says of their columns.
Taker: TypeAlias = Callable[[list[tuple[Any, ...]], PGresult], None]


class NoAnswerError(OperationalError):
    """The server was silent for too long."""


class Connection(AsyncConnection[Any]):
    """A connection that is closed, and raises OperationalError, where an answer does not come in time."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        # The names of prepared statements, those used last at the end.
        self._names: dict[Statement, bytes] = {}
        self._named = 0
        # The one that the server refused last.
        self.failed: Question | None = None

    async def wait(self, gen: PQGen[T], interval: float = LOOK_EVERY_SECONDS, timeout: float | None = None) -> T:  # noqa: ASYNC109 -- the driver's own signature
        """As the driver's, which all of its work goes through."""
        limit, began = _limit.get() if timeout is None else timeout, time.monotonic()
        try:
            return await super().wait(gen, interval, limit)
        except OperationalError as error:
            if error.sqlstate is not None:  # the server said something
                raise
            self.pgconn.finish()
            if limit is not None and time.monotonic() - began >= limit:
                raise NoAnswerError from error
            raise

    async def ask(self, *questions: Question, take: Taker | None = None) -> Answer:
        """Execute these in one round trip and return the last one's answer; outside of a transaction they are one.

        `take` gets its rows as they arrive, a few at a time, so that never all of them are held. The driver's own
        pipeline waits for the event loop at every step. Raises psycopg.Error.
        """
        result = await self.wait(self._conversation(questions, take))
        return Answer(self._loaded(result), result)

    def _loaded(self, result: PGresult) -> list[tuple[Any, ...]]:
        reader = self._transformer
        reader.set_pgresult(result)
        rows = reader.load_rows(0, result.ntuples, tuple)
        reader.set_pgresult(None)
        return rows

    @cached_property
    def _transformer(self) -> AnyTransformer:
        return Transformer.from_context(self)

    def _conversation(self, questions: Sequence[Question], take: Taker | None) -> PQGen[PGresult]:
        filled = [self._filled(question) for question in questions]
        pgconn = self.pgconn
        pgconn.enter_pipeline_mode()
        expected = [sent for each in filled for sent in self._send(each)]
        pgconn.pipeline_sync()
        while pgconn.flush():
            ready = yield Wait.RW
            if ready and ready & Ready.R:
                pgconn.consume_input()
        results: list[PGresult] = []
        # Only the last one's rows come in parts, which has to be said when its turn has come.
        before, failed = len(expected) - 1, False
        if take and not before:
            self._ask_for_parts()
        while True:
            while pgconn.is_busy():
                yield Wait.R
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is not None:
                if result.status == ExecStatus.PIPELINE_SYNC:
                    break
                if take and result.status in PARTS:
                    take(self._loaded(result), result)
                else:
                    results.append(result)
                    failed = failed or result.status == ExecStatus.FATAL_ERROR
            elif pgconn.status == ConnStatus.BAD:
                raise OperationalError("the connection is lost")
            elif take and len(results) == before and not failed:
                self._ask_for_parts()
        pgconn.exit_pipeline_mode()
        for sent, result in zip(expected, results, strict=True):
            if result.status == ExecStatus.FATAL_ERROR:
                self.failed = sent.question
                error = error_from_result(result, self.info.encoding)
                if sent.question.prepare and error.sqlstate in STALE:
                    pgconn.finish()
                raise error
            if sent.prepares:
                self._names[sent.prepares] = sent.name
        return results[-1]

    def _ask_for_parts(self) -> None:
        if capabilities.has_stream_chunked():
            self.pgconn.set_chunked_rows_mode(ROWS_AT_ONCE)
        else:
            self.pgconn.set_single_row_mode()

    def _filled(self, question: Question) -> Filled:
        values = self._transformer.dump_sequence(question.parameters, TEXT * len(question.parameters))
        return Filled(question, values, tuple(WIDER.get(oid, oid) for oid in self._transformer.types or ()))

    def _send(self, filled: Filled) -> Iterator[Sent]:
        """Send a question, and yield what for, for each answer that will come."""
        question, values, types = filled
        sql, statement = question.sql.encode(), (question.sql, types, tuple(question.scope))
        if self.prepare_threshold is None or not question.prepare:
            self.pgconn.send_query_params(sql, values, types)
        else:
            name = self._names.pop(statement, None)
            if name is None:
                if len(self._names) >= MOST_PREPARED:
                    longest_unused = self._names.pop(next(iter(self._names)))
                    if capabilities.has_send_close_prepared():
                        self.pgconn.send_close_prepared(longest_unused)
                    else:
                        self.pgconn.send_query_params(b"DEALLOCATE " + longest_unused, None)
                    yield Sent(question)
                self._named += 1
                name = b"crm_%d" % self._named
                self.pgconn.send_prepare(name, sql, types)
                yield Sent(question, statement, name)
            else:
                self._names[statement] = name  # as the one used last
            self.pgconn.send_query_prepared(name, values)
        yield Sent(question)
