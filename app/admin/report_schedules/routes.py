"""/admin/report-schedules."""

from litestar import Response, delete, get, post, route
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET

from app.access.permissions import Permission, Requires
from app.admin.audit.schemas import AuditEntry, VersionQuery
from app.admin.history import service as history
from app.admin.history.schemas import AsOf, EntryUndo
from app.admin.http import CHANGES, answer, message, transaction
from app.admin.report_schedules import service
from app.admin.report_schedules.queries import REPORT_SCHEDULES
from app.admin.report_schedules.schemas import ReportSchedule, ReportScheduleChange, ReportScheduleCreate
from app.jobs.files import require_links
from app.web.input import CrmRequest
from app.web.paging import Everything, Page
from app.web.routing import Routes
from app.web.structs import Message, RecordId


@get("/", guards=[Requires(Permission.READ)])
async def list_report_schedules(request: CrmRequest) -> Response[Everything[ReportSchedule]]:
    """Every schedule, the oldest first."""
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await service.list_all(tx))


@post("/", guards=[Requires(Permission.WRITE)])
async def create_report_schedule(request: CrmRequest, data: JSONBody[ReportScheduleCreate]) -> Response[ReportSchedule]:
    """Have a report made again and again, as a job of yours each time."""
    require_links(request.app.state.settings)
    async with transaction(request) as tx:
        return answer(tx, await service.create(tx, data), 201)


@get("/{report_schedule_id:str}", guards=[Requires(Permission.READ)])
async def get_report_schedule(
    request: CrmRequest, report_schedule_id: FromPath[RecordId], filters: NamedDependency[AsOf]
) -> Response[ReportSchedule]:
    """One schedule, with its next run and the job of the last."""
    if filters.as_of is not UNSET:
        return await history.as_of(request, REPORT_SCHEDULES, report_schedule_id, filters.as_of)
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await REPORT_SCHEDULES.get(tx, report_schedule_id))


@route("/{report_schedule_id:str}", http_method=CHANGES, guards=[Requires(Permission.WRITE)])
async def change_report_schedule(
    request: CrmRequest, report_schedule_id: FromPath[RecordId], data: JSONBody[ReportScheduleChange]
) -> Response[ReportSchedule]:
    """Change the fields that are present; null clears one. It goes on running as the person who made it."""
    async with transaction(request) as tx:
        return answer(tx, await service.change(tx, report_schedule_id, data))


@delete("/{report_schedule_id:str}", guards=[Requires(Permission.WRITE)], status_code=200)
async def delete_report_schedule(request: CrmRequest, report_schedule_id: FromPath[RecordId]) -> Response[Message]:
    """Delete a schedule; agents their own. What it has made stays."""
    async with transaction(request) as tx:
        await service.remove(tx, report_schedule_id)
        return message(tx, "Report schedule deleted successfully")


@get("/{report_schedule_id:str}/versions", guards=[Requires(Permission.READ)])
async def list_report_schedule_versions(
    request: CrmRequest, report_schedule_id: FromPath[RecordId], filters: NamedDependency[VersionQuery]
) -> Response[Page[AuditEntry]]:
    """Every change of a schedule, newest first. Addresses and user agents are for admins."""
    return await history.versions(request, REPORT_SCHEDULES, report_schedule_id, filters)


@post("/{report_schedule_id:str}/undo", guards=[Requires(Permission.WRITE)], status_code=200)
async def undo_report_schedule_change(
    request: CrmRequest, report_schedule_id: FromPath[RecordId], data: JSONBody[EntryUndo]
) -> Response[ReportSchedule]:
    """Take one change back. What was changed again since is 409 CHANGED_SINCE."""
    return await history.undo(request, REPORT_SCHEDULES, report_schedule_id, data)


router = Routes(
    "/report-schedules",
    route_handlers=[
        list_report_schedules,
        create_report_schedule,
        get_report_schedule,
        change_report_schedule,
        delete_report_schedule,
        list_report_schedule_versions,
        undo_report_schedule_change,
    ],
    tags=["Reports"],
)
