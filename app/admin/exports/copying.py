"""Rows on their way from the database to a file, in blocks: memory stays flat."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from psycopg.errors import QueryCanceled
from sqlalchemy import Executable, text

from app.db.pool import response_timeout
from app.records.transaction import Transaction
from app.web.errors import AppError, Code

BLOCK = 256 * 1024
CSV = "FORMAT csv"
# JSON in one line has none of these characters: so each row comes as it is.
JSON_LINES = r"FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02'"
LIMIT = text("SELECT set_config('statement_timeout', :limit, true)")


class Copying:
    """Copies what statements select within so many seconds. `rows` counts."""

    def __init__(
        self, tx: Transaction, write: Callable[[bytes], Awaitable[object]], seconds: float, *, most: int | None = None
    ) -> None:
        self._tx = tx
        self._write = write
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._most = most
        self.rows = 0

    async def copy(
        self, statement: Executable, parameters: Mapping[str, Any], options: str, line_end: bytes = b"\n"
    ) -> None:
        """Each row as COPY writes it with these options, and with this end of a line.

        Raises AppError SERVICE_UNAVAILABLE where it takes too long, and TOO_MANY_RECORDS.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise self._too_slow()
        await self._tx.connection.execute(LIMIT, {"limit": f"{int(left * 1000) + 1}ms"})
        block = bytearray()
        try:
            with response_timeout(left + 1):
                async with aclosing(self._tx.connection.copy(statement, parameters, options)) as copied:
                    async for row in copied:
                        self.rows += 1
                        block += row[:-1]
                        block += line_end
                        if len(block) >= BLOCK:
                            await self._pass_on(block)
        except QueryCanceled:
            raise self._too_slow() from None
        await self._pass_on(block)

    async def _pass_on(self, block: bytearray) -> None:
        if self._most is not None and self.rows > self._most:
            message = f"A sheet has at most {self._most + 1} rows: choose another format, or narrow the list by filters"
            raise AppError(Code.TOO_MANY_RECORDS, message)
        if block:
            await self._write(bytes(block))
            block.clear()

    def _too_slow(self) -> AppError:
        message = f"This takes longer than {self._seconds:.0f} seconds: narrow the list by filters, or make an archive"
        return AppError(Code.SERVICE_UNAVAILABLE, message, headers={"Retry-After": "60"})
