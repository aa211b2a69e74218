"""The rules of deals: about stages, amounts and currencies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Select, bindparam, select

from app.admin.contacts.queries import check_contact
from app.admin.deals.queries import DEALS, DETAIL
from app.admin.deals.schemas import Deal, DealChange, DealCreate, DealDetail
from app.db.result import RowMapping
from app.models import PipelineStage, TenantSettings
from app.money import currency_decimals
from app.records.repository import differing
from app.records.transaction import Transaction
from app.web.errors import AppError, Code, Fault, bad_field, invalid

OPEN, LOST = "open", "lost"
NO_CLOSING: dict[str, Any] = {"actual_close_date": None, "lost_reason": None}

stage = PipelineStage.__table__.c
STAGE: Select[Any] = select(stage.id, stage.name, stage.order, stage.kind, stage.probability, stage.is_active)
STAGE_BY_ID = STAGE.where(stage.id == bindparam("stage_id"))
# Locks the stage, so that nobody deletes or changes it meanwhile; see app.admin.pipeline_stages.service.
STAGE_BY_NAME = STAGE.where(stage.name == bindparam("name"), stage.is_active).with_for_update(read=True)
STAGE_NAMES = select(stage.name)
FIRST_OPEN_STAGE = (
    STAGE.where(stage.kind == OPEN, stage.is_active).order_by(stage.order).limit(1).with_for_update(read=True)
)
DEFAULT_CURRENCY = select(TenantSettings.default_currency)


async def detail(tx: Transaction, deal_id: int) -> DealDetail:
    """A deal with its activities, notes and stage history. Raises AppError DEAL_NOT_FOUND."""
    row = (await tx.connection.execute(DETAIL, {"deal_id": deal_id})).one_or_none()
    if row is None:
        raise DEALS.not_found()
    return DealDetail(*row)


async def require_stages(tx: Transaction, names: list[str], field: str = "stage") -> None:
    """Raises AppError INVALID_STAGE unless the tenant has all stages of these names, active or not."""
    if not names:
        return
    present = set((await tx.connection.execute(STAGE_NAMES)).scalars())
    if unknown := [name for name in names if name not in present]:
        message = f"must be of {', '.join(sorted(present))}, not {unknown[0]}"
        raise invalid(Fault(field, message, Code.INVALID_STAGE))


async def create(tx: Transaction, data: DealCreate) -> Deal:
    """Open a deal with a customer.

    Raises AppError INSUFFICIENT_PERMISSIONS, WON_NEEDS_AMOUNT, INVALID_STAGE, or 400 for an amount or a reference.
    """
    values = await prepare(tx, data.given(), Pipeline(tx))
    await DEALS.check_references(tx, values)
    await check_contact(tx, values.get("contact_id"), values["customer_id"])
    return await DEALS.get(tx, await DEALS.insert(tx, values))


async def prepare(tx: Transaction, values: dict[str, Any], pipeline: Pipeline) -> dict[str, Any]:
    """What is stored of a new deal with these values, once its references are checked. Raises AppError as `create`."""
    values = DEALS.with_owner(tx, values)
    name = values.pop("stage", None)
    to = await (pipeline.first_open() if name is None else pipeline.named(name))
    if "currency" not in values:
        values["currency"] = await pipeline.default_currency()
    values = {"amount": Decimal(0), "probability": to["probability"]} | values | {"stage_id": to["id"]}
    _check_amount(values["amount"], values["currency"])
    _require_amount(to, values["amount"])
    values |= _closing(OPEN, to["kind"], NO_CLOSING, values)
    values = DEALS.dated(tx, values)
    if "created_at" in values:
        values["stage_entered_at"] = values["created_at"]
    return values


async def change(tx: Transaction, deal_id: int, data: DealChange, rollback_roles: tuple[str, ...]) -> Deal:
    """Raises AppError as `apply`."""
    await apply(tx, deal_id, data, rollback_roles)
    return await DEALS.get(tx, deal_id)


async def apply(tx: Transaction, deal_id: int, data: DealChange, rollback_roles: tuple[str, ...]) -> bool:
    """Change a deal; returns whether anything differed.

    Raises AppError DEAL_NOT_FOUND, INSUFFICIENT_PERMISSIONS, STAGE_ROLLBACK_FORBIDDEN, VERSION_CONFLICT, or as
    `create`.
    """
    row = await DEALS.get_for_update(tx, deal_id)
    values = await prepare_change(tx, row, data.given(), Pipeline(tx), rollback_roles)
    changed = differing(row, values)
    await DEALS.check_references(tx, changed)
    if changed.keys() & {"customer_id", "contact_id"}:
        after = dict(row) | changed
        await check_contact(tx, after["contact_id"], after["customer_id"])
    return await DEALS.update(tx, row, values)


async def prepare_change(
    tx: Transaction, row: RowMapping, values: dict[str, Any], pipeline: Pipeline, rollback_roles: tuple[str, ...]
) -> dict[str, Any]:
    """What such a change stores in the deal, once its references are checked. Raises AppError as `apply`."""
    DEALS.check_owner(tx, row, values)
    after = dict(row) | values
    if (after["amount"], after["currency"]) != (row["amount"], row["currency"]):
        _check_amount(after["amount"], after["currency"])
    if values.keys() & {"stage", *NO_CLOSING} or after["amount"] != row["amount"]:
        name = values.pop("stage", None)
        values |= await _staged(tx, row, name, values, after["amount"], pipeline, rollback_roles)
    return values


async def require_move(tx: Transaction, here: int, to: int, rollback_roles: tuple[str, ...]) -> None:
    """Raise AppError STAGE_ROLLBACK_FORBIDDEN unless this person may move a deal between stages of these ids."""
    pipeline = Pipeline(tx)
    present, following = [await pipeline.of_id(stage_id) for stage_id in (here, to)]
    _require_move(tx, present, following, rollback_roles)


async def check_put_back(tx: Transaction, deal: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Raise AppError if a deal breaks a rule, now that these fields have the values that they had before."""
    if fields.keys() & {"customer_id", "contact_id"}:
        await check_contact(tx, deal["contact_id"], deal["customer_id"])
    if fields.keys() & {"stage_id", "amount", "currency"}:
        amount = Decimal(deal["amount"])
        _check_amount(amount, deal["currency"])
        _require_amount(await Pipeline(tx).of_id(deal["stage_id"]), amount)


