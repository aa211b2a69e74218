"""Deliveries as the database keeps them: they are made from events, taken by who sends them, and get their results.

Whatever runs here is one tenant's, in a short transaction: nobody waits for the network in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from msgspec import Struct, to_builtins
from sqlalchemy import ARRAY, Select, any_, bindparam, func, select, text, true, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.types import BigInteger

from app.db.database import Database
from app.events import feed
from app.events.types import TYPES, patterns_of
from app.events.webhooks.attempts import Attempt
from app.events.webhooks.metrics import OLDEST, PENDING
from app.models import AuditEntry, AuditSeal, Webhook, WebhookDelivery, WebhookState

# So many events get their deliveries in one transaction.
EVENTS_AT_ONCE = 1000
PRUNED_AT_ONCE = 500
KEPT_DAYS = 30
# A delivery that somebody took and did not finish is due again after this time.
CLAIM_SECONDS = 45.0
# Of one webhook, so many are looked at to take some of them. More than are taken at a time.
LOOKED_AT = 400
# A delivery that is sent again and again keeps the newest.
KEPT_ATTEMPTS = 25

entry = AuditEntry.__table__.c
seal = AuditSeal.__table__.c
hook = Webhook.__table__.c
state = WebhookState.__table__.c
delivery = WebhookDelivery.__table__.c

BEHIND = text("SELECT crm_webhooks_behind()")
DUE = text("SELECT tenant_id, webhook_id FROM crm_webhooks_due()")
TEND = text("SELECT pending, oldest FROM crm_tend_webhooks()")
PRUNE = text("SELECT crm_prune_webhooks(:days, :most)")

_webhooks = any_(bindparam("webhooks", type_=ARRAY(BigInteger)))
_after, _until = (bindparam(name, type_=BigInteger) for name in ("after", "until"))
_typed = (
    select(TYPES.label("types"), entry.resource_type, entry.resource_id)
    .where(entry.tenant_id == seal.tenant_id, entry.id == seal.entry_id)
    .limit(1)  # so that entries are found by their ids, however many there are
    .lateral("typed")
)
# Each event once, since its types take time to find out.
_events = (
    select(seal.sequence, *_typed.c)
    .join_from(AuditSeal, _typed, true())
    .where(seal.sequence > _after, seal.sequence <= _until)
    .cte("events")
    .prefix_with("MATERIALIZED")
)
_named = select(_events, patterns_of(_events.c.types).label("patterns")).cte("named").prefix_with("MATERIALIZED")
_NEW = ["tenant_id", "webhook_id", "sequence", "type", "resource_type", "resource_id"]
_matching: Select[Any] = (
    select(hook.tenant_id, hook.id, _named.c.sequence, _named.c.types[1], _named.c.resource_type, _named.c.resource_id)
    .where(hook.id == _webhooks, hook.types.overlap(_named.c.patterns))
    .order_by(_named.c.sequence)
)
# Whoever holds a webhook's state is the only one who makes deliveries of it, or takes them.
HOLD_ALL: Select[Any] = select(state.webhook_id, state.place).with_for_update(skip_locked=True)
MAKE = (
    insert(WebhookDelivery)
    .from_select(
        _NEW,
        _matching.join_from(
            Webhook, WebhookState, (state.tenant_id == hook.tenant_id) & (state.webhook_id == hook.id)
        ).where(hook.is_active, state.place < _named.c.sequence),
    )
    .on_conflict_do_nothing()
)
# One that is switched off moves on, too: once it is on again, it gets what happens from then on.
MOVE_ON = update(WebhookState).where(state.webhook_id == _webhooks, state.place < _until).values(place=_until)
# All of the events once more. The attempts so far are kept.
REPLAY = (
    insert(WebhookDelivery)
    .from_select(_NEW, _matching)
    .on_conflict_do_update(
        index_elements=["tenant_id", "webhook_id", "sequence"],
        set_={"status": "pending", "tries": 0, "in_order": True, "due_at": func.now(), "finished_at": None}
        | {"claims": delivery.claims + 1, "claimed_until": None},
    )
    .returning(delivery.id)
)
REDELIVER = (
    update(WebhookDelivery)
    .where(delivery.webhook_id == bindparam("of"), delivery.id == bindparam("delivery_id"))
    .values(status="pending", tries=0, in_order=False, due_at=func.now(), finished_at=None)
    .values(claims=delivery.claims + 1, claimed_until=None)
    .returning(delivery.id)
)
HOLD: Select[Any] = (
    select(hook.id, hook.url, state.secret, state.previous_secret, state.failing_since)
    .add_columns(state.previous_until > func.now())
    .join_from(Webhook, WebhookState, (state.tenant_id == hook.tenant_id) & (state.webhook_id == hook.id))
    .where(hook.id == _webhooks, hook.is_active)
    .with_for_update(of=WebhookState, skip_locked=True)
)
# A later event of a record waits while somebody makes the first attempt for an earlier one. Where nobody does, both
# come together, in order. Of a webhook with much to send, only the beginning is looked at: what is taken is there.
CLAIM = text("""
    WITH beginning AS MATERIALIZED (
        SELECT delivery.*, room, coalesce(claimed_until > now(), false) AS is_taken
        FROM unnest(CAST(:webhooks AS bigint[]), CAST(:rooms AS bigint[])) AS webhook (id, room)
        CROSS JOIN LATERAL (
            SELECT id, webhook_id, sequence, resource_type, resource_id, in_order, due_at, claimed_until
            FROM webhook_deliveries WHERE webhook_id = webhook.id AND status = 'pending' AND due_at <= now()
            ORDER BY due_at, sequence LIMIT :looked_at
        ) AS delivery
    ), chosen AS (
        SELECT id FROM (
            SELECT id, room, row_number() OVER (PARTITION BY webhook_id ORDER BY due_at, sequence) AS place
            FROM beginning AS delivery
            WHERE NOT is_taken AND NOT EXISTS (
                SELECT FROM beginning AS earlier
                WHERE earlier.is_taken AND earlier.in_order AND earlier.webhook_id = delivery.webhook_id
                    AND earlier.resource_type = delivery.resource_type AND earlier.resource_id = delivery.resource_id
                    AND earlier.sequence < delivery.sequence
            )
        ) AS free WHERE place <= room
    )
    UPDATE webhook_deliveries AS delivery
    SET claimed_until = now() + make_interval(secs => :seconds), claims = claims + 1
    FROM chosen WHERE delivery.id = chosen.id
    RETURNING delivery.id, webhook_id, sequence, resource_type, resource_id, tries, claims
