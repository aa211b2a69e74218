"""What the service does in the background, across tenants: it seals the audit log, deletes old idempotency keys, and
entries that are older than their tenant keeps them.
"""

from __future__ import annotations

import asyncio
import time

import structlog
from sqlalchemy import text

from app.db.database import Database
from app.records.audit_chain import BATCH, CUT_AT_ONCE, cut, seal

LONGEST_PAUSE_SECONDS = 30.0
PRUNE_EVERY_SECONDS = 60.0
PRUNED_AT_ONCE = 500

log = structlog.get_logger("maintenance")

PRUNE = text("SELECT crm_prune_idempotency_keys(:most)")


async def prune(database: Database) -> int:
    """Delete a batch of idempotency keys that are older than a day; returns how many. Raises AppError."""
    async with database.maintenance() as connection:
        return int((await connection.execute(PRUNE, {"most": PRUNED_AT_ONCE})).scalar_one())


class Maintenance:
    """Runs in each worker, every so many seconds. While one worker does the work, the others skip it."""

    def __init__(self, database: Database, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        self._pruned_at = -PRUNE_EVERY_SECONDS

    async def run(self) -> None:
        """Run until cancelled. A failure is logged and tried again later."""
        failures = 0
        while True:
            await asyncio.sleep(min(self._seconds * 2**failures, max(self._seconds, LONGEST_PAUSE_SECONDS)))
            try:
                await self._turn()
            except Exception as error:
                if not failures:
                    log.warning("maintenance failed and is tried again", reason=type(error).__name__, exc_info=error)
                failures = min(failures + 1, 10)
            else:
                failures = 0

    async def _turn(self) -> None:
        while (progress := await seal(self._database)) and progress.count == BATCH:
            pass
        if time.monotonic() - self._pruned_at >= PRUNE_EVERY_SECONDS:
            while await prune(self._database) == PRUNED_AT_ONCE:
                pass
            while await cut(self._database) == CUT_AT_ONCE:
                pass
            self._pruned_at = time.monotonic()
