"""Webhooks and their deliveries as the database reads them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ARRAY, Select, Text, any_, bindparam, case, func, literal_column, null, select, type_coerce

from app.admin.webhooks.schemas import Delivery, DeliveryQuery, Webhook
from app.events.types import matching
from app.events.webhooks.attempts import Attempt
from app.models import Webhook as Row
from app.models import WebhookDelivery, WebhookState
from app.records import resources
from app.records.filters import Filter, one_of, since, until
from app.records.json_columns import JsonColumn, selected, view_columns
from app.records.listing import Listing
from app.records.repository import Repository
from app.records.transaction import Transaction
from app.web.errors import AppError, Code
from app.web.paging import Everything, SortOrder

c = Row.__table__.c
state = WebhookState.__table__.c
delivery = WebhookDelivery.__table__.c

_failing_since = (
    select(state.failing_since)
    .where(state.tenant_id == c.tenant_id, state.webhook_id == c.id)
    .scalar_subquery()
    .label(None)
)
COLUMNS = view_columns(
    Webhook, Row.__table__, secret=type_coerce(null(), Text).label(None), failing_since=_failing_since
)
WEBHOOKS = Repository(resources.WEBHOOKS, Webhook, COLUMNS)
ALL: Select[Any] = select(*selected(COLUMNS)).order_by(c.id)
DELIVERY_COLUMNS = view_columns(
    Delivery,
    WebhookDelivery.__table__,
    message_id=func.concat("msg_", delivery.webhook_id, "_", delivery.sequence).label(None),
    attempts=JsonColumn(delivery.attempts, list[Attempt]),
    next_attempt_at=case((delivery.status == literal_column("'pending'"), delivery.due_at)).label(None),
)
DELIVERIES = Listing(
    "webhook_deliveries",
    Delivery,
    DELIVERY_COLUMNS,
    WebhookDelivery.__table__,
    key=delivery.id,
    query=DeliveryQuery,
    filters={
        "status": one_of(delivery.status),
        "type": Filter(
            lambda name, _: delivery.type == any_(bindparam(name, type_=ARRAY(Text))),
            lambda patterns, _: ("", matching(patterns)),
        ),
        "from_": since(delivery.created_at),
        "to": until(delivery.created_at),
    },
    scope={"webhook_id": one_of(delivery.webhook_id)},
    default_sort=("created_at", SortOrder.DESC),
)
ONE_DELIVERY: Select[Any] = select(*selected(DELIVERY_COLUMNS)).where(
    delivery.webhook_id == bindparam("webhook_id"), delivery.id == bindparam("delivery_id")
)


async def list_all(tx: Transaction) -> Everything[Webhook]:
    """Every webhook of the tenant, the oldest first."""
    webhooks = [Webhook(*row) for row in await tx.connection.execute(ALL)]
    return Everything(webhooks, len(webhooks))


async def get_delivery(tx: Transaction, webhook_id: int, delivery_id: int) -> Delivery:
    """Raises AppError DELIVERY_NOT_FOUND."""
    given = {"webhook_id": webhook_id, "delivery_id": delivery_id}
    row = (await tx.connection.execute(ONE_DELIVERY, given)).one_or_none()
    if row is None:
        raise AppError(Code.DELIVERY_NOT_FOUND)
    return Delivery(*row)
