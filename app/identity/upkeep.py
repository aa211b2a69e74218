"""Deleting what was kept long enough."""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy import bindparam, func, select
from sqlalchemy.types import BigInteger

from app.identity.caller import OPERATOR
from app.identity.database import Database
from app.settings import Settings
from app.web.errors import AppError

EVERY_SECONDS = 600.0
AT_ONCE = 1000

log = structlog.get_logger("maintenance")

PRUNE = select(
    func.prune(
        bindparam("event_days", type_=BigInteger),
        bindparam("token_days", type_=BigInteger),
        bindparam("most", type_=BigInteger),
    )
)


async def prune(database: Database, settings: Settings) -> int:
    """Delete some of it; returns how much. Any number of workers may do so. Raises AppError."""
    kept = {"event_days": settings.auth_event_days, "token_days": settings.refresh_token_days, "most": AT_ONCE}
    async with database.transaction(OPERATOR) as tx:
        return int((await tx.execute(PRUNE, kept)).scalar_one())


async def upkeep(database: Database, settings: Settings) -> None:
    """Do so from time to time, until cancelled."""
    while True:
        try:
            while await prune(database, settings) >= AT_ONCE:
                pass
        except AppError as error:
            log.warning("old entries are not deleted now, and it is tried again", code=error.code.name)
        await asyncio.sleep(EVERY_SECONDS)
