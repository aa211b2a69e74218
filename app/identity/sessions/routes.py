"""Logging in and out, refreshing, and a person's devices."""

from uuid import UUID

from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from app.db.result import RowMapping
from app.identity.caller import caller_of
from app.identity.guards import Allows, Person, Rule
from app.identity.http import transaction, wanted_organization
from app.identity.pages import page_of
from app.identity.sessions import queries, service
from app.identity.sessions.schemas import Device, Login, RefreshToken, Session
from app.web.email import fold_email
from app.web.input import CrmRequest
from app.web.paging import Page, PageQuery
from app.web.routing import Routes
from app.web.structs import Message


async def _log_in(request: CrmRequest, data: Login) -> Response[Session]:
    state, wanted, caller = request.app.state, wanted_organization(request), caller_of(request)
    state.attempts.acquire((caller.network, fold_email(data.email)))
    with state.hashes.turn():
        session = await service.log_in(state.database, state.hashes, state.settings, caller, data, wanted)
    return Response(session)


@post("/login", status_code=200, guards=[Allows(Rule.ANYBODY)])
async def log_in(request: CrmRequest, data: JSONBody[Login]) -> Response[Session]:
    """Log in. After five wrong passwords for an email in a minute, from one network, the next ones are refused."""
    return await _log_in(request, data)


@post("/login", status_code=200, guards=[Allows(Rule.ANYBODY)])
async def log_in_to_the_console(request: CrmRequest, data: JSONBody[Login]) -> Response[Session]:
    """Log in, as the Platform Console does."""
    return await _log_in(request, data)


@post("/refresh", status_code=200, guards=[Allows(Rule.ANYBODY)])
async def refresh(request: CrmRequest, data: JSONBody[RefreshToken]) -> Response[Session]:
    """Get a new pair of tokens; the old refresh token is spent. If it is used again, the session ends."""
    state = request.app.state
    session = await service.refresh(
        state.database,
        state.settings,
        state.attempts,
        caller_of(request),
        data.refresh_token,
        wanted_organization(request),
    )
    return Response(session)


@post("/logout", status_code=200, guards=[Allows(Rule.PERSON)])
async def log_out(request: CrmRequest) -> Response[Message]:
    """End this session."""
    person: Person = request.user
    async with transaction(request) as tx:
        await service.log_out(tx, person.user_id, person.session_id)
    return Response(Message("Logged out"))


@post("/logout-all", status_code=200, guards=[Allows(Rule.PERSON)])
async def log_out_everywhere(request: CrmRequest) -> Response[Message]:
    """End all my sessions."""
    person: Person = request.user
    async with transaction(request) as tx:
        await service.log_out_everywhere(tx, person.user_id)
    return Response(Message("Logged out everywhere"))


@get("/sessions", guards=[Allows(Rule.PERSON)])
async def list_sessions(request: CrmRequest, filters: NamedDependency[PageQuery]) -> Response[Page[Device]]:
    """Where I am logged in, last used first."""
    person: Person = request.user

    def device(row: RowMapping) -> Device:
        return Device(**row, is_current=row["id"] == person.session_id)

    async with transaction(request) as tx:
        mine = {"person": person.user_id}
        return Response(await page_of(tx, queries.DEVICES, filters, mine, device, request.app.state))


@delete("/sessions/{session_id:str}", status_code=200, guards=[Allows(Rule.PERSON)])
async def end_session(request: CrmRequest, session_id: FromPath[UUID]) -> Response[Message]:
    """Log out on another device."""
    async with transaction(request) as tx:
        await service.end_one(tx, request.user.user_id, session_id)
    return Response(Message("Session ended successfully"))


router = Routes(
    "/auth",
    route_handlers=[log_in, refresh, log_out, log_out_everywhere, list_sessions, end_session],
    tags=["Sessions"],
)
console = Routes("/admin", route_handlers=[log_in_to_the_console], tags=["Sessions"])
