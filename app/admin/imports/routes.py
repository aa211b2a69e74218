"""/admin/imports."""

from __future__ import annotations

from litestar import Response, Router, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from app.access.permissions import Permission, Requires
from app.admin.http import answer, list_page, message, refuse_dry_run, transaction
from app.admin.imports import queries, service
from app.admin.imports.schemas import Import, ImportFile, ImportQuery
from app.web.input import CrmRequest
from app.web.paging import Page
from app.web.structs import Message, RecordId


@get("/", guards=[Requires(Permission.READ)])
async def list_imports(request: CrmRequest, filters: NamedDependency[ImportQuery]) -> Response[Page[Import]]:
    """The files that were sent to be imported, newest first; agents see their own."""
    everybody = request.user.can(Permission.MANAGE_ALL)
    return await list_page(request, queries.LISTING, filters, scope={} if everybody else {"sent_by": ["me"]})


@post("/", guards=[Requires(Permission.WRITE), refuse_dry_run], request_max_body_size=None)
async def upload_import(request: CrmRequest, file: NamedDependency[ImportFile]) -> Response[Import]:
    """Send a file of rows: multipart/form-data with a part named kind and one named file. Nothing is imported yet: the
    answer says how the file was read, and which columns it has.
    """
    return await service.upload(request, file)


@get("/{import_id:str}", guards=[Requires(Permission.READ)])
async def get_import(request: CrmRequest, import_id: FromPath[RecordId]) -> Response[Import]:
    """One import: how its file was read, and what is to be done with it."""
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await queries.get(tx, import_id))


@delete("/{import_id:str}", guards=[Requires(Permission.WRITE), refuse_dry_run], status_code=200)
async def delete_import(request: CrmRequest, import_id: FromPath[RecordId]) -> Response[Message]:
    """Delete an import with its rows; what was imported stays. While it is being checked or run, 409 IMPORT_BUSY."""
    async with transaction(request) as tx:
        await service.remove(tx, import_id)
        return message(tx, "Import deleted successfully")


router = Router("/imports", route_handlers=[list_imports, upload_import, get_import, delete_import], tags=["Imports"])
