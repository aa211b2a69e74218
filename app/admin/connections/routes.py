"""/admin/me/connections."""

from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody
from litestar.types import Guard

from app.access.permissions import Permission, Requires, by_a_person
from app.admin.connections import queries, service
from app.admin.connections.schemas import (
    AuthorizeUrl,
    CalDavConnect,
    Connection,
    ConnectionConfirm,
    ConnectionFinish,
)
from app.admin.http import answer, message, origin_of, refuse_dry_run, transaction
from app.calendars.adapters import CalendarProvider
from app.jobs.files import require_links
from app.records.transaction import writing
from app.web.input import CrmRequest
from app.web.paging import Everything
from app.web.routing import Routes
from app.web.structs import Message, RecordId

PEOPLE: list[Guard] = [Requires(Permission.WRITE), by_a_person]


@get("/", guards=[Requires(Permission.READ)])
async def list_connections(request: CrmRequest) -> Response[Everything[Connection]]:
    """My connected calendars, the oldest first."""
    async with transaction(request, one_statement=True) as tx:
        mine = await queries.list_all(tx)
        return answer(tx, Everything(mine, len(mine)))


@post("/google", guards=[*PEOPLE, refuse_dry_run], status_code=200)
async def connect_google_calendar(request: CrmRequest) -> Response[AuthorizeUrl]:
    """Begin to connect my Google calendar: open `authorize_url`, and consent there. You come back to the console with
    a code and a state, which finish it. 404 NOT_CONFIGURED where the operator has no client at Google.
    """
    return await _begin(request, CalendarProvider.GOOGLE)


@post("/microsoft", guards=[*PEOPLE, refuse_dry_run], status_code=200)
async def connect_microsoft_calendar(request: CrmRequest) -> Response[AuthorizeUrl]:
    """Begin to connect my calendar in Microsoft 365, as with Google's."""
    return await _begin(request, CalendarProvider.MICROSOFT)


@post("/finish", guards=[*PEOPLE, refuse_dry_run])
async def finish_connection(request: CrmRequest, data: JSONBody[ConnectionFinish]) -> Response[Connection]:
    """Finish what I have begun with Google or Microsoft, within 10 minutes and once. The calendar is synced at once. If
    it was connected before, it goes on where it was.
    """
    state = request.app.state
    async with transaction(request, ahead=True):
        pass  # an answer that is kept needs no look at the network
    # A transaction of its own: the state is used, whatever becomes of the code.
    async with writing(state.database, request.user, origin_of(request)) as tx:
        provider, verifier = await service.use_state(tx, data, state.encryption)
    found = await service.exchange(provider, data.code, verifier, state, _address(request))
    async with transaction(request) as tx:
        return answer(tx, await service.store(tx, found, state.encryption), 201)


@post("/caldav", guards=PEOPLE)
async def connect_caldav_calendar(request: CrmRequest, data: JSONBody[CalDavConnect]) -> Response[Connection]:
    """Connect a calendar on a CalDAV server, such as Nextcloud, iCloud, Fastmail or Radicale. It is tried at once; the
    password is kept encrypted, and never shown.
    """
    state = request.app.state
    async with transaction(request, ahead=True) as tx:
        zone = await service.zone_of(tx)
    found = await service.try_caldav(data, zone, state)
    async with transaction(request) as tx:
        return answer(tx, await service.store(tx, found, state.encryption), 201)


@post("/{connection_id:str}/confirm", guards=PEOPLE, status_code=200)
async def confirm_vanished_entries(
    request: CrmRequest, connection_id: FromPath[RecordId], data: JSONBody[ConnectionConfirm]
) -> Response[Connection]:
    """Say what becomes of activities of which many vanished from the calendar at once: with `apply` they are cancelled,
    else they are written there again.
    """
    async with transaction(request) as tx:
        return answer(tx, await service.decide(tx, connection_id, apply=data.apply))


@delete("/{connection_id:str}", guards=PEOPLE, status_code=200)
async def delete_connection(request: CrmRequest, connection_id: FromPath[RecordId]) -> Response[Message]:
    """End a connection. Both sides keep what they have; the consent is given back, where the provider has a way."""
    async with transaction(request) as tx:
        removed = await queries.remove(tx, connection_id)
        answered = message(tx, "Connection deleted successfully")
    await service.revoke(removed, request.user.tenant_id, request.app.state)
    return answered


async def _begin(request: CrmRequest, provider: CalendarProvider) -> Response[AuthorizeUrl]:
    require_links(request.app.state.settings)
    async with transaction(request) as tx:
        url = await service.begin(tx, provider, request.app.state, _address(request))
        # What is in it is a secret, which is kept nowhere.
        return answer(tx, AuthorizeUrl(url), kept=AuthorizeUrl(None))


def _address(request: CrmRequest) -> str:
    """The service's own, as the provider knows it."""
    return (request.app.state.settings.public_url or str(request.base_url)).rstrip("/")


HANDLERS = [
    list_connections,
    connect_google_calendar,
    connect_microsoft_calendar,
    finish_connection,
    connect_caldav_calendar,
    confirm_vanished_entries,
    delete_connection,
]
router = Routes("/me/connections", route_handlers=HANDLERS, tags=["Calendars"])
