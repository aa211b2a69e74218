"""The rules of webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Select, bindparam, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from app.admin.webhooks.queries import WEBHOOKS, get_delivery
from app.admin.webhooks.schemas import MOST_REPLAYED, Delivery, ReplayRange, Webhook, WebhookCreate
from app.crypto.keys import Keys
from app.events import feed
from app.events.webhooks import deliveries
from app.events.webhooks.deliveries import Receiver
from app.events.webhooks.signing import SECRET, new_secret
from app.models import Webhook as Row
from app.models import WebhookState
from app.records.transaction import Transaction
from app.settings import Settings
from app.web.addresses import Addresses, RefusedAddressError
from app.web.errors import AppError, Code, Fault, bad_field, invalid

# For so long after a new secret, deliveries are signed with the one before, too.
BOTH_HOURS = 24

c = Row.__table__.c
state = WebhookState.__table__.c
BEGIN = insert(WebhookState).values(
    {name: bindparam(name) for name in ("tenant_id", "webhook_id", "secret")} | {"place": feed.NEWEST.scalar_subquery()}
)
# What is encrypted stays bound to its row. A webhook whose deletion was undone may have no state any more.
ROTATE = BEGIN.on_conflict_do_update(
    index_elements=["tenant_id", "webhook_id"],
    set_={
        "secret": bindparam("secret"),
        "previous_secret": state.secret,
        "previous_until": func.now() + timedelta(hours=BOTH_HOURS),
    },
)
RECEIVER: Select[Any] = (
    select(c.id, c.url, state.secret, state.previous_secret, state.failing_since, state.previous_until > func.now())
    .join_from(Row, WebhookState, (state.tenant_id == c.tenant_id) & (state.webhook_id == c.id), isouter=True)
    .where(c.id == bindparam("webhook_id"))
)


async def check_url(addresses: Addresses, settings: Settings, url: str) -> None:
    """Raise AppError WEBHOOK_URL_REFUSED unless the service may call this address. It asks the network: not within a
    transaction.
    """
    try:
        await addresses.check_url(url, https_only=settings.production)
    except RefusedAddressError as error:
        raise bad_field(Code.WEBHOOK_URL_REFUSED, "url", str(error)) from None


async def create(tx: Transaction, data: WebhookCreate, keys: Keys) -> tuple[Webhook, str]:
    """A new webhook, and its secret. Raises AppError LIMIT_REACHED, or SERVICE_UNAVAILABLE without a key."""
    webhook = await WEBHOOKS.create(tx, data.given())
    return webhook, await _new_secret(tx, webhook.id, keys, BEGIN)


async def rotate_secret(tx: Transaction, webhook_id: int, keys: Keys) -> tuple[Webhook, str]:
    """The webhook and its new secret. Raises AppError WEBHOOK_NOT_FOUND, or SERVICE_UNAVAILABLE without a key."""
    await WEBHOOKS.apply(tx, webhook_id, {"secret_changed_at": datetime.now(UTC)})
    secret = await _new_secret(tx, webhook_id, keys, ROTATE)
    return await WEBHOOKS.get(tx, webhook_id), secret


async def _new_secret(tx: Transaction, webhook_id: int, keys: Keys, statement: Any) -> str:
    secret = new_secret()
    tenant = tx.actor.tenant_id
    encrypted = keys.encrypt(secret, SECRET, tenant, webhook_id)
    await tx.connection.execute(statement, {"tenant_id": tenant, "webhook_id": webhook_id, "secret": encrypted})
    return secret


async def remove(tx: Transaction, webhook_id: int) -> None:
    """Delete a webhook. Its deliveries are seen no more, and go bit by bit. Raises AppError
    WEBHOOK_NOT_FOUND or VERSION_CONFLICT.
    """
    await WEBHOOKS.get_for_update(tx, webhook_id)
    await tx.connection.execute(delete(Row).where(c.id == webhook_id))


async def check_put_back(_: Transaction, __: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Raise AppError CHANGED_SINCE if a secret should come back: nobody has it any more."""
    if "secret_changed_at" in fields:
        raise AppError(Code.CHANGED_SINCE, "A secret that was replaced does not come back", data={"fields": []})


async def receiver(tx: Transaction, webhook_id: int) -> Receiver:
    """What it takes to send something to a webhook. Raises AppError WEBHOOK_NOT_FOUND."""
    row = (await tx.connection.execute(RECEIVER, {"webhook_id": webhook_id})).one_or_none()
    if row is None:
        raise WEBHOOKS.not_found()
    return Receiver(*row)


async def redeliver(tx: Transaction, webhook_id: int, delivery_id: int) -> Delivery:
    """Let a delivery be sent again at once.

    Raises AppError WEBHOOK_NOT_FOUND, DELIVERY_NOT_FOUND or WEBHOOK_INACTIVE.
    """
    webhook = await WEBHOOKS.get(tx, webhook_id)
    await get_delivery(tx, webhook_id, delivery_id)
    _require_active(webhook)
    await tx.connection.execute(deliveries.REDELIVER, {"of": webhook_id, "delivery_id": delivery_id})
    return await get_delivery(tx, webhook_id, delivery_id)


async def replay(tx: Transaction, webhook_id: int, data: ReplayRange) -> int:
    """Let what is between two sequences be sent again; returns how many events.

    Raises AppError WEBHOOK_NOT_FOUND, WEBHOOK_INACTIVE, HISTORY_CUT, or a 400 for a wrong order or too many.
    """
    if data.before <= data.after:
        raise invalid(Fault("before", "must be above `after`"))
    webhook = await WEBHOOKS.get(tx, webhook_id)
    newest = await feed.newest(tx)
    until = min(data.before - 1, newest)
    if until - data.after > MOST_REPLAYED:
        raise invalid(Fault("before", f"must be at most {MOST_REPLAYED + 1} above `after`: replay in parts"))
    _require_active(webhook)
    await feed.require_kept(tx, data.after)
    given = {"webhooks": [webhook_id], "after": data.after, "until": until}
    return len(list(await tx.connection.execute(deliveries.REPLAY, given)))


def _require_active(webhook: Webhook) -> None:
    if not webhook.is_active:
        raise AppError(Code.WEBHOOK_INACTIVE)
