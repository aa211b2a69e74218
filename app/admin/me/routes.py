"""/admin/me."""

from litestar import Response, get
from msgspec import Struct

from app.access.actor import Actor
from app.access.permissions import PERMISSIONS, Permission, Requires
from app.admin.http import answer, transaction
from app.web.input import CrmRequest
from app.web.routing import Routes


class Person(Struct):
    """The bearer of the token."""

    id: int | str
    email: str | None
    name: str | None
    role: str
    roles: list[str]
    tenant_id: str
    is_active: bool = True


class Me(Struct):
    """Who is asking, and what this service and the token's issuer let them do."""

    user: Person
    permissions: list[str]


@get("/", guards=[Requires(Permission.READ)])
async def get_me(request: CrmRequest) -> Response[Me]:
    """Who the token says you are."""
    actor: Actor = request.user
    person = Person(actor.reference, actor.email, actor.name, actor.role, list(actor.roles), actor.tenant_id)
    async with transaction(request) as tx:
        return answer(tx, Me(person, [*PERMISSIONS[actor.role], *actor.token_permissions]))


router = Routes("/me", route_handlers=[get_me], tags=["Me"])
