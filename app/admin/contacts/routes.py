"""/admin/contacts, and those of one customer."""

from functools import partial

from litestar import Response, delete, get, post, route
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET

from app.access.permissions import Permission, Requires
from app.admin.audit.schemas import AuditEntry, VersionQuery
from app.admin.bulk import RESTORE, TRASH, UPDATE, Bulk, BulkResult, change_many, usual_acts
from app.admin.contacts import service
from app.admin.contacts.queries import CONTACTS, LISTING, OF_CUSTOMER
from app.admin.contacts.schemas import (
    Contact,
    ContactBulk,
    ContactChange,
    ContactCreate,
    ContactQuery,
    CustomerContactQuery,
)
from app.admin.customers.queries import CUSTOMERS
from app.admin.history import service as history
from app.admin.history.schemas import AsOf, EntryUndo
from app.admin.http import CHANGES, answer, list_page, message, transaction
from app.web.input import CrmRequest
from app.web.paging import Page
from app.web.routing import Routes
from app.web.structs import Message, RecordId

BULK = Bulk(
    "contacts",
    ContactBulk,
    LISTING,
    acts=lambda _: usual_acts(CONTACTS) | {UPDATE: service.apply, TRASH: service.trash, RESTORE: service.restore},
)


@get("/contacts", guards=[Requires(Permission.READ)])
async def list_contacts(request: CrmRequest, filters: NamedDependency[ContactQuery]) -> Response[Page[Contact]]:
    """The contacts of all customers, newest first."""
    return await list_page(request, LISTING, filters)


@get("/customers/{customer_id:str}/contacts", guards=[Requires(Permission.READ)])
async def list_customer_contacts(
    request: CrmRequest, customer_id: FromPath[RecordId], filters: NamedDependency[CustomerContactQuery]
) -> Response[Page[Contact]]:
    """A customer's contacts: the primary one, then the oldest first."""
    scope, within = {"customer_id": [customer_id]}, partial(CUSTOMERS.ensure_exists, record_id=customer_id)
    return await list_page(request, OF_CUSTOMER, filters, scope=scope, within=within)


@post("/customers/{customer_id:str}/contacts", guards=[Requires(Permission.WRITE)])
async def create_contact(
    request: CrmRequest, customer_id: FromPath[RecordId], data: JSONBody[ContactCreate]
) -> Response[Contact]:
    """Add a contact to a customer. A new primary one takes the place of the one before."""
    async with transaction(request) as tx:
        return answer(tx, await service.create(tx, customer_id, data), 201)


@post("/contacts/bulk", guards=[Requires(Permission.WRITE)], status_code=200)
async def change_contacts(request: CrmRequest, data: JSONBody[ContactBulk]) -> Response[BulkResult]:
    """Change many contacts, each as by a request of its own: up to 1,000 in one transaction, more as a job."""
    return await change_many(request, data, BULK)


@get("/contacts/{contact_id:str}", guards=[Requires(Permission.READ)])
async def get_contact(
    request: CrmRequest, contact_id: FromPath[RecordId], filters: NamedDependency[AsOf]
) -> Response[Contact]:
    """One contact."""
    if filters.as_of is not UNSET:
        return await history.as_of(request, CONTACTS, contact_id, filters.as_of)
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await CONTACTS.get(tx, contact_id))


@route("/contacts/{contact_id:str}", http_method=CHANGES, guards=[Requires(Permission.WRITE)])
async def change_contact(
    request: CrmRequest, contact_id: FromPath[RecordId], data: JSONBody[ContactChange]
) -> Response[Contact]:
    """Change the fields that are present; null clears one."""
    async with transaction(request) as tx:
        return answer(tx, await service.change(tx, contact_id, data))


@delete("/contacts/{contact_id:str}", guards=[Requires(Permission.DELETE)], status_code=200)
async def delete_contact(request: CrmRequest, contact_id: FromPath[RecordId]) -> Response[Message]:
    """Put a contact into the trash. While deals refer to it, 409 CONTACT_HAS_DEALS."""
    async with transaction(request) as tx:
        await service.trash(tx, contact_id)
        return message(tx, "Contact deleted successfully")


@post("/contacts/{contact_id:str}/restore", guards=[Requires(Permission.DELETE)], status_code=200)
async def restore_contact(request: CrmRequest, contact_id: FromPath[RecordId]) -> Response[Contact]:
    """Take a contact out of the trash. While its customer is there, 409 PARENT_DELETED."""
    async with transaction(request) as tx:
        return answer(tx, await service.restore(tx, contact_id))


@get("/contacts/{contact_id:str}/versions", guards=[Requires(Permission.READ)])
async def list_contact_versions(
    request: CrmRequest, contact_id: FromPath[RecordId], filters: NamedDependency[VersionQuery]
) -> Response[Page[AuditEntry]]:
    """Every change of a contact, newest first. Addresses and user agents are for admins."""
    return await history.versions(request, CONTACTS, contact_id, filters)


@post("/contacts/{contact_id:str}/undo", guards=[Requires(Permission.WRITE)], status_code=200)
async def undo_contact_change(
    request: CrmRequest, contact_id: FromPath[RecordId], data: JSONBody[EntryUndo]
) -> Response[Contact]:
    """Take one change back. What was changed again since is 409 CHANGED_SINCE."""
    return await history.undo(request, CONTACTS, contact_id, data)


router = Routes(
    "/",
    route_handlers=[
        list_contacts,
        list_customer_contacts,
        create_contact,
        change_contacts,
        get_contact,
        change_contact,
        delete_contact,
        restore_contact,
        list_contact_versions,
        undo_contact_change,
    ],
    tags=["Contacts"],
)
