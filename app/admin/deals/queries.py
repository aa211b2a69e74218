"""Deals as the database reads them."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sqlalchemy import ColumnElement, and_, any_, bindparam, cast, func, literal_column, not_, select
from sqlalchemy.types import BigInteger, Text

from app.admin.activities import queries as activities
from app.admin.activities.schemas import Activity
from app.admin.deals.schemas import Deal, DealDetail, DealQuery, StageMove
from app.admin.nested import contact_of, customer_of
from app.admin.notes import queries as notes
from app.admin.notes.schemas import Note
from app.models import Customer, PipelineStage
from app.models import Deal as Row
from app.models import StageMove as Move
from app.money import AMOUNT_LIMIT, STORED_DECIMALS
from app.records import resources
from app.records.calendar import at_midnight, lower_bound
from app.records.counts import FACET
from app.records.filters import (
    Filter,
    at_least,
    at_most,
    found_in,
    leading_to,
    matching,
    one_of,
    since,
    until,
    user_in,
)
from app.records.json_columns import Columns, labelled, nested_rows, newest_rows, selected, view_columns
from app.records.listing import Listing
from app.records.sorting import by_group
from app.records.trash_repository import TrashRepository
from app.web.paging import SortOrder

c = Row.__table__.c
move = Move.__table__.c
customer = Customer.__table__.c
stages = PipelineStage.__table__
stage = stages.c
SMALLEST_PARTS: int = 10**STORED_DECIMALS


def _of_stage(column: str, reference: ColumnElement[Any]) -> ColumnElement[Any]:
    """A column of the stage that a reference leads to."""
    one = PipelineStage.__table__.alias()
    return select(one.c[column]).where(one.c.tenant_id == c.tenant_id, one.c.id == reference).scalar_subquery()


def stage_name(reference: ColumnElement[Any]) -> ColumnElement[str]:
    """The name of the stage that a reference leads to."""
    one = PipelineStage.__table__.alias()
    return select(one.c.name).where(one.c.id == reference).scalar_subquery()


def stage_at(index: int) -> ColumnElement[int]:
    """The stage at an index of the pipeline, from 0."""
    one = PipelineStage.__table__.alias()
    return (
        select(one.c.id).order_by(one.c.order, one.c.id).offset(literal_column(str(index))).limit(1).scalar_subquery()
    )


def _order_of(amount: Decimal) -> Fraction:
    """The `amount_order` of an amount."""
    return Fraction(amount) * SMALLEST_PARTS - Fraction(AMOUNT_LIMIT * SMALLEST_PARTS, 2)


IS_OPEN: ColumnElement[bool] = _of_stage("kind", c.stage_id) == "open"
COLUMNS = view_columns(
    Deal,
    Row.__table__,
    stage=_of_stage("name", c.stage_id),
    status=_of_stage("kind", c.stage_id),
    amount=func.trim_scale(c.amount, type_=c.amount.type),
    customer=customer_of(c.customer_id),
    contact=contact_of(c.contact_id),
)
DEALS = TrashRepository(resources.DEALS, Deal, COLUMNS)
# Also the name of a customer that the person does not see: a deal shows it, so a search finds it. The first line of
# what is searched of a customer is the folded name.
_folded_name = func.split_part(customer.search_folded, literal_column(r"E'\n'"), literal_column("1"))
CUSTOMER_FOLDED = func.coalesce(
    select(_folded_name).where(customer.id == c.customer_id).scalar_subquery(),
    func.crm_fold_search(func.crm_customer_name(c.customer_id)),
    type_=Text,
)


def _idle(name: str, _: str) -> ColumnElement[bool]:
    """Whether neither the deal nor one of its activities or notes was made or changed since then."""
    moment = bindparam(name, type_=c.updated_at.type)
    changed = (
        select(each.id).where(each.deal_id == c.id, each.deleted_at.is_(None), each.updated_at >= moment).correlate(Row)
        for each in (activities.c, notes.c)
    )
    # A deal is not older than its last change. Said here, it keeps a list by creation from reading all newer ones.
    return and_(c.updated_at < moment, c.created_at < moment, *(not_(each.exists()) for each in changed))


DOCUMENT = func.crm_fold_search(c.title, type_=Text) + literal_column(r"E'\n'", Text) + CUSTOMER_FOLDED
LISTING = Listing.of(
    DEALS,
    DealQuery,
    filters={
        "stage": leading_to(c.stage_id, stage.id, stage.name),
        "status": matching(lambda kinds: c.stage_id.in_(select(stage.id).where(stage.kind == any_(kinds)))),
        "owner_id": user_in(c.owner_id),
        "customer_id": one_of(c.customer_id),
        "currency": one_of(c.currency),
        "external_id": one_of(c.external_id),
        "search": found_in("deals", DOCUMENT),
        "amount_min": at_least(c.amount_order, lambda amount: math.ceil(_order_of(amount))),
        "amount_max": at_most(c.amount_order, lambda amount: math.floor(_order_of(amount))),
        "expected_close_from": since(c.expected_close_date, at_midnight(c.expected_close_date)),
        "expected_close_to": until(c.expected_close_date, at_midnight(c.expected_close_date)),
        "created_from": since(c.created_at),
        "created_to": until(c.created_at),
        "idle_since": Filter(_idle, lambda value, _: ("", value), lower_bound),
    },
    sorts={
        "title": c.title_folded,
        "amount": c.amount_order,
        "stage": by_group(lambda index: c.stage_id == stage_at(index), select(func.count()).select_from(stages)),
    },
    default_sort=("created_at", SortOrder.DESC),
    series="deals.created",
    facets={
        "stage": leading_to(FACET, cast(stage.id, Text), stage.name),
        "status": matching(lambda kinds: FACET.in_(select(cast(stage.id, Text)).where(stage.kind == any_(kinds)))),
    },
)

# On a deal's page.
MOST_NESTED = 50
MOST_MOVES = 1000
_seconds = cast(func.floor(func.extract("epoch", move.left_at - move.entered_at)), BigInteger)
MOVES = view_columns(
    StageMove,
    Move.__table__,
    from_stage=stage_name(move.from_stage_id),
    to_stage=stage_name(move.to_stage_id),
    seconds=_seconds,
)
_moves = (
    select(*labelled(MOVES))
    .where(move.deal_id == c.id)
    .order_by(move.id.desc())
    .limit(MOST_MOVES)
    .correlate(Row)
    .subquery("moves")
)
DETAILS: Columns = {
    "activities": newest_rows(
        select(*labelled(activities.COLUMNS))
        .where(activities.c.deal_id == c.id, activities.c.deleted_at.is_(None))
        .correlate(Row),
        Activity,
        MOST_NESTED,
    ),
    "notes": newest_rows(
        select(*labelled(notes.COLUMNS)).where(notes.c.deal_id == c.id, notes.c.deleted_at.is_(None)).correlate(Row),
        Note,
        MOST_NESTED,
    ),
    "stage_history": nested_rows(select(_moves).order_by(_moves.c.id), StageMove),
}
DETAIL = select(*selected({name: (COLUMNS | DETAILS)[name] for name in DealDetail.__struct_fields__})).where(
    c.id == bindparam("deal_id"), c.deleted_at.is_(None)
)
