"""/admin/activities, one's own, and all tasks."""

from litestar import Response, delete, get, post, route
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import UNSET

from app.access.permissions import Permission, Requires
from app.admin.activities import service
from app.admin.activities.queries import ACTIVITIES, LISTING
from app.admin.activities.schemas import (
    Activity,
    ActivityBulk,
    ActivityChange,
    ActivityCreate,
    ActivityQuery,
    ActivityStatus,
    ActivityType,
    MyActivityQuery,
    TaskQuery,
)
from app.admin.audit.schemas import AuditEntry, VersionQuery
from app.admin.bulk import REASSIGN, UPDATE, Bulk, BulkResult, change_many, usual_acts
from app.admin.history import service as history
from app.admin.history.schemas import AsOf, EntryUndo
from app.admin.http import CHANGES, answer, list_page, message, transaction
from app.web.input import CrmRequest
from app.web.paging import Page
from app.web.routing import Routes
from app.web.structs import Message, RecordId

TO_DO = [ActivityStatus.SCHEDULED, ActivityStatus.OVERDUE]
BULK = Bulk(
    "activities",
    ActivityBulk,
    LISTING,
    acts=lambda _: (
        usual_acts(ACTIVITIES)
        | {
            UPDATE: service.apply,
            REASSIGN: lambda tx, activity_id, owner: service.apply(tx, activity_id, ActivityChange(**owner.given())),
        }
    ),
)


@get("/activities", guards=[Requires(Permission.READ)])
async def list_activities(request: CrmRequest, filters: NamedDependency[ActivityQuery]) -> Response[Page[Activity]]:
    """Activities, those due first at the top unless sorted otherwise."""
    return await list_page(request, LISTING, filters)


@get("/me/activities", guards=[Requires(Permission.READ)])
async def list_my_activities(
    request: CrmRequest, filters: NamedDependency[MyActivityQuery]
) -> Response[Page[Activity]]:
    """What is assigned to me: scheduled and overdue unless `status` says otherwise."""
    if filters.status is UNSET and filters.cursor is UNSET:
        filters.status = TO_DO
    return await list_page(request, LISTING, filters, scope={"assigned_to": ["me"]})


@get("/tasks", guards=[Requires(Permission.READ)])
async def list_tasks(request: CrmRequest, filters: NamedDependency[TaskQuery]) -> Response[Page[Activity]]:
    """The activities of type task, of all projects and of none."""
    return await list_page(request, LISTING, filters, scope={"type": [ActivityType.TASK]})


@post("/activities", guards=[Requires(Permission.WRITE)])
async def create_activity(request: CrmRequest, data: JSONBody[ActivityCreate]) -> Response[Activity]:
    """Plan, or write down, an activity; it need not belong to anything."""
    async with transaction(request) as tx:
        return answer(tx, await service.create(tx, data), 201)


@post("/activities/bulk", guards=[Requires(Permission.WRITE)], status_code=200)
async def change_activities(request: CrmRequest, data: JSONBody[ActivityBulk]) -> Response[BulkResult]:
    """Change many activities, each as by a request of its own: up to 1,000 in one transaction, more as a job."""
    return await change_many(request, data, BULK)


@get("/activities/{activity_id:str}", guards=[Requires(Permission.READ)])
async def get_activity(
    request: CrmRequest, activity_id: FromPath[RecordId], filters: NamedDependency[AsOf]
) -> Response[Activity]:
    """One activity."""
    if filters.as_of is not UNSET:
        return await history.as_of(request, ACTIVITIES, activity_id, filters.as_of)
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await ACTIVITIES.get(tx, activity_id))


@route("/activities/{activity_id:str}", http_method=CHANGES, guards=[Requires(Permission.WRITE)])
async def change_activity(
    request: CrmRequest, activity_id: FromPath[RecordId], data: JSONBody[ActivityChange]
) -> Response[Activity]:
    """Change the fields that are present. Completing sets completed_at, un-completing clears it."""
    async with transaction(request) as tx:
        return answer(tx, await service.change(tx, activity_id, data))


@delete("/activities/{activity_id:str}", guards=[Requires(Permission.DELETE)], status_code=200)
async def delete_activity(request: CrmRequest, activity_id: FromPath[RecordId]) -> Response[Message]:
    """Put an activity into the trash, with its notes."""
    async with transaction(request) as tx:
        await ACTIVITIES.trash(tx, activity_id)
        return message(tx, "Activity deleted successfully")


@post("/activities/{activity_id:str}/restore", guards=[Requires(Permission.DELETE)], status_code=200)
async def restore_activity(request: CrmRequest, activity_id: FromPath[RecordId]) -> Response[Activity]:
    """Take an activity out of the trash. While what it belongs to is there, 409 PARENT_DELETED."""
    async with transaction(request) as tx:
        return answer(tx, await ACTIVITIES.restore(tx, activity_id))


@get("/activities/{activity_id:str}/versions", guards=[Requires(Permission.READ)])
async def list_activity_versions(
    request: CrmRequest, activity_id: FromPath[RecordId], filters: NamedDependency[VersionQuery]
) -> Response[Page[AuditEntry]]:
    """Every change of an activity, newest first. Addresses and user agents are for admins."""
    return await history.versions(request, ACTIVITIES, activity_id, filters)


@post("/activities/{activity_id:str}/undo", guards=[Requires(Permission.WRITE)], status_code=200)
async def undo_activity_change(
    request: CrmRequest, activity_id: FromPath[RecordId], data: JSONBody[EntryUndo]
) -> Response[Activity]:
    """Take one change back. What was changed again since is 409 CHANGED_SINCE."""
    return await history.undo(request, ACTIVITIES, activity_id, data)


router = Routes(
    "/",
    route_handlers=[
        list_activities,
        list_my_activities,
        list_tasks,
        create_activity,
        change_activities,
        get_activity,
        change_activity,
        delete_activity,
        restore_activity,
        list_activity_versions,
        undo_activity_change,
    ],
    tags=["Activities"],
)
