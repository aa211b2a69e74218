"""/admin/imports."""

from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from app.access.permissions import Permission, Requires
from app.admin.http import ACCEPTED, answer, list_page, message, read_page, refuse_dry_run, transaction
from app.admin.imports import found, queries, service, work
from app.admin.imports.found import FoundRow, RowQuery
from app.admin.imports.plans import ImportPlan, ImportRun
from app.admin.imports.schemas import Import, ImportBrief, ImportFile, ImportQuery
from app.admin.jobs.schemas import JobStarted
from app.web.input import CrmRequest
from app.web.large_responses import MadeFile
from app.web.paging import Page
from app.web.routing import Routes
from app.web.structs import Message, RecordId


@get("/", guards=[Requires(Permission.READ)])
async def list_imports(request: CrmRequest, filters: NamedDependency[ImportQuery]) -> Response[Page[ImportBrief]]:
    """The files that were sent to be imported, newest first; agents see their own. Only one alone has its columns."""
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
    while True:
        async with transaction(request) as tx:
            if await service.remove(tx, import_id):
                return message(tx, "Import deleted successfully")


@put("/{import_id:str}/plan", guards=[Requires(Permission.WRITE), refuse_dry_run], status_code=202)
async def plan_import(
    request: CrmRequest, import_id: FromPath[RecordId], data: JSONBody[ImportPlan]
) -> Response[JobStarted]:
    """Say which column is which field, and let every row be checked. No record is written: once the job is done, read
    what the run would do.
    """
    async with transaction(request) as tx:
        return answer(tx, await work.start_check(tx, import_id, data), ACCEPTED)


@get("/{import_id:str}/rows", guards=[Requires(Permission.READ)])
async def list_import_rows(
    request: CrmRequest, import_id: FromPath[RecordId], filters: NamedDependency[RowQuery]
) -> Response[Page[FoundRow]]:
    """What the check found of each row, in the order of the file: what becomes of it, and what is wrong with it."""
    async with transaction(request) as tx:
        await queries.get(tx, import_id)
        return await read_page(request, tx, found.LISTING, filters, scope={"import_id": [import_id]}, show=found.shown)


@get("/{import_id:str}/problems.csv", guards=[Requires(Permission.READ)])
async def download_problems(request: CrmRequest, import_id: FromPath[RecordId]) -> MadeFile:
    """The rows that are wrong as the file had them, with a column that says why: mend them, and import this file."""
    return await found.problems(request, import_id)


@post("/{import_id:str}/run", guards=[Requires(Permission.WRITE), refuse_dry_run], status_code=202)
async def run_import(
    request: CrmRequest, import_id: FromPath[RecordId], data: JSONBody[ImportRun]
) -> Response[JobStarted]:
    """Do what the check has found. Undo the job's operation to take it back, with `changed_since: keep`."""
    async with transaction(request) as tx:
        return answer(tx, await work.start_run(tx, import_id, data), ACCEPTED)


router = Routes(
    "/imports",
    route_handlers=[
        list_imports,
        upload_import,
        get_import,
        delete_import,
        plan_import,
        list_import_rows,
        download_problems,
        run_import,
    ],
    tags=["Imports"],
)
