"""One worker's connections to the database."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from decimal import Decimal
from typing import Any, Protocol

import msgspec
import psycopg
from prometheus_client import Counter, Gauge, Histogram
from psycopg import AsyncConnection, AsyncRawCursor, OperationalError
from psycopg.adapt import AdaptersMap
from psycopg.pq import PipelineStatus
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg.types.numeric import Int8Dumper
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from app.web import strict_json

POOL_WAIT_SECONDS = 1.5
CONNECT_SECONDS = 2
# After a connection could not be opened. The next request tries again.
RECONNECT_SECONDS = 1.0
# Above the server's statement_timeout, which leaves the connection whole.
RESPONSE_SECONDS = 6.0
MOST_PREPARED = 200  # of one connection
MAX_STREAMS = 2

WAIT = Histogram(
    "crm_db_pool_wait_seconds",
    "Time that a request waits for a connection",
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, POOL_WAIT_SECONDS),
)
USED = Gauge("crm_db_pool_used_connections", "Connections in use", multiprocess_mode="livesum")
MOST = Gauge("crm_db_pool_max_connections", "Connections that may be open", multiprocess_mode="livesum")
TIMEOUTS = Counter("crm_db_pool_timeouts", "Requests that got no connection in time")

ADAPTERS = AdaptersMap(psycopg.adapters)
set_json_dumps(strict_json.encode, ADAPTERS)
set_json_loads(msgspec.json.Decoder(float_hook=Decimal).decode, ADAPTERS)
# psycopg calls a small number a small integer; a statement is prepared once for all of them.
ADAPTERS.register_dumper(int, Int8Dumper)

_response_seconds: ContextVar[float | None] = ContextVar("response_seconds", default=RESPONSE_SECONDS)


@contextmanager
def response_timeout(seconds: float | None) -> Iterator[None]:
    """Wait this long for each answer of the database inside; None waits for ever."""
    before = _response_seconds.set(seconds)
    try:
        yield
    finally:
        _response_seconds.reset(before)


class NoResponseError(OperationalError):
    """The server was silent for too long."""


class Connection(AsyncConnection[tuple[Any, ...]]):
    """A connection that can be given up while somebody waits for it."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.opened_at = time.monotonic()
        self._hung_up = False

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Close the connection and raise NoResponseError where the server says nothing for too long.

        The server's limits end what the server does too slowly. One that is paused, or behind a network that drops
        everything, ends nothing. To cancel the task would not do: psycopg first asks the server to cancel, and waits.
        """
        limit = _response_seconds.get()
        if limit is None:
            yield
            return
        timer = asyncio.get_running_loop().call_later(limit, self._hang_up)
        try:
            yield
        except OperationalError as error:
            if self._hung_up:
                raise NoResponseError from error
            raise
        finally:
            timer.cancel()

    def _hang_up(self) -> None:
        if not self.closed:
            self._hung_up = True
            with socket.socket(fileno=os.dup(self.fileno())) as wire:
                wire.shutdown(socket.SHUT_RDWR)


class Lender(Protocol):
    """Lends a session its connection."""

    async def acquire(self) -> Connection:
        """As `Pool.acquire`."""

    async def release(self, connection: Connection) -> None:
        """As `Pool.release`."""

    def stream_turn(self) -> AbstractAsyncContextManager[None]:
        """As `Pool.stream_turn`."""


class Pool:
    """Lends connections, in autocommit mode: who borrows one begins and ends transactions."""

    def __init__(self, dsn: str, *, least: int, most: int, prepare: bool, measured: bool = False) -> None:
        self._pool = AsyncConnectionPool(
            dsn,
            connection_class=Connection,
            kwargs={
                "autocommit": True,
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "crm-service",
                "context": ADAPTERS,
                "cursor_factory": AsyncRawCursor,
                # A prepared statement belongs to a server's session, which a transaction-mode pooler hands around.
                "prepare_threshold": 0 if prepare else None,
            },
            configure=_configure,
            min_size=least,
            max_size=most,
            timeout=POOL_WAIT_SECONDS,
            reconnect_timeout=RECONNECT_SECONDS,
            open=False,
        )
        self.in_use = 0
        # Told of each one that is lent and given back: whoever waits gets it at once, so that a look after requests
        # would find a full pool less than full.
        self._used = USED if measured else None
        if measured:
            MOST.set(most)
        self._streams = asyncio.Semaphore(MAX_STREAMS)
        self._renewed_at = 0.0

    async def open(self) -> None:
        """Begin to open connections, ahead of the first requests; where the database is away, they come later."""
        await self._pool.open()

    async def close(self) -> None:
        """Close all connections, those in use when they are given back."""
        await self._pool.close()

    async def acquire(self) -> Connection:
        """A connection, to be given back by `release`. Raises psycopg.OperationalError where none becomes free."""
        began = time.monotonic()
        cancels = _cancels()
        try:
            connection = await self._pool.getconn()
        except PoolTimeout:
            TIMEOUTS.inc()
            raise
        finally:
            WAIT.observe(time.monotonic() - began)
        # The pool waits by `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that comes together with
        # the connection: a task that runs until it is cancelled would never end.
        if _cancels() > cancels:
            await self._pool.putconn(connection)
            raise asyncio.CancelledError
        self.in_use += 1
        if self._used:
            self._used.inc()
        return connection

    @asynccontextmanager
    async def stream_turn(self) -> AsyncIterator[None]:
        """Stream rows inside. Many at once would go on side by side, and all together pass the limit of a statement's
        time. Raises psycopg_pool.PoolTimeout where none of those before comes to its end.
        """
        try:
            async with asyncio.timeout(RESPONSE_SECONDS):
                await self._streams.acquire()
        except TimeoutError:
            raise PoolTimeout("too many large reads at once") from None
        try:
            yield
        finally:
            self._streams.release()

    async def release(self, connection: Connection) -> None:
        """Take a connection back. Where it broke, all that were opened before it broke are likely to be broken, too."""
        self.in_use -= 1
        if self._used:
            self._used.dec()
        # A task that was cancelled while it entered a pipeline leaves the connection in it: the next one to borrow it
        # would get no rows.
        if not connection.closed and connection.info.pipeline_status != PipelineStatus.OFF:
            await connection.close()
        broken = connection.closed
        await self._pool.putconn(connection)
        if broken and connection.opened_at > self._renewed_at:
            self._renewed_at = time.monotonic()
            await self._pool.drain()


def _cancels() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


async def _configure(connection: Connection) -> None:
    connection.prepared_max = MOST_PREPARED
