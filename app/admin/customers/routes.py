"""/admin/customers."""

from functools import partial

from litestar import Response, delete, get, post, put, route
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET

from app.access.permissions import Permission, Requires
from app.admin.audit.schemas import AuditEntry, VersionQuery
from app.admin.bulk import ADD_TAGS, REASSIGN, REMOVE_TAGS, UPDATE, Bulk, BulkResult, change_many, usual_acts
from app.admin.customers import service
from app.admin.customers.queries import CUSTOMERS, LISTING
from app.admin.customers.schemas import (
    Customer,
    CustomerBulk,
    CustomerChange,
    CustomerCreate,
    CustomerDetail,
    CustomerQuery,
    Reassigned,
    Reassignment,
    TagIds,
)
from app.admin.history import service as history
from app.admin.history.schemas import AsOf, EntryUndo
from app.admin.http import CHANGES, answer, list_page, message, transaction
from app.admin.tags.schemas import Tag
from app.admin.timeline import CUSTOMER_TIMELINE, TimelineEvent, TimelineQuery
from app.records.transaction import Transaction
from app.web.input import CrmRequest
from app.web.paging import Everything, Page
from app.web.routing import Routes
from app.web.structs import Message, RecordId

BULK = Bulk(
    "customers",
    CustomerBulk,
    LISTING,
    acts=lambda _: (
        usual_acts(CUSTOMERS)
        | {
            UPDATE: service.apply,
            ADD_TAGS: lambda tx, customer_id, tags: service.add_tags(tx, customer_id, tags.tag_ids),
            REMOVE_TAGS: lambda tx, customer_id, tags: service.remove_tags(tx, customer_id, tags.tag_ids),
            REASSIGN: service.apply_reassignment,
        }
    ),
)


@get("/", guards=[Requires(Permission.READ)])
async def list_customers(request: CrmRequest, filters: NamedDependency[CustomerQuery]) -> Response[Page[Customer]]:
    """Customers, newest first unless sorted otherwise. The trash (`deleted`) is for admins and managers."""
    return await list_page(request, LISTING, filters)


@post("/", guards=[Requires(Permission.WRITE)])
async def create_customer(request: CrmRequest, data: JSONBody[CustomerCreate]) -> Response[Customer]:
    """Create a customer. An email that a live customer has is 409 EMAIL_EXISTS, with that customer's id."""
    async with transaction(request) as tx:
        return answer(tx, await service.create(tx, data), 201)


@post("/bulk", guards=[Requires(Permission.WRITE)], status_code=200)
async def change_customers(request: CrmRequest, data: JSONBody[CustomerBulk]) -> Response[BulkResult]:
    """Change many customers, each as by a request of its own: up to 1,000 in one transaction, more as a job."""
    return await change_many(request, data, BULK)


@get("/{customer_id:str}", guards=[Requires(Permission.READ)])
async def get_customer(
    request: CrmRequest, customer_id: FromPath[RecordId], filters: NamedDependency[AsOf]
) -> Response[CustomerDetail]:
    """One customer, with its contacts, open deals, work to do, and what happened last."""
    if filters.as_of is not UNSET:
        return await history.as_of(request, CUSTOMERS, customer_id, filters.as_of)
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await service.detail(tx, customer_id))


@get("/{customer_id:str}/timeline", guards=[Requires(Permission.READ)])
async def get_customer_timeline(
    request: CrmRequest, customer_id: FromPath[RecordId], filters: NamedDependency[TimelineQuery]
) -> Response[Page[TimelineEvent]]:
    """What happened to a customer, newest first."""
    scope, within = {"timeline_of": customer_id}, partial(CUSTOMERS.ensure_exists, record_id=customer_id)
    return await list_page(request, CUSTOMER_TIMELINE, filters, scope=scope, within=within)


@route("/{customer_id:str}", http_method=CHANGES, guards=[Requires(Permission.WRITE)])
async def change_customer(
    request: CrmRequest, customer_id: FromPath[RecordId], data: JSONBody[CustomerChange]
) -> Response[Customer]:
    """Change the fields that are present; null clears one."""
    async with transaction(request) as tx:
        return answer(tx, await service.change(tx, customer_id, data))


@delete("/{customer_id:str}", guards=[Requires(Permission.DELETE)], status_code=200)
async def delete_customer(request: CrmRequest, customer_id: FromPath[RecordId]) -> Response[Message]:
    """Put a customer into the trash, from which it can be restored."""
    async with transaction(request) as tx:
        await CUSTOMERS.trash(tx, customer_id)
        return message(tx, "Customer deleted successfully")