""")
KEEP = text("""
    UPDATE webhook_deliveries AS delivery SET
        status = result.status, in_order = false, tries = tries + 1, claimed_until = NULL,
        attempts = CASE WHEN jsonb_array_length(attempts) < :kept THEN attempts ELSE attempts - 0 END
            || jsonb_build_array(result.attempt),
        due_at = CASE WHEN result.status = 'pending' THEN now() + make_interval(secs => result.pause) ELSE due_at END,
        finished_at = CASE WHEN result.status <> 'pending' THEN now() END
    FROM jsonb_to_recordset(:results) AS result (id bigint, claims integer, status text, attempt jsonb, pause float8)
    WHERE delivery.id = result.id AND delivery.claims = result.claims AND delivery.status = 'pending'
""").bindparams(bindparam("results", type_=JSONB))
GIVE_BACK = text("""
    UPDATE webhook_deliveries AS delivery SET claimed_until = NULL
    FROM unnest(CAST(:ids AS bigint[]), CAST(:claims AS integer[])) AS taken (id, claims)
    WHERE delivery.id = taken.id AND delivery.claims = taken.claims AND delivery.status = 'pending'
""")
NOTE_SUCCESS = update(WebhookState).where(state.webhook_id == _webhooks, state.failing_since.is_not(None))
NOTE_SUCCESS = NOTE_SUCCESS.values(failing_since=None)
NOTE_FAILURE = update(WebhookState).where(state.webhook_id == _webhooks, state.failing_since.is_(None))
NOTE_FAILURE = NOTE_FAILURE.values(failing_since=func.now())
# It begins anew if somebody switches it on again.
SWITCH_OFF = text("""
    WITH given_up AS (
        UPDATE webhook_states SET failing_since = NULL
        WHERE webhook_id = ANY (CAST(:gone AS bigint[])) OR webhook_id = ANY (CAST(:failing AS bigint[]))
            AND failing_since < now() - make_interval(secs => :patience)
        RETURNING webhook_id
    )
    UPDATE webhooks SET is_active = false FROM given_up WHERE id = webhook_id AND is_active RETURNING id
