"""What the tests of the audit log's chain have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from msgspec.structs import replace

from app.db.database import Database
from app.records import audit_chain
from app.records.audit_chain import Break, Head, Walk, heads
from app.settings import Settings

T = TypeVar("T")


def with_database(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    async def run() -> T:
        async with Database(settings) as database:
            return await work(database)

    return asyncio.run(run())


def seal(settings: Settings) -> None:
    """Everything that is there, also where a transaction of somebody else still keeps entries from being sealed."""

    async def work(database: Database) -> None:
        async with asyncio.timeout(60):
            while (progress := await audit_chain.seal(database)) is None or progress.sealed < progress.newest:
                pass

    with_database(settings, work)


def checkpoint(settings: Settings) -> dict[str, Head]:
    async def work(database: Database) -> dict[str, Head]:
        async with database.oversight() as connection:
            return await heads(connection)

    return with_database(_owner(settings), work)


def breaks(settings: Settings, tenant: str, seen: dict[str, Head] | None = None) -> list[Break]:
    """Of this tenant; others may have been tampered with by other tests."""

    async def work(database: Database) -> list[Break]:
        async with database.oversight() as connection:
            return [each async for each in Walk(connection, seen or {}).breaks() if each.tenant == tenant]

    return with_database(_owner(settings), work)


def _owner(settings: Settings) -> Settings:
    return replace(settings, database_url=settings.migration_dsn)
