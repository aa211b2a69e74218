"""The driver's connection, with a limit of our own for every answer.

The server's limits end what the server does too slowly. One that is paused, or behind a network that drops everything,
ends nothing, and would hold each request and each connection for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from psycopg import AsyncConnection, OperationalError
from psycopg.abc import PQGen

# Above the server's statement_timeout, which leaves the connection whole.
ANSWER_SECONDS = 6.0
LOOK_EVERY_SECONDS = 0.1

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


class Connection(AsyncConnection[Any]):
    """A connection that is closed, and raises OperationalError, where an answer does not come in time."""

    async def wait(self, gen: PQGen[T], interval: float = LOOK_EVERY_SECONDS, timeout: float | None = None) -> T:  # noqa: ASYNC109 -- the driver's own signature
        """As the driver's, which all of its work goes through."""
        try:
            return await super().wait(gen, interval, _limit.get() if timeout is None else timeout)
        except OperationalError as error:
            if error.sqlstate is None:  # nothing that the server said: it is silent, or gone
                self.pgconn.finish()
            raise
