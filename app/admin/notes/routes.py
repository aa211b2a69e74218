"""/admin/notes, and those of a customer, a deal or a project."""

from functools import partial

from litestar import Response, delete, get, post, route
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET

from app.access.permissions import Permission, Requires
from app.admin.audit.schemas import AuditEntry, VersionQuery
from app.admin.bulk import PERMISSIONS, TRASH, UPDATE, Bulk, BulkResult, change_many, usual_acts
from app.admin.customers.queries import CUSTOMERS
from app.admin.deals.queries import DEALS
from app.admin.history import service as history
from app.admin.history.schemas import AsOf, EntryUndo
from app.admin.http import CHANGES, answer, list_page, message, transaction
from app.admin.notes import service
from app.admin.notes.queries import LISTING, NOTES
from app.admin.notes.schemas import NestedNoteQuery, Note, NoteBulk, NoteChange, NoteCreate, NoteQuery
from app.admin.projects.queries import PROJECTS
from app.web.input import CrmRequest
from app.web.paging import Page
from app.web.routing import Routes
from app.web.structs import Message, RecordId

BULK = Bulk(
    "notes",
    NoteBulk,
    LISTING,
    acts=lambda _: usual_acts(NOTES) | {UPDATE: service.apply},
    # Agents may delete their own notes.
    permissions=PERMISSIONS | {TRASH: Permission.WRITE},
)


@get("/notes", guards=[Requires(Permission.READ)])
async def list_notes(request: CrmRequest, filters: NamedDependency[NoteQuery]) -> Response[Page[Note]]:
    """Notes, newest first."""
    return await list_page(request, LISTING, filters)


@post("/notes", guards=[Requires(Permission.WRITE)])
async def create_note(request: CrmRequest, data: JSONBody[NoteCreate]) -> Response[Note]:
    """Write a note on a customer, a deal, an activity or a project."""
    async with transaction(request) as tx:
        return answer(tx, await service.create(tx, data), 201)


@post("/notes/bulk", guards=[Requires(Permission.WRITE)], status_code=200)
async def change_notes(request: CrmRequest, data: JSONBody[NoteBulk]) -> Response[BulkResult]:
    """Change many notes, each as by a request of its own: up to 1,000 in one transaction, more as a job."""
    return await change_many(request, data, BULK)


@get("/notes/{note_id:str}", guards=[Requires(Permission.READ)])
async def get_note(request: CrmRequest, note_id: FromPath[RecordId], filters: NamedDependency[AsOf]) -> Response[Note]:
    """One note."""
    if filters.as_of is not UNSET:
        return await history.as_of(request, NOTES, note_id, filters.as_of)
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await NOTES.get(tx, note_id))


@route("/notes/{note_id:str}", http_method=CHANGES, guards=[Requires(Permission.WRITE)])
async def change_note(request: CrmRequest, note_id: FromPath[RecordId], data: JSONBody[NoteChange]) -> Response[Note]:
    """Change the fields that are present."""
    async with transaction(request) as tx:
        return answer(tx, await service.change(tx, note_id, data))


@delete("/notes/{note_id:str}", guards=[Requires(Permission.WRITE)], status_code=200)
async def delete_note(request: CrmRequest, note_id: FromPath[RecordId]) -> Response[Message]:
    """Put a note into the trash; agents their own only."""
    async with transaction(request) as tx:
        await NOTES.trash(tx, note_id)
        return message(tx, "Note deleted successfully")


@post("/notes/{note_id:str}/restore", guards=[Requires(Permission.DELETE)], status_code=200)
async def restore_note(request: CrmRequest, note_id: FromPath[RecordId]) -> Response[Note]:
    """Take a note out of the trash. While what it belongs to is there, 409 PARENT_DELETED."""
    async with transaction(request) as tx:
        return answer(tx, await NOTES.restore(tx, note_id))


@get("/customers/{customer_id:str}/notes", guards=[Requires(Permission.READ)])
async def list_customer_notes(
    request: CrmRequest, customer_id: FromPath[RecordId], filters: NamedDependency[NestedNoteQuery]
) -> Response[Page[Note]]:
    """A customer's notes, newest first."""
    scope, within = {"customer_id": [customer_id]}, partial(CUSTOMERS.ensure_exists, record_id=customer_id)
    return await list_page(request, LISTING, filters, scope=scope, within=within)


@post("/customers/{customer_id:str}/notes", guards=[Requires(Permission.WRITE)])
async def create_customer_note(
    request: CrmRequest, customer_id: FromPath[RecordId], data: JSONBody[NoteCreate]
) -> Response[Note]:
    """Write a note on a customer."""
    async with transaction(request) as tx:
        return answer(tx, await service.create_for_customer(tx, customer_id, data), 201)


@get("/deals/{deal_id:str}/notes", guards=[Requires(Permission.READ)])
async def list_deal_notes(
    request: CrmRequest, deal_id: FromPath[RecordId], filters: NamedDependency[NestedNoteQuery]
) -> Response[Page[Note]]:
    """A deal's notes, newest first."""
    scope, within = {"deal_id": [deal_id]}, partial(DEALS.ensure_exists, record_id=deal_id)
    return await list_page(request, LISTING, filters, scope=scope, within=within)


@post("/deals/{deal_id:str}/notes", guards=[Requires(Permission.WRITE)])
async def create_deal_note(
    request: CrmRequest, deal_id: FromPath[RecordId], data: JSONBody[NoteCreate]
) -> Response[Note]:
    """Write a note on a deal."""
    async with transaction(request) as tx:
        return answer(tx, await service.create_for_deal(tx, deal_id, data), 201)


@get("/projects/{project_id:str}/notes", guards=[Requires(Permission.READ)])
async def list_project_notes(
    request: CrmRequest, project_id: FromPath[RecordId], filters: NamedDependency[NestedNoteQuery]
) -> Response[Page[Note]]:
    """A project's notes, newest first."""
    scope, within = {"project_id": [project_id]}, partial(PROJECTS.ensure_exists, record_id=project_id)
    return await list_page(request, LISTING, filters, scope=scope, within=within)


@post("/projects/{project_id:str}/notes", guards=[Requires(Permission.WRITE)])
async def create_project_note(
    request: CrmRequest, project_id: FromPath[RecordId], data: JSONBody[NoteCreate]
) -> Response[Note]:
    """Write a note on a project."""
    async with transaction(request) as tx:
        return answer(tx, await service.create_for_project(tx, project_id, data), 201)


@get("/notes/{note_id:str}/versions", guards=[Requires(Permission.READ)])
async def list_note_versions(
    request: CrmRequest, note_id: FromPath[RecordId], filters: NamedDependency[VersionQuery]
) -> Response[Page[AuditEntry]]:
    """Every change of a note, newest first. Addresses and user agents are for admins."""
    return await history.versions(request, NOTES, note_id, filters)


@post("/notes/{note_id:str}/undo", guards=[Requires(Permission.WRITE)], status_code=200)
async def undo_note_change(
    request: CrmRequest, note_id: FromPath[RecordId], data: JSONBody[EntryUndo]
) -> Response[Note]:
    """Take one change back. What was changed again since is 409 CHANGED_SINCE."""
    return await history.undo(request, NOTES, note_id, data)


router = Routes(
    "/",
    route_handlers=[
        list_notes,
        create_note,
        change_notes,
        get_note,
        change_note,
        delete_note,
        restore_note,
        list_customer_notes,
        create_customer_note,
        list_deal_notes,
        create_deal_note,
        list_project_notes,
        create_project_note,
        list_note_versions,
        undo_note_change,
    ],
    tags=["Notes"],
)
