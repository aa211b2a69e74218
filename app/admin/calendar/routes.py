"""/admin/me/calendar."""

from __future__ import annotations

from litestar import Response, Router, get
from litestar.di import NamedDependency

from app.access.permissions import Permission, Requires
from app.admin.calendar import service
from app.admin.calendar.schemas import CalendarEntry, CalendarQuery
from app.admin.http import answer, transaction
from app.web.input import CrmRequest
from app.web.paging import Everything


@get("/", guards=[Requires(Permission.READ)])
async def get_my_calendar(
    request: CrmRequest, filters: NamedDependency[CalendarQuery]
) -> Response[Everything[CalendarEntry]]:
    """What is to be done and when, by time: activities with a due date, follow-ups and closings of deals. An entry is
    there if a part of it is in the range. With `user_id`, managers and admins see other people's.
    """
    async with transaction(request) as tx:
        entries = await service.entries(tx, filters)
        return answer(tx, Everything(entries, len(entries)))


router = Router("/me/calendar", route_handlers=[get_my_calendar], tags=["Calendars"])
