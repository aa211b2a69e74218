"""What can be done with pipeline stages. The order is always 1, 2, …; whoever changes it holds all of them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping, Select, any_, bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from app.admin.pipeline_stages.schemas import PipelineStage, PipelineStageChange, PipelineStageCreate
from app.db.records import Records
from app.db.transaction import Transaction
from app.models import PipelineStage as Row
from app.web.errors import AppError, Code, Fault, invalid
from app.web.paging import Everything

# They are listed whole.
MOST = 100
RECORDS = Records(Row, Code.STAGE_NOT_FOUND, owned=False, most=MOST)
KINDS = {"open", "won", "lost"}
c = Row.__table__.c


ALL: Select[Any] = select(*(c[name] for name in PipelineStage.__struct_fields__)).order_by(c.order, c.id)
ONE: Select[Any] = ALL.where(c.id == bindparam("stage_id"))
HOLD_ALL: Select[Any] = select(c.id, c.order, c.kind, c.is_active).order_by(c.order, c.id).with_for_update()


async def list_all(tx: Transaction) -> Everything[PipelineStage]:
    """Every stage in order."""
    stages = [PipelineStage(*row) for row in await tx.connection.execute(ALL)]
    return Everything(stages, len(stages))


async def get(tx: Transaction, stage_id: int) -> PipelineStage:
    """Raises AppError STAGE_NOT_FOUND."""
    row = (await tx.connection.execute(ONE, {"stage_id": stage_id})).one_or_none()
    if row is None:
        raise AppError(Code.STAGE_NOT_FOUND)
    return PipelineStage(*row)


async def create(tx: Transaction, data: PipelineStageCreate) -> PipelineStage:
    """Raises AppError STAGE_EXISTS."""
    stages = await _hold_all(tx)
    values = data.given()
    closed = [place for place, stage in enumerate(stages) if stage["kind"] != "open"]
    place = values.get("order", (closed[0] if closed else len(stages)) + 1)
    stage_id = await RECORDS.insert(tx, values | {"order": len(stages) + 1})
    await _arrange(tx, [stage["id"] for stage in stages], stage_id, place)
    return await get(tx, stage_id)


async def change(tx: Transaction, stage_id: int, data: PipelineStageChange) -> PipelineStage:
    """Raises AppError STAGE_NOT_FOUND, VERSION_CONFLICT, STAGE_EXISTS or LAST_STAGE_OF_KIND."""
    stages = await _hold_all(tx)
    row = await RECORDS.lock(tx, stage_id)
    values = data.given()
    place = values.pop("order", None)
    _keep_every_kind([dict(stage) | (values if stage["id"] == stage_id else {}) for stage in stages])
    await RECORDS.update(tx, row, values)
    if place is not None and place != row["order"]:
        await _arrange(tx, [stage["id"] for stage in stages if stage["id"] != stage_id], stage_id, place)
    return await get(tx, stage_id)


async def remove(tx: Transaction, stage_id: int) -> None:
    """Raises AppError STAGE_NOT_FOUND, VERSION_CONFLICT, LAST_STAGE_OF_KIND or STAGE_IN_USE."""
    stages = await _hold_all(tx)
    await RECORDS.lock(tx, stage_id)
    _keep_every_kind([dict(stage) for stage in stages if stage["id"] != stage_id])
    await tx.connection.execute(delete(Row).where(c.id == stage_id))
    await _write_order(tx, [stage["id"] for stage in stages if stage["id"] != stage_id])


async def reorder(tx: Transaction, ids: list[int]) -> Everything[PipelineStage]:
    """Raises AppError INVALID_REQUEST unless every stage is named exactly once."""
    stages = await _hold_all(tx)
    if sorted(ids) != sorted(stage["id"] for stage in stages):
        raise invalid(Fault("ids", f"must hold the id of each of the {len(stages)} stages exactly once"))
    await _write_order(tx, ids)
    return await list_all(tx)


async def _hold_all(tx: Transaction) -> list[RowMapping]:
    return list((await tx.connection.execute(HOLD_ALL)).mappings())


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
