"""/admin/webhooks."""

from datetime import UTC, datetime
from uuid import uuid4

from litestar import Response, delete, get, post, route
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.types import Guard
from msgspec import UNSET
from msgspec.structs import replace

from app.access.permissions import Permission, Requires, by_a_person
from app.admin.audit.schemas import AuditEntry, VersionQuery
from app.admin.history import service as history
from app.admin.history.schemas import AsOf, EntryUndo
from app.admin.http import CHANGES, answer, list_page, message, refuse_dry_run, transaction
from app.admin.webhooks import queries, service
from app.admin.webhooks.queries import WEBHOOKS
from app.admin.webhooks.schemas import (
    Delivery,
    DeliveryQuery,
    Replayed,
    ReplayRange,
    Webhook,
    WebhookChange,
    WebhookCreate,
    WebhookTest,
)
from app.events.webhooks.sender import NO_SECRET, secrets_of
from app.events.webhooks.signing import signed
from app.web import strict_json
from app.web.errors import AppError, Code
from app.web.input import CrmRequest
from app.web.paging import Everything, Page
from app.web.routing import Routes
from app.web.structs import Message, RecordId

# Who sees what is sent sees everything.
ADMINS = Requires(Permission.CONFIGURE)
# Programs with an access token send nothing elsewhere.
PEOPLE: list[Guard] = [ADMINS, by_a_person]


@get("/", guards=[ADMINS])
async def list_webhooks(request: CrmRequest) -> Response[Everything[Webhook]]:
    """Every webhook, the oldest first."""
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await queries.list_all(tx))


@post("/", guards=PEOPLE)
async def create_webhook(request: CrmRequest, data: JSONBody[WebhookCreate]) -> Response[Webhook]:
    """Send events of some types to an address. The answer has the secret that signs them: keep it, it is shown once."""
    state = request.app.state
    async with transaction(request, ahead=True):
        pass  # an answer that is kept needs no look at the network
    await service.check_url(state.addresses, state.settings, data.url)
    async with transaction(request) as tx:
        webhook, secret = await service.create(tx, data, state.encryption)
        return answer(tx, replace(webhook, secret=secret), 201, kept=webhook)


@get("/{webhook_id:str}", guards=[ADMINS])
async def get_webhook(
    request: CrmRequest, webhook_id: FromPath[RecordId], filters: NamedDependency[AsOf]
) -> Response[Webhook]:
    """One webhook, without its secret."""
    if filters.as_of is not UNSET:
        return await history.as_of(request, WEBHOOKS, webhook_id, filters.as_of)
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await WEBHOOKS.get(tx, webhook_id))


@route("/{webhook_id:str}", http_method=CHANGES, guards=PEOPLE)
async def change_webhook(
    request: CrmRequest, webhook_id: FromPath[RecordId], data: JSONBody[WebhookChange]
) -> Response[Webhook]:
    """Change the fields that are present. One that is switched on again gets what happens from then on."""
    if data.url is not UNSET:
        async with transaction(request, ahead=True) as tx:
            before = await WEBHOOKS.get(tx, webhook_id)
        if data.url != before.url:
            await service.check_url(request.app.state.addresses, request.app.state.settings, data.url)
    async with transaction(request) as tx:
        return answer(tx, await WEBHOOKS.change(tx, webhook_id, data.given()))


@delete("/{webhook_id:str}", guards=PEOPLE, status_code=200)
async def delete_webhook(request: CrmRequest, webhook_id: FromPath[RecordId]) -> Response[Message]:
    """Delete a webhook, with its deliveries."""
    async with transaction(request) as tx:
        await service.remove(tx, webhook_id)
        return message(tx, "Webhook deleted successfully")


@get("/{webhook_id:str}/versions", guards=[ADMINS])
async def list_webhook_versions(
    request: CrmRequest, webhook_id: FromPath[RecordId], filters: NamedDependency[VersionQuery]
) -> Response[Page[AuditEntry]]:
    """Every change of a webhook, newest first."""
    return await history.versions(request, WEBHOOKS, webhook_id, filters)


@post("/{webhook_id:str}/undo", guards=PEOPLE, status_code=200)
async def undo_webhook_change(
    request: CrmRequest, webhook_id: FromPath[RecordId], data: JSONBody[EntryUndo]
) -> Response[Webhook]:
    """Take one change back. What was changed again since is 409 CHANGED_SINCE. A secret does not come back."""
    return await history.undo(request, WEBHOOKS, webhook_id, data)