""")


class Receiver(NamedTuple):
    """A webhook as who sends needs it. Its secrets are encrypted."""

    webhook_id: int
    url: str
    secret: bytes | None
    previous_secret: bytes | None
    failing_since: datetime | None
    signs_with_both: bool | None


class Taken(Struct):
    """A delivery that this worker has taken, to send it."""

    id: int
    webhook_id: int
    sequence: int
    resource_type: str
    resource_id: int
    tries: int
    claims: int


class Result(Struct):
    """What came of an attempt. One that is `pending` is tried again after the pause."""

    id: int
    claims: int
    status: str
    attempt: Attempt
    pause: float


async def tenants_behind(database: Database) -> list[str]:
    """The tenants that have events which are on their way to nobody yet. Raises AppError."""
    async with database.maintenance() as session:
        return [tenant for (tenant,) in await session.execute(BEHIND)]


async def make(database: Database, tenant_id: str) -> None:
    """Make the deliveries of the tenant's next events. Raises AppError."""
    async with database.in_tenant(tenant_id) as session:
        held = list(await session.execute(HOLD_ALL))
        if not held:
            return
        newest = int((await session.execute(feed.NEWEST)).scalar_one())
        after = min(place for _, place in held)
        given = {
            "webhooks": [webhook for webhook, _ in held],
            "after": after,
            "until": min(newest, after + EVENTS_AT_ONCE),
        }
        if after < newest:
            await session.execute(MAKE, given)
            await session.execute(MOVE_ON, {name: given[name] for name in ("webhooks", "until")})


async def due(database: Database) -> Mapping[str, list[int]]:
    """The webhooks of each tenant for which something is due. Raises AppError."""
    async with database.maintenance() as session:
        found: dict[str, list[int]] = defaultdict(list)
        for tenant, webhook in await session.execute(DUE):
            found[tenant].append(webhook)
        return found


async def take(database: Database, tenant_id: str, rooms: Mapping[int, int]) -> tuple[dict[int, Receiver], list[Taken]]:
    """Take what is due, of each of these webhooks so many at most. What another worker looks at now is left to it.

    Raises AppError.
    """
    async with database.in_tenant(tenant_id) as session:
        receivers = {row[0]: Receiver(*row) for row in await session.execute(HOLD, {"webhooks": list(rooms)})}
        if not receivers:
            return {}, []
        given = {"webhooks": list(receivers), "rooms": [rooms[webhook] for webhook in receivers]}
        rows = await session.execute(CLAIM, given | {"seconds": CLAIM_SECONDS, "looked_at": LOOKED_AT})
        return receivers, [Taken(*row) for row in rows]


async def keep(
    database: Database,
    tenant_id: str,
    results: Sequence[Result],
    delivered: Iterable[int],
    failed: Iterable[int],
    gone: Iterable[int],
    patience: timedelta,
) -> list[int]:
    """Keep what came of attempts; answers the webhooks that are switched off. Raises AppError."""
    succeeding, failing = set(delivered), set(failed) - set(delivered)
    off: list[int] = []
    async with database.in_tenant(tenant_id) as session:
        # States are locked before deliveries, as an erasure does it.
        if succeeding:
            await session.execute(NOTE_SUCCESS, {"webhooks": sorted(succeeding)})
        if failing:
            await session.execute(NOTE_FAILURE, {"webhooks": sorted(failing)})
            given = {"gone": sorted(gone), "failing": sorted(failing), "patience": patience.total_seconds()}
            off = [webhook for (webhook,) in await session.execute(SWITCH_OFF, given)]
        await session.execute(KEEP, {"results": to_builtins(results), "kept": KEPT_ATTEMPTS})
    return off


async def give_back(database: Database, tenant_id: str, taken: Sequence[Taken]) -> None:
    """What was taken and not sent is due again. Raises AppError."""
    async with database.in_tenant(tenant_id) as session:
        await session.execute(
            GIVE_BACK, {"ids": [each.id for each in taken], "claims": [each.claims for each in taken]}
        )


async def tend(database: Database) -> None:
    """Tell monitors how many deliveries wait. Raises AppError."""
    async with database.maintenance() as session:
        pending, oldest = (await session.execute(TEND)).one()
    PENDING.set(pending)
    OLDEST.set(oldest)


async def prune_webhooks(database: Database) -> int:
    """Delete some of the deliveries that are kept long enough; returns how many. Raises AppError."""
    async with database.maintenance() as session:
        given = {"days": KEPT_DAYS, "most": PRUNED_AT_ONCE}
        return int((await session.execute(PRUNE, given)).scalar_one())
