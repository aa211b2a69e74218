"""Pipeline stages as others read them."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import select

from app.db.transaction import Transaction
from app.models import PipelineStage as Row

c = Row.__table__.c


class StageOrigin(NamedTuple):
    """What became of a stage: `origin` is the name of the built-in one that it began as, None for a tenant's own."""

    name: str
    kind: str
    is_active: bool
    origin: str | None


ORIGINS = select(*(c[name] for name in StageOrigin._fields)).order_by(c.order, c.id)


async def list_origins(tx: Transaction) -> list[StageOrigin]:
    """Every stage in order, with the built-in stage that it began as."""
    return [StageOrigin(*row) for row in await tx.connection.execute(ORIGINS)]
