"""/admin/deals."""

from functools import partial

from litestar import Response, delete, get, post, route
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET

from app.access.permissions import Permission, Requires
from app.admin.audit.schemas import AuditEntry, VersionQuery
from app.admin.bulk import REASSIGN, UPDATE, Act, Bulk, BulkResult, change_many, usual_acts
from app.admin.deals import service
from app.admin.deals.queries import DEALS, LISTING
from app.admin.deals.schemas import Deal, DealBulk, DealChange, DealCreate, DealDetail, DealQuery
from app.admin.history import service as history
from app.admin.history.schemas import AsOf, EntryUndo
from app.admin.http import CHANGES, answer, list_page, message, transaction
from app.admin.timeline import DEAL_TIMELINE, TimelineEvent, TimelineQuery
from app.records.transaction import Transaction
from app.settings import Settings
from app.web.input import CrmRequest
from app.web.paging import Page
from app.web.routing import Routes
from app.web.structs import Message, RecordId


def _acts(settings: Settings) -> dict[str, Act]:
    apply = partial(service.apply, rollback_roles=settings.rollback_roles)
    return usual_acts(DEALS) | {
        UPDATE: apply,
        REASSIGN: lambda tx, deal_id, owner: apply(tx, deal_id, DealChange(**owner.given())),
    }


async def _require_stages(tx: Transaction, filters: DealQuery) -> None:
    await service.require_stages(tx, names=filters.stage or [], field="filter.stage")


BULK = Bulk("deals", DealBulk, LISTING, acts=_acts, within=_require_stages)


@get("/", guards=[Requires(Permission.READ)])
async def list_deals(request: CrmRequest, filters: NamedDependency[DealQuery]) -> Response[Page[Deal]]:
    """Deals, newest first unless sorted otherwise. A stage that the organization does not have is 400 INVALID_STAGE."""
    within = partial(service.require_stages, names=filters.stage or [])
    return await list_page(request, LISTING, filters, within=within)


@post("/", guards=[Requires(Permission.WRITE)])
async def create_deal(request: CrmRequest, data: JSONBody[DealCreate]) -> Response[Deal]:
    """Open a deal with a customer, in the first open stage unless another is named."""
    async with transaction(request) as tx:
        return answer(tx, await service.create(tx, data), 201)


@post("/bulk", guards=[Requires(Permission.WRITE)], status_code=200)
async def change_deals(request: CrmRequest, data: JSONBody[DealBulk]) -> Response[BulkResult]:
    """Change many deals, each as by a request of its own: up to 1,000 in one transaction, more as a job."""
    return await change_many(request, data, BULK)


@get("/{deal_id:str}", guards=[Requires(Permission.READ)])
async def get_deal(
    request: CrmRequest, deal_id: FromPath[RecordId], filters: NamedDependency[AsOf]
) -> Response[DealDetail]:
    """One deal with its activities, notes and stage history."""
    if filters.as_of is not UNSET:
        return await history.as_of(request, DEALS, deal_id, filters.as_of)
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await service.detail(tx, deal_id))


@route("/{deal_id:str}", http_method=CHANGES, guards=[Requires(Permission.WRITE)])
async def change_deal(request: CrmRequest, deal_id: FromPath[RecordId], data: JSONBody[DealChange]) -> Response[Deal]:
    """Change the fields that are present. Another stage is a move; back, or out of a closed one, is for admins."""
    async with transaction(request) as tx:
        rollback_roles = request.app.state.settings.rollback_roles
        return answer(tx, await service.change(tx, deal_id, data, rollback_roles))


@delete("/{deal_id:str}", guards=[Requires(Permission.DELETE)], status_code=200)
async def delete_deal(request: CrmRequest, deal_id: FromPath[RecordId]) -> Response[Message]:
    """Put a deal into the trash, with its activities and notes."""
    async with transaction(request) as tx:
        await DEALS.trash(tx, deal_id)
        return message(tx, "Deal deleted successfully")


@post("/{deal_id:str}/restore", guards=[Requires(Permission.DELETE)], status_code=200)
async def restore_deal(request: CrmRequest, deal_id: FromPath[RecordId]) -> Response[Deal]:
    """Take a deal out of the trash, with what went there with it. While its customer is there, 409 PARENT_DELETED."""
    async with transaction(request) as tx:
        return answer(tx, await DEALS.restore(tx, deal_id))


@get("/{deal_id:str}/timeline", guards=[Requires(Permission.READ)])
async def get_deal_timeline(
    request: CrmRequest, deal_id: FromPath[RecordId], filters: NamedDependency[TimelineQuery]
) -> Response[Page[TimelineEvent]]:
    """What happened to a deal, newest first."""
    scope, within = {"timeline_of": deal_id}, partial(DEALS.ensure_exists, record_id=deal_id)
    return await list_page(request, DEAL_TIMELINE, filters, scope=scope, within=within)


@get("/{deal_id:str}/versions", guards=[Requires(Permission.READ)])
async def list_deal_versions(
    request: CrmRequest, deal_id: FromPath[RecordId], filters: NamedDependency[VersionQuery]
) -> Response[Page[AuditEntry]]:
    """Every change of a deal, newest first. Addresses and user agents are for admins."""
    return await history.versions(request, DEALS, deal_id, filters)


@post("/{deal_id:str}/undo", guards=[Requires(Permission.WRITE)], status_code=200)
async def undo_deal_change(
    request: CrmRequest, deal_id: FromPath[RecordId], data: JSONBody[EntryUndo]
) -> Response[Deal]:
    """Take one change back. What was changed again since is 409 CHANGED_SINCE."""
    return await history.undo(request, DEALS, deal_id, data)


router = Routes(
    "/deals",
    route_handlers=[
        list_deals,
        create_deal,
        change_deals,
        get_deal,
        change_deal,
        delete_deal,
        restore_deal,
        get_deal_timeline,
        list_deal_versions,
        undo_deal_change,
    ],
    tags=["Deals"],
)
