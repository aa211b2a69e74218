"""/admin/me/access-tokens."""

from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody
from litestar.types import Guard
from msgspec.structs import replace

from app.access.permissions import Permission, Requires, by_a_person
from app.admin.http import answer, message, transaction
from app.admin.me.access_tokens import service
from app.admin.me.access_tokens.schemas import AccessToken, AccessTokenCreate
from app.web.input import CrmRequest
from app.web.paging import Everything
from app.web.routing import Routes
from app.web.structs import Message, RecordId

PEOPLE: list[Guard] = [Requires(Permission.WRITE), by_a_person]


@get("/", guards=[Requires(Permission.READ)])
async def list_access_tokens(request: CrmRequest) -> Response[Everything[AccessToken]]:
    """My access tokens, the oldest first, until they are revoked. The tokens themselves are not kept."""
    async with transaction(request, one_statement=True) as tx:
        mine = await service.list_all(tx)
        return answer(tx, Everything(mine, len(mine)))


@post("/", guards=PEOPLE)
async def create_access_token(request: CrmRequest, data: JSONBody[AccessTokenCreate]) -> Response[AccessToken]:
    """Make a token with which a program acts as you, such as your own AI client. It is shown once. It ends after its
    days, when you revoke it, when you are signed out or deactivated, and 30 days after you were here last yourself.
    """
    async with transaction(request) as tx:
        made, token = await service.create(tx, data)
        return answer(tx, replace(made, token=token), 201, kept=made)


@delete("/{token_id:str}", guards=PEOPLE, status_code=200)
async def revoke_access_token(request: CrmRequest, token_id: FromPath[RecordId]) -> Response[Message]:
    """End an access token of mine: within some seconds it is refused everywhere, and never works again."""
    async with transaction(request) as tx:
        await service.revoke(tx, token_id)
        answered = message(tx, "Access token revoked successfully")
    request.app.state.access_tokens.forget()
    return answered


HANDLERS = [list_access_tokens, create_access_token, revoke_access_token]
router = Routes("/me/access-tokens", route_handlers=HANDLERS, tags=["Me"])
