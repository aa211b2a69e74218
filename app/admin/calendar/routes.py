"""/admin/me/calendar."""

from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec.structs import replace

from app.access.permissions import Permission, Requires, by_a_person
from app.admin.calendar import feeds, service
from app.admin.calendar.schemas import CalendarEntry, CalendarQuery, Feed, FeedCreate
from app.admin.http import answer, message, transaction
from app.jobs.files import require_links
from app.settings import Settings
from app.web.input import CrmRequest
from app.web.paging import Everything
from app.web.routing import Routes
from app.web.structs import Message, RecordId


@get("/", guards=[Requires(Permission.READ)])
async def get_my_calendar(
    request: CrmRequest, filters: NamedDependency[CalendarQuery]
) -> Response[Everything[CalendarEntry]]:
    """What is to be done and when, by time: activities with a due date, follow-ups, closings of deals, the days on
    which projects are due, and what else takes time in connected calendars. An entry is there if a part of it is in the
    range. With `user_id`, managers and admins see other people's.
    """
    async with transaction(request) as tx:
        entries = await service.entries(tx, filters)
        return answer(tx, Everything(entries, len(entries)))


@get("/feeds", guards=[Requires(Permission.READ)])
async def list_calendar_feeds(request: CrmRequest) -> Response[Everything[Feed]]:
    """My feeds, the oldest first. Their addresses are not kept."""
    async with transaction(request, one_statement=True) as tx:
        mine = await feeds.list_all(tx)
        return answer(tx, Everything(mine, len(mine)))


@post("/feeds", guards=[Requires(Permission.WRITE), by_a_person])
async def create_calendar_feed(request: CrmRequest, data: JSONBody[FeedCreate]) -> Response[Feed]:
    """Make an address that calendar programs subscribe to. Whoever has it reads this calendar without a token, until
    the feed is deleted or you are shut out. It is shown once.
    """
    settings: Settings = request.app.state.settings
    require_links(settings)
    async with transaction(request) as tx:
        feed, secret = await feeds.create(tx, data)
        address = (settings.public_url or str(request.base_url)).rstrip("/")
        shown = replace(feed, url=f"{address}/public/calendar/{secret}.ics")
        return answer(tx, shown, 201, kept=feed)


@delete("/feeds/{feed_id:str}", guards=[Requires(Permission.WRITE), by_a_person], status_code=200)
async def delete_calendar_feed(request: CrmRequest, feed_id: FromPath[RecordId]) -> Response[Message]:
    """End a feed of mine: its address shows nothing from now on, and never again."""
    async with transaction(request) as tx:
        await feeds.remove(tx, feed_id)
        return message(tx, "Calendar feed deleted successfully")


HANDLERS = [get_my_calendar, list_calendar_feeds, create_calendar_feed, delete_calendar_feed]
router = Routes("/me/calendar", route_handlers=HANDLERS, tags=["Calendars"])