@post("/{webhook_id:str}/rotate-secret", guards=PEOPLE, status_code=200)
async def rotate_webhook_secret(request: CrmRequest, webhook_id: FromPath[RecordId]) -> Response[Webhook]:
    """Make a new secret, which is shown once. For 24 hours deliveries are signed with both."""
    async with transaction(request) as tx:
        webhook, secret = await service.rotate_secret(tx, webhook_id, request.app.state.encryption)
        return answer(tx, replace(webhook, secret=secret), kept=webhook)


@post("/{webhook_id:str}/test", guards=[*PEOPLE, refuse_dry_run], status_code=200)
async def test_webhook(request: CrmRequest, webhook_id: FromPath[RecordId]) -> Response[WebhookTest]:
    """Send an event of the type webhook.test now, and answer what came of it. It is not tried again."""
    # Inside the function, because the library takes a while to load, and few workers need it.
    from app.events.webhooks.client import Client

    state = request.app.state
    async with transaction(request, ahead=True) as tx:
        receiver = await service.receiver(tx, webhook_id)
    secrets = secrets_of(state.encryption, request.user.tenant_id, receiver)
    if not secrets:
        raise AppError(Code.SERVICE_UNAVAILABLE, NO_SECRET)
    now = datetime.now(UTC)
    body = strict_json.encode({"type": "webhook.test", "timestamp": now, "data": {"webhook_id": webhook_id}})
    async with Client(state.addresses) as client:
        outcome = await client.send(receiver.url, signed(f"msg_test_{uuid4().hex}", body, secrets), body)
    attempt = outcome.attempt
    async with transaction(request) as tx:
        return answer(tx, WebhookTest(attempt.status, attempt.duration_ms, attempt.response, attempt.error))


@get("/{webhook_id:str}/deliveries", guards=[ADMINS])
async def list_deliveries(
    request: CrmRequest, webhook_id: FromPath[RecordId], filters: NamedDependency[DeliveryQuery]
) -> Response[Page[Delivery]]:
    """What was sent, or is to be sent, to a webhook, newest first. It is kept for 30 days."""
    scope = {"webhook_id": [webhook_id]}
    return await list_page(
        request, queries.DELIVERIES, filters, scope=scope, within=lambda tx: WEBHOOKS.ensure_exists(tx, webhook_id)
    )


@get("/{webhook_id:str}/deliveries/{delivery_id:str}", guards=[ADMINS])
async def get_delivery(
    request: CrmRequest, webhook_id: FromPath[RecordId], delivery_id: FromPath[RecordId]
) -> Response[Delivery]:
    """One delivery with its attempts."""
    async with transaction(request) as tx:
        await WEBHOOKS.ensure_exists(tx, webhook_id)
        return answer(tx, await queries.get_delivery(tx, webhook_id, delivery_id))


@post("/{webhook_id:str}/deliveries/{delivery_id:str}/redeliver", guards=PEOPLE, status_code=202)
async def redeliver(
    request: CrmRequest, webhook_id: FromPath[RecordId], delivery_id: FromPath[RecordId]
) -> Response[Delivery]:
    """Send an event again at once, under the same webhook-id; if that fails, it is tried again as if it was new."""
    async with transaction(request) as tx:
        return answer(tx, await service.redeliver(tx, webhook_id, delivery_id), 202)


@post("/{webhook_id:str}/replay", guards=PEOPLE, status_code=202)
async def replay(
    request: CrmRequest, webhook_id: FromPath[RecordId], data: JSONBody[ReplayRange]
) -> Response[Replayed]:
    """Send all events between two sequences that the webhook's types match, under the same webhook-ids as before."""
    async with transaction(request) as tx:
        return answer(tx, Replayed(await service.replay(tx, webhook_id, data)), 202)


router = Routes(
    "/webhooks",
    route_handlers=[
        list_webhooks,
        create_webhook,
        get_webhook,
        change_webhook,
        delete_webhook,
        list_webhook_versions,
        undo_webhook_change,
        rotate_webhook_secret,
        test_webhook,
        list_deliveries,
        get_delivery,
        redeliver,
        replay,
    ],
    tags=["Webhooks"],
)
