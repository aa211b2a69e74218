"""Registration, passwords, and who I am."""

from litestar import Response, get, post
from litestar.params import JSONBody

from app.access.permissions import PERMISSIONS
from app.identity.caller import caller_of
from app.identity.guards import Allows, Person, Rule
from app.identity.http import transaction
from app.identity.passwords import require_good
from app.identity.sessions.schemas import Session
from app.identity.users import service
from app.identity.users.schemas import Bearer, Change, Forgotten, Me, Registration, Reset, Verification, Whoami
from app.web.input import CrmRequest
from app.web.routing import Routes
from app.web.structs import Message

BY_MAIL = "Look into your mail. If the address is new here, you can log in at once"


@post("/register", status_code=201, guards=[Allows(Rule.ANYBODY)])
async def register(request: CrmRequest, data: JSONBody[Registration]) -> Response[Session] | Response[Message]:
    """Register, with a new organization or by an invitation.

    Where mail can be sent, the answer without an invitation is 202, also for an address that is known here.
    """
    state = request.app.state
    with state.hashes.turn():
        session = await service.register(state.database, state.hashes, state.settings, caller_of(request), data)
    if session is None:
        return Response(Message(BY_MAIL), status_code=202)
    return Response(session)


@post("/verify-email", status_code=200, guards=[Allows(Rule.ANYBODY)])
async def verify_email(request: CrmRequest, data: JSONBody[Verification]) -> Response[Message]:
    """Confirm the address, by the secret of the mail that came after the registration."""
    await service.verify_email(request.app.state.database, caller_of(request), data.token)
    return Response(Message("The address is confirmed"))


@post("/password/forgot", status_code=202, guards=[Allows(Rule.ANYBODY)])
async def forget_password(request: CrmRequest, data: JSONBody[Forgotten]) -> Response[Message]:
    """Ask for a mail with a link for a new password. The answer is the same for every address."""
    async with transaction(request) as tx:
        await service.forget_password(tx, data.email)
    return Response(Message("If the address is known here, there is a mail on its way"), status_code=202)


@post("/password/reset", status_code=200, guards=[Allows(Rule.ANYBODY)])
async def reset_password(request: CrmRequest, data: JSONBody[Reset]) -> Response[Message]:
    """Set a new password, by the secret of that mail. All sessions end."""
    require_good(data.password, "")
    state = request.app.state
    with state.hashes.turn():
        await service.reset_password(state.database, state.hashes, caller_of(request), data)
    return Response(Message("The new password is set: log in"))


@post("/password/change", status_code=200, guards=[Allows(Rule.PERSON)])
async def change_password(request: CrmRequest, data: JSONBody[Change]) -> Response[Message]:
    """Set a new password. All other sessions end."""
    state = request.app.state
    with state.hashes.turn():
        await service.change_password(state.database, state.hashes, caller_of(request), request.user, data)
    return Response(Message("The new password is set"))


@get("/me", guards=[Allows(Rule.PERSON)])
async def whoami(request: CrmRequest) -> Response[Whoami]:
    """Who I am."""
    async with transaction(request) as tx:
        return Response(await service.whoami(tx, request.user))


@get("/me", guards=[Allows(Rule.PERSON)])
async def me_in_the_console(request: CrmRequest) -> Response[Me]:
    """Who I am, as the Platform Console asks."""
    person: Person = request.user
    bearer = Bearer(str(person.user_id), person.email, person.name, person.role, [person.role], person.tenant_id)
    return Response(Me(bearer, [*PERMISSIONS[person.role]]))


router = Routes(
    "/auth",
    route_handlers=[register, verify_email, forget_password, reset_password, change_password, whoami],
    tags=["People"],
)
console = Routes("/admin", route_handlers=[me_in_the_console], tags=["People"])
