"""/admin/projects, and their tasks."""

from functools import partial

from litestar import Response, delete, get, post, route
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET

from app.access.permissions import Permission, Requires
from app.admin.activities.queries import LISTING as ACTIVITIES
from app.admin.activities.schemas import Activity, ActivityType, ProjectTaskQuery
from app.admin.audit.schemas import AuditEntry, VersionQuery
from app.admin.bulk import REASSIGN, UPDATE, Bulk, BulkResult, change_many, usual_acts
from app.admin.history import service as history
from app.admin.history.schemas import AsOf, EntryUndo
from app.admin.http import CHANGES, answer, list_page, message, transaction
from app.admin.projects import service
from app.admin.projects.queries import LISTING, PROJECTS
from app.admin.projects.schemas import (
    Project,
    ProjectBulk,
    ProjectChange,
    ProjectCreate,
    ProjectDetail,
    ProjectQuery,
    TaskCreate,
)
from app.admin.timeline import PROJECT_TIMELINE, TimelineEvent, TimelineQuery
from app.web.input import CrmRequest
from app.web.paging import Page
from app.web.routing import Routes
from app.web.structs import Message, RecordId

BULK = Bulk(
    "projects",
    ProjectBulk,
    LISTING,
    acts=lambda _: (
        usual_acts(PROJECTS)
        | {
            UPDATE: service.apply,
            REASSIGN: lambda tx, project_id, owner: service.apply(tx, project_id, ProjectChange(**owner.given())),
        }
    ),
)


@get("/", guards=[Requires(Permission.READ)])
async def list_projects(request: CrmRequest, filters: NamedDependency[ProjectQuery]) -> Response[Page[Project]]:
    """Projects, those that changed last at the top unless sorted otherwise."""
    return await list_page(request, LISTING, filters)


@post("/", guards=[Requires(Permission.WRITE)])
async def create_project(request: CrmRequest, data: JSONBody[ProjectCreate]) -> Response[Project]:
    """Begin a project, with a customer or without one."""
    async with transaction(request) as tx:
        return answer(tx, await service.create(tx, data), 201)


@post("/bulk", guards=[Requires(Permission.WRITE)], status_code=200)
async def change_projects(request: CrmRequest, data: JSONBody[ProjectBulk]) -> Response[BulkResult]:
    """Change many projects, each as by a request of its own: up to 1,000 in one transaction, more as a job."""
    return await change_many(request, data, BULK)


@get("/{project_id:str}", guards=[Requires(Permission.READ)])
async def get_project(
    request: CrmRequest, project_id: FromPath[RecordId], filters: NamedDependency[AsOf]
) -> Response[ProjectDetail]:
    """One project with its tasks: up to 100, those due first."""
    if filters.as_of is not UNSET:
        return await history.as_of(request, PROJECTS, project_id, filters.as_of)
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await service.detail(tx, project_id))


@route("/{project_id:str}", http_method=CHANGES, guards=[Requires(Permission.WRITE)])
async def change_project(
    request: CrmRequest, project_id: FromPath[RecordId], data: JSONBody[ProjectChange]
) -> Response[Project]:
    """Change the fields that are present. Completing one with open tasks is 409 OPEN_TASKS without complete_tasks."""
    async with transaction(request) as tx:
        return answer(tx, await service.change(tx, project_id, data))


@delete("/{project_id:str}", guards=[Requires(Permission.DELETE)], status_code=200)
async def delete_project(request: CrmRequest, project_id: FromPath[RecordId]) -> Response[Message]:
    """Put a project into the trash, with its activities, notes and attachments."""
    async with transaction(request) as tx:
        await PROJECTS.trash(tx, project_id)
        return message(tx, "Project deleted successfully")


@post("/{project_id:str}/restore", guards=[Requires(Permission.DELETE)], status_code=200)
async def restore_project(request: CrmRequest, project_id: FromPath[RecordId]) -> Response[Project]:
    """Take a project out of the trash, and what went with it. While its customer is there, 409 PARENT_DELETED."""
    async with transaction(request) as tx:
        return answer(tx, await PROJECTS.restore(tx, project_id))


@get("/{project_id:str}/tasks", guards=[Requires(Permission.READ)])
async def list_project_tasks(
    request: CrmRequest, project_id: FromPath[RecordId], filters: NamedDependency[ProjectTaskQuery]
) -> Response[Page[Activity]]:
    """A project's activities of type task, those due first at the top unless sorted otherwise."""
    scope = {"project_id": [project_id], "type": [ActivityType.TASK]}
    within = partial(PROJECTS.ensure_exists, record_id=project_id)
    return await list_page(request, ACTIVITIES, filters, scope=scope, within=within)


@post("/{project_id:str}/tasks", guards=[Requires(Permission.WRITE)])
async def create_project_task(
    request: CrmRequest, project_id: FromPath[RecordId], data: JSONBody[TaskCreate]
) -> Response[Activity]:
    """Plan a task of a project."""
    async with transaction(request) as tx:
        return answer(tx, await service.create_task(tx, project_id, data), 201)


@get("/{project_id:str}/timeline", guards=[Requires(Permission.READ)])
async def get_project_timeline(
    request: CrmRequest, project_id: FromPath[RecordId], filters: NamedDependency[TimelineQuery]
) -> Response[Page[TimelineEvent]]:
    """What happened to a project, newest first."""
    scope, within = {"timeline_of": project_id}, partial(PROJECTS.ensure_exists, record_id=project_id)
    return await list_page(request, PROJECT_TIMELINE, filters, scope=scope, within=within)


@get("/{project_id:str}/versions", guards=[Requires(Permission.READ)])
async def list_project_versions(
    request: CrmRequest, project_id: FromPath[RecordId], filters: NamedDependency[VersionQuery]
) -> Response[Page[AuditEntry]]:
    """Every change of a project, newest first. Addresses and user agents are for admins."""
    return await history.versions(request, PROJECTS, project_id, filters)


@post("/{project_id:str}/undo", guards=[Requires(Permission.WRITE)], status_code=200)
async def undo_project_change(
    request: CrmRequest, project_id: FromPath[RecordId], data: JSONBody[EntryUndo]
) -> Response[Project]:
    """Take one change back. What was changed again since is 409 CHANGED_SINCE."""
    return await history.undo(request, PROJECTS, project_id, data)


router = Routes(
    "/projects",
    route_handlers=[
        list_projects,
        create_project,
        change_projects,
        get_project,
        change_project,
        delete_project,
        restore_project,
        list_project_tasks,
        create_project_task,
        get_project_timeline,
        list_project_versions,
        undo_project_change,
    ],
    tags=["Projects"],
)
