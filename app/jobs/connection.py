"""The queue's own connections: the library's statements, each in a transaction as the service's role."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from procrastinate import PsycopgConnector
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from app.db.pool import CONNECT_SECONDS, POOL_WAIT_SECONDS, Connection
from app.db.roles import SERVICE_ROLE, set_for_transaction

BEGIN = set_for_transaction(
    {"role": f"'{SERVICE_ROLE}'", "statement_timeout": "'5s'", "lock_timeout": "'2s'", "timezone": "'UTC'"}
)


class _Pool(AsyncConnectionPool[AsyncConnection[Any]]):
    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[AsyncConnection[Any]]:  # noqa: ASYNC109 -- the pool's signature
        async with super().connection(timeout) as connection:
            assert isinstance(connection, Connection)  # noqa: S101 -- as `queue_connector` says
            with connection.limited():
                # Local to the transaction, so that a transaction-mode pooler may hand the connection around.
                await connection.execute(BEGIN)
                yield connection


def queue_connector(dsn: str) -> PsycopgConnector:
    """Two connections: one asks for jobs, and one says that the worker is alive."""
    return PsycopgConnector(
        pool_factory=_Pool,
        conninfo=dsn,
        connection_class=Connection,
        kwargs={"connect_timeout": CONNECT_SECONDS, "application_name": "crm-jobs", "prepare_threshold": None},
        min_size=1,
        max_size=2,
        timeout=POOL_WAIT_SECONDS,
    )
