"""/admin/{list}/export, whole lists as files; and /admin/exports, everything of the organization."""

from typing import Any

from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from app.access.permissions import Permission, Requires, by_a_person
from app.admin.activities.queries import LISTING as ACTIVITIES
from app.admin.activities.schemas import ActivityChange
from app.admin.contacts.queries import LISTING as CONTACTS
from app.admin.contacts.schemas import ContactChange
from app.admin.customers.queries import LISTING as CUSTOMERS
from app.admin.customers.schemas import CustomerChange
from app.admin.deals.queries import LISTING as DEALS
from app.admin.deals.schemas import DealChange
from app.admin.exports import archive, service
from app.admin.exports.columns import columns_of
from app.admin.exports.dossier import dossier
from app.admin.exports.schemas import ExportQuery, export_query
from app.admin.exports.service import Export
from app.admin.http import ACCEPTED, answer, refuse_dry_run, transaction
from app.admin.jobs.schemas import JobStarted
from app.admin.notes.queries import LISTING as NOTES
from app.admin.notes.schemas import NoteChange
from app.admin.projects.queries import LISTING as PROJECTS
from app.admin.projects.schemas import ProjectFields
from app.jobs.files import require_links
from app.records import resources
from app.records.listing import Listing
from app.records.resources import Resource
from app.web.input import CrmRequest
from app.web.large_responses import MadeFile
from app.web.routing import Routes
from app.web.structs import Body, RecordId


def _export(resource: Resource, listing: Listing[Any], change: type[Body]) -> Export:
    columns = columns_of(resource.table, change)
    return Export(resource, listing, columns, export_query(listing.query, columns))


EXPORTS = (
    _export(resources.CUSTOMERS, CUSTOMERS, CustomerChange),
    _export(resources.CONTACTS, CONTACTS, ContactChange),
    _export(resources.DEALS, DEALS, DealChange),
    _export(resources.PROJECTS, PROJECTS, ProjectFields),
    _export(resources.ACTIVITIES, ACTIVITIES, ActivityChange),
    _export(resources.NOTES, NOTES, NoteChange),
)


def _route(kind: Export) -> HTTPRouteHandler:
    """The address of one list's export: what it takes follows from the list."""
    table = kind.resource.table.name

    async def export(request: CrmRequest, filters: NamedDependency[ExportQuery]) -> MadeFile:
        return await service.export(request, kind, filters)

    export.__name__ = f"export_{table}"
    export.__doc__ = (
        f"All {table} that the list's filters match, as a file: of one moment, in the list's order. CSV is UTF-8 by RFC"
        " 4180, and a cell that a spreadsheet would run has an apostrophe before it. The audit log notes it."
    )
    given: Any = NamedDependency
    export.__annotations__ |= {"filters": given[kind.query]}
    return get(f"/{table}/export", guards=[Requires(Permission.READ)], tags=[table.capitalize()])(export)


@post("/exports", guards=[Requires(Permission.AUDIT), by_a_person, refuse_dry_run], status_code=202, tags=["Exports"])
async def start_archive(request: CrmRequest) -> Response[JobStarted]:
    """Make an archive of the whole organization in the background: a ZIP of JSON Lines, the trash, the stage history
    and the audit log included, of the bytes of all attachments, and of a manifest. It is kept for seven days; the job's
    result has a `download_url`, which needs no token for five minutes.
    """
    require_links(request.app.state.settings)
    async with transaction(request) as tx:
        return answer(tx, await archive.start(tx, request.app.state.store), ACCEPTED)


@get(
    "/customers/{customer_id:str}/dossier",
    guards=[Requires(Permission.MANAGE_ALL)],
    tags=["Customers"],
    media_type=MediaType.JSON,
)
async def get_customer_dossier(request: CrmRequest, customer_id: FromPath[RecordId]) -> MadeFile:
    """All that is kept about one customer as one JSON document, what is in the trash and the audit log included, for
    somebody who asks what is known of them. The audit log notes it.
    """
    return await dossier(request, customer_id)


router = Routes("/", route_handlers=[*(_route(kind) for kind in EXPORTS), start_archive, get_customer_dossier])
