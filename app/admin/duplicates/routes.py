"""/admin/duplicates, and what merges customers and contacts."""

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from app.access.permissions import Permission, Requires
from app.admin.contacts.queries import CONTACTS
from app.admin.contacts.schemas import Contact
from app.admin.customers.queries import CUSTOMERS
from app.admin.customers.schemas import Customer
from app.admin.duplicates import merging, service
from app.admin.duplicates.queries import LISTING
from app.admin.duplicates.schemas import Dismissal, Duplicate, DuplicateGroup, DuplicateQuery, Merge
from app.admin.http import answer, list_page, message, transaction
from app.web.input import CrmRequest
from app.web.paging import Everything, Page
from app.web.routing import Routes
from app.web.structs import Message, RecordId


@get("/duplicates", guards=[Requires(Permission.READ)])
async def list_duplicates(
    request: CrmRequest, filters: NamedDependency[DuplicateQuery]
) -> Response[Page[DuplicateGroup]]:
    """Customers, and contacts, that may be the same, in groups, the surest first. A change shows some seconds later."""
    return await list_page(request, LISTING, filters)


@post("/duplicates/dismiss", guards=[Requires(Permission.MANAGE_ALL)], status_code=200)
async def dismiss_duplicates(request: CrmRequest, data: JSONBody[Dismissal]) -> Response[Message]:
    """Say that these are different: they are never shown as duplicates of each other again."""
    async with transaction(request) as tx:
        await service.dismiss(tx, data)
        return message(tx, "Dismissed successfully")


@get("/customers/{customer_id:str}/duplicates", guards=[Requires(Permission.READ)])
async def list_customer_duplicates(
    request: CrmRequest, customer_id: FromPath[RecordId]
) -> Response[Everything[Duplicate]]:
    """The customers that may be the same as this one, the surest first."""
    async with transaction(request) as tx:
        return answer(tx, await service.duplicates_of(tx, CUSTOMERS, customer_id))


@get("/contacts/{contact_id:str}/duplicates", guards=[Requires(Permission.READ)])
async def list_contact_duplicates(
    request: CrmRequest, contact_id: FromPath[RecordId]
) -> Response[Everything[Duplicate]]:
    """The contacts that may be the same as this one, the surest first."""
    async with transaction(request) as tx:
        return answer(tx, await service.duplicates_of(tx, CONTACTS, contact_id))


@post("/customers/{customer_id:str}/merge", guards=[Requires(Permission.MANAGE_ALL)], status_code=200)
async def merge_customers(
    request: CrmRequest, customer_id: FromPath[RecordId], data: JSONBody[Merge]
) -> Response[Customer]:
    """Merge other customers into this one: what belongs to them comes over, empty fields are filled, and they go to the
    trash. Their ids are 410 MERGED from then on. The operation's undo takes it apart again.
    """
    async with transaction(request) as tx:
        return answer(tx, await merging.merge_customers(tx, customer_id, data))


@post("/contacts/{contact_id:str}/merge", guards=[Requires(Permission.MANAGE_ALL)], status_code=200)
async def merge_contacts(
    request: CrmRequest, contact_id: FromPath[RecordId], data: JSONBody[Merge]
) -> Response[Contact]:
    """Merge other contacts into this one: deals and activities name this one from then on. One of another customer that
    some of these name is 409 DIFFERENT_CUSTOMERS: merge the customers first.
    """
    async with transaction(request) as tx:
        return answer(tx, await merging.merge_contacts(tx, contact_id, data))


router = Routes(
    "/",
    route_handlers=[
        list_duplicates,
        dismiss_duplicates,
        list_customer_duplicates,
        list_contact_duplicates,
        merge_customers,
        merge_contacts,
    ],
    tags=["Duplicates"],
)
