"""/admin/me/notifications, and how one wants to be told."""

from functools import partial

from litestar import Response, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from app.access.permissions import Permission, Requires
from app.admin.http import answer, read_page, transaction
from app.admin.notifications import queries, service
from app.admin.notifications.schemas import (
    Notification,
    NotificationQuery,
    NotificationSettings,
    NotificationSettingsChange,
    ReadCount,
    ReadUntil,
)
from app.web.input import CrmRequest
from app.web.paging import Page
from app.web.routing import Routes
from app.web.structs import RecordId


@get("/notifications", guards=[Requires(Permission.READ)])
async def list_notifications(
    request: CrmRequest, filters: NamedDependency[NotificationQuery]
) -> Response[Page[Notification]]:
    """What I was told, newest first."""
    async with transaction(request) as tx:
        show = partial(service.shown, tx, await queries.reader_of(tx))
        return await read_page(request, tx, queries.LISTING, filters, scope=queries.OF_ME, show=show)


@post("/notifications/read", guards=[Requires(Permission.WRITE)], status_code=200)
async def read_notifications(request: CrmRequest, data: JSONBody[ReadUntil]) -> Response[ReadCount]:
    """All notifications up to a time are read."""
    async with transaction(request) as tx:
        return answer(tx, ReadCount(await queries.read_until(tx, data.until)))


@post("/notifications/{notification_id:str}/read", guards=[Requires(Permission.WRITE)], status_code=200)
async def read_notification(request: CrmRequest, notification_id: FromPath[RecordId]) -> Response[Notification]:
    """This notification is read."""
    async with transaction(request) as tx:
        return answer(tx, await service.mark_read(tx, notification_id))


@get("/notification-settings", guards=[Requires(Permission.READ)])
async def get_notification_settings(request: CrmRequest) -> Response[NotificationSettings]:
    """How I want to be told."""
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await service.get_settings(tx))


@put("/notification-settings", guards=[Requires(Permission.WRITE)])
async def change_notification_settings(
    request: CrmRequest, data: JSONBody[NotificationSettingsChange]
) -> Response[NotificationSettings]:
    """Change the settings that are present."""
    async with transaction(request) as tx:
        return answer(tx, await service.change_settings(tx, data))


router = Routes(
    "/me",
    route_handlers=[
        list_notifications,
        read_notifications,
        read_notification,
        get_notification_settings,
        change_notification_settings,
    ],
    tags=["Notifications"],
)