async def _staged(
    tx: Transaction,
    row: RowMapping,
    name: str | None,
    given: dict[str, Any],
    amount: Decimal,
    pipeline: Pipeline,
    rollback_roles: tuple[str, ...],
) -> dict[str, Any]:
    """What follows from a move to the named stage, or from staying: its present stage is not a move."""
    here = await pipeline.of_id(row["stage_id"])
    moves = name is not None and name != here["name"]
    to = await pipeline.named(name) if name is not None and moves else here
    if moves:
        _require_move(tx, here, to, rollback_roles)
    if moves or amount != row["amount"]:
        _require_amount(to, amount)
    follows = _closing(here["kind"] if moves else None, to["kind"], dict(row), given)
    if moves:
        follows["stage_id"] = to["id"]
        if "probability" not in given:
            follows["probability"] = to["probability"]
    return follows


def _closing(before: str | None, after: str, present: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The closing date and the reason of a loss, after a move from a stage of the kind `before` to one of the kind
    `after`; `before` is None if the deal stays. Values that are sent back as they were read do not count as given, and
    neither does null: a closed deal keeps its closing date.

    Raises AppError for those that do not go with the stage.
    """
    news = {name: given[name] for name in NO_CLOSING if given.get(name) not in {None, present[name]}}
    faults = []
    if after == OPEN and "actual_close_date" in news:
        faults.append(Fault("actual_close_date", "is only of a deal that is closed"))
    if after != LOST and "lost_reason" in news:
        faults.append(Fault("lost_reason", "is only of a deal that is lost"))
    if faults:
        raise invalid(*faults)
    if before is None:
        return {"actual_close_date": news.get("actual_close_date", present["actual_close_date"])}
    closing = dict(NO_CLOSING)
    if after != OPEN:
        closed_at = datetime.now(UTC) if before == OPEN else present["actual_close_date"]
        closing["actual_close_date"] = news.get("actual_close_date", closed_at)
    if after == LOST:
        closing["lost_reason"] = given.get("lost_reason", present["lost_reason"])
    return closing


def _require_move(tx: Transaction, here: RowMapping, to: RowMapping, rollback_roles: tuple[str, ...]) -> None:
    if (here["kind"] != OPEN or to["order"] < here["order"]) and tx.actor.role not in rollback_roles:
        raise AppError(Code.STAGE_ROLLBACK_FORBIDDEN)


def _require_amount(stage: RowMapping, amount: Decimal) -> None:
    if stage["kind"] == "won" and amount <= 0:
        raise bad_field(Code.WON_NEEDS_AMOUNT, "amount")


class Pipeline:
    """The tenant's stages and currency, for a transaction that reads each once, when it is needed."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._known: dict[Any, RowMapping] = {}
        self._currency: str | None = None

    async def of_id(self, stage_id: int) -> RowMapping:
        """The stage of this id, active or not."""
        return await self._find(STAGE_BY_ID, stage_id=stage_id)

    async def named(self, name: str) -> RowMapping:
        """The active stage of this name, which stays until the transaction ends. Raises AppError INVALID_STAGE."""
        return await self._find(STAGE_BY_NAME, name=name)

    async def first_open(self) -> RowMapping:
        """The stage of a new deal, which stays until the transaction ends."""
        return await self._find(FIRST_OPEN_STAGE)

    async def default_currency(self) -> str:
        """The currency of a deal that names none."""
        if self._currency is None:
            self._currency = str((await self._tx.connection.execute(DEFAULT_CURRENCY)).scalar_one())
        return self._currency

    async def _find(self, statement: Select[Any], **parameters: Any) -> RowMapping:
        key = (statement, *parameters.values())
        if key not in self._known:
            found: RowMapping | None = (
                (await self._tx.connection.execute(statement, parameters)).mappings().one_or_none()
            )
            if found is None:
                raise bad_field(Code.INVALID_STAGE, "stage")
            self._known[key] = found
        return self._known[key]


def _check_amount(amount: Decimal, currency: str) -> None:
    decimals = currency_decimals(currency) or 0
    if amount != round(amount, decimals):
        raise invalid(Fault("amount", f"has more than the {decimals} decimals of {currency}"))
