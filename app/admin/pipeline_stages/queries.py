"""Pipeline stages as the database reads them."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Select, select

from app.admin.pipeline_stages.schemas import PipelineStage
from app.models import PipelineStage as Row
from app.records import resources
from app.records.json_columns import selected, view_columns
from app.records.repository import Repository
from app.records.transaction import Transaction

c = Row.__table__.c
COLUMNS = view_columns(PipelineStage, Row.__table__)
PIPELINE_STAGES = Repository(resources.PIPELINE_STAGES, PipelineStage, COLUMNS)
ALL: Select[Any] = select(*selected(COLUMNS)).order_by(c.order, c.id)


class StageOrigin(NamedTuple):
    """A stage, and the name of the built-in stage that it was at first: None for one that the tenant added."""

    name: str
    kind: str
    is_active: bool
    origin: str | None


ORIGINS = select(*(c[name] for name in StageOrigin._fields)).order_by(c.order, c.id)


async def list_origins(tx: Transaction) -> list[StageOrigin]:
    """Every stage in order, with its origin."""
    return [StageOrigin(*row) for row in await tx.connection.execute(ORIGINS)]