@post("/{customer_id:str}/restore", guards=[Requires(Permission.DELETE)], status_code=200)
async def restore_customer(request: CrmRequest, customer_id: FromPath[RecordId]) -> Response[Customer]:
    """Take a customer out of the trash. If its email was taken meanwhile, 409 EMAIL_EXISTS."""
    async with transaction(request) as tx:
        return answer(tx, await CUSTOMERS.restore(tx, customer_id))


@post("/{customer_id:str}/reassign", guards=[Requires(Permission.MANAGE_ALL)], status_code=200)
async def reassign_customer(
    request: CrmRequest, customer_id: FromPath[RecordId], data: JSONBody[Reassignment]
) -> Response[Reassigned]:
    """Give a customer to somebody else, and the open deals and activities of the same owner. If the customer has no
    owner, these are the ones without an owner.
    """
    async with transaction(request) as tx:
        done = await service.reassign(tx, customer_id, data)
        return answer(tx, done, version=done.customer.version)


@get("/{customer_id:str}/tags", guards=[Requires(Permission.READ)])
async def list_customer_tags(request: CrmRequest, customer_id: FromPath[RecordId]) -> Response[Everything[Tag]]:
    """A customer's tags, by name."""
    async with transaction(request, one_statement=True) as tx:
        return _tags(tx, await CUSTOMERS.get(tx, customer_id))


@post("/{customer_id:str}/tags", guards=[Requires(Permission.WRITE)], status_code=200)
async def add_customer_tags(
    request: CrmRequest, customer_id: FromPath[RecordId], data: JSONBody[TagIds]
) -> Response[Everything[Tag]]:
    """Add tags to those that the customer has."""
    async with transaction(request) as tx:
        await service.add_tags(tx, customer_id, data.tag_ids)
        return _tags(tx, await CUSTOMERS.get(tx, customer_id))


@put("/{customer_id:str}/tags", guards=[Requires(Permission.WRITE)])
async def replace_customer_tags(
    request: CrmRequest, customer_id: FromPath[RecordId], data: JSONBody[TagIds]
) -> Response[Everything[Tag]]:
    """Give the customer exactly these tags."""
    async with transaction(request) as tx:
        await service.replace_tags(tx, customer_id, data.tag_ids)
        return _tags(tx, await CUSTOMERS.get(tx, customer_id))


@post("/{customer_id:str}/tags/{tag_id:str}", guards=[Requires(Permission.WRITE)], status_code=200)
async def add_customer_tag(
    request: CrmRequest, customer_id: FromPath[RecordId], tag_id: FromPath[RecordId]
) -> Response[Message]:
    """Add one tag; adding it again changes nothing."""
    async with transaction(request) as tx:
        await service.add_tag(tx, customer_id, tag_id)
        return message(tx, "Tag added successfully")


@delete("/{customer_id:str}/tags/{tag_id:str}", guards=[Requires(Permission.WRITE)], status_code=200)
async def remove_customer_tag(
    request: CrmRequest, customer_id: FromPath[RecordId], tag_id: FromPath[RecordId]
) -> Response[Message]:
    """Take one tag off; taking it off again changes nothing."""
    async with transaction(request) as tx:
        await service.remove_tags(tx, customer_id, [tag_id])
        return message(tx, "Tag removed successfully")


def _tags(tx: Transaction, customer: Customer) -> Response[Everything[Tag]]:
    return answer(tx, Everything(customer.tags, len(customer.tags)), version=customer.version)


@get("/{customer_id:str}/versions", guards=[Requires(Permission.READ)])
async def list_customer_versions(
    request: CrmRequest, customer_id: FromPath[RecordId], filters: NamedDependency[VersionQuery]
) -> Response[Page[AuditEntry]]:
    """Every change of a customer, newest first. Addresses and user agents are for admins."""
    return await history.versions(request, CUSTOMERS, customer_id, filters)


@post("/{customer_id:str}/undo", guards=[Requires(Permission.WRITE)], status_code=200)
async def undo_customer_change(
    request: CrmRequest, customer_id: FromPath[RecordId], data: JSONBody[EntryUndo]
) -> Response[Customer]:
    """Take one change back. What was changed again since is 409 CHANGED_SINCE."""
    return await history.undo(request, CUSTOMERS, customer_id, data)


router = Routes(
    "/customers",
    route_handlers=[
        list_customers,
        create_customer,
        change_customers,
        get_customer,
        get_customer_timeline,
        change_customer,
        delete_customer,
        restore_customer,
        reassign_customer,
        list_customer_tags,
        add_customer_tags,
        replace_customer_tags,
        add_customer_tag,
        remove_customer_tag,
        list_customer_versions,
        undo_customer_change,
    ],
    tags=["Customers"],
)
