"""The rules of pipeline stages. The order is always 1, 2, …

A request that changes stages or their order locks the tenant's settings first, so that such requests follow each other.
A request that moves a deal locks the deal's new stage (see app.admin.deals.service), and a change of that stage waits
for it. A request that has locked a stage never waits for a deal, so that two requests can't wait for each other.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    Select,
    any_,
    bindparam,
    delete,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from app.admin.pipeline_stages.queries import ALL, PIPELINE_STAGES
from app.admin.pipeline_stages.schemas import PipelineStage, PipelineStageChange, PipelineStageCreate
from app.db.result import RowMapping
from app.models import Deal, StageMove, TenantSettings
from app.models import PipelineStage as Row
from app.records.transaction import Transaction
from app.web.errors import AppError, Code, Fault, invalid
from app.web.paging import Everything

KINDS = {"open", "won", "lost"}
c = Row.__table__.c
deal = Deal.__table__.c
move = StageMove.__table__.c


def _deals_in(condition: ColumnElement[bool]) -> ScalarSelect[Any]:
    return select(func.count()).where(deal.stage_id == bindparam("stage_id"), condition).scalar_subquery()


ORDERED: Select[Any] = select(c.id, c.order, c.kind, c.is_active).order_by(c.order, c.id)
LOCK_SETTINGS = select(TenantSettings.id).with_for_update(key_share=True)
USES: Select[Any] = select(
    _deals_in(deal.deleted_at.is_(None)).label("deals"),
    _deals_in(deal.deleted_at.is_not(None)).label("trashed_deals"),
    select(func.count(move.deal_id.distinct()))
    .where(or_(move.to_stage_id == bindparam("stage_id"), move.from_stage_id == bindparam("stage_id")))
    .scalar_subquery()
    .label("history"),
)
DEFER_ORDER = text("SET CONSTRAINTS pipeline_stages_order_key DEFERRED")
CHECK_ORDER = text("SET CONSTRAINTS pipeline_stages_order_key IMMEDIATE")
NEW_STAGE = 0  # not the id of a stage: the place of the one that is inserted next


async def list_all(tx: Transaction) -> Everything[PipelineStage]:
    """Every stage in order."""
    stages = [PipelineStage(*row) for row in await tx.connection.execute(ALL)]
    return Everything(stages, len(stages))


async def create(tx: Transaction, data: PipelineStageCreate) -> PipelineStage:
    """Raises AppError STAGE_EXISTS."""
    stages = await _lock_all(tx)
    values = data.given()
    closed = [place for place, stage in enumerate(stages) if stage["kind"] != "open"]
    place = min(values.get("order", (closed[0] if closed else len(stages)) + 1), len(stages) + 1)
    await _arrange(tx, [stage["id"] for stage in stages], NEW_STAGE, place)
    return await PIPELINE_STAGES.get(tx, await PIPELINE_STAGES.insert(tx, values | {"order": place}))


async def change(tx: Transaction, stage_id: int, data: PipelineStageChange) -> PipelineStage:
    """Raises AppError STAGE_NOT_FOUND, VERSION_CONFLICT, STAGE_EXISTS, LAST_STAGE_OF_KIND or STAGE_IN_USE."""
    stages = await _lock_all(tx)
    row = await PIPELINE_STAGES.get_for_update(tx, stage_id)
    values = data.given()
    place = values.pop("order", None)
    _keep_every_kind([dict(stage) | (values if stage["id"] == stage_id else {}) for stage in stages])
    if values.get("kind", row["kind"]) != row["kind"]:
        await _require_unused(tx, stage_id, "Deals are, or were, in this stage: its kind can't change")
    await PIPELINE_STAGES.update(tx, row, values)
    if place is not None and place != row["order"]:
        await _arrange(tx, [stage["id"] for stage in stages if stage["id"] != stage_id], stage_id, place)
    return await PIPELINE_STAGES.get(tx, stage_id)


async def remove(tx: Transaction, stage_id: int) -> None:
    """Raises AppError STAGE_NOT_FOUND, VERSION_CONFLICT, LAST_STAGE_OF_KIND or STAGE_IN_USE."""
    stages = await _lock_all(tx)
    await PIPELINE_STAGES.get_for_update(tx, stage_id)
    _keep_every_kind([dict(stage) for stage in stages if stage["id"] != stage_id])
    await _require_unused(tx, stage_id)
    await tx.connection.execute(delete(Row).where(c.id == stage_id))
    await _write_order(tx, [stage["id"] for stage in stages if stage["id"] != stage_id])


async def reorder(tx: Transaction, ids: list[int]) -> Everything[PipelineStage]:
    """Raises AppError INVALID_REQUEST unless every stage is named exactly once."""
    stages = await _lock_all(tx)
    if sorted(ids) != sorted(stage["id"] for stage in stages):
        raise invalid(Fault("ids", f"must hold the id of each of the {len(stages)} stages exactly once"))
    await _write_order(tx, ids)
    return await list_all(tx)


async def prepare_put_back(tx: Transaction) -> None:
    """Lock the stages, and let two of them have the same place until `settle`."""
    await tx.connection.execute(LOCK_SETTINGS)
    await tx.connection.execute(DEFER_ORDER)


async def settle(tx: Transaction) -> None:
    """Number the stages 1, 2, … after some were put back. Raises AppError LAST_STAGE_OF_KIND."""
    stages = list((await tx.connection.execute(ORDERED)).mappings())
    _keep_every_kind([dict(stage) for stage in stages])
    await _write_order(tx, [stage["id"] for stage in stages])
    await tx.connection.execute(CHECK_ORDER)


async def _lock_all(tx: Transaction) -> list[RowMapping]:
    """Every stage, once no other request changes any."""
    await tx.connection.execute(LOCK_SETTINGS)
    return list((await tx.connection.execute(ORDERED)).mappings())


async def _require_unused(tx: Transaction, stage_id: int, message: str | None = None) -> None:
    """Raise AppError STAGE_IN_USE if deals are or were in this locked stage. Counting deals does not wait for them."""
    uses = dict((await tx.connection.execute(USES, {"stage_id": stage_id})).mappings().one())
    if any(uses.values()):
        raise AppError(Code.STAGE_IN_USE, message, data=uses)


async def _arrange(tx: Transaction, others: list[int], stage_id: int, place: int) -> None:
    await _write_order(tx, [*others[: place - 1], stage_id, *others[place - 1 :]])


async def _write_order(tx: Transaction, ids: list[int]) -> None:
    wanted = func.array_position(bindparam("ids", ids, type_=ARRAY(BigInteger)), c.id)
    listed = c.id == any_(bindparam("ids", ids, type_=ARRAY(BigInteger)))
    await tx.connection.execute(update(Row).where(listed, c.order != wanted).values(order=wanted))


def _keep_every_kind(stages: list[dict[str, Any]]) -> None:
    missing = KINDS - {stage["kind"] for stage in stages if stage["is_active"]}
    if missing:
        raise AppError(Code.LAST_STAGE_OF_KIND, data={"kind": missing.pop()})
