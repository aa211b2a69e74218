"""/admin/users."""

from litestar import Response, get
from litestar.di import NamedDependency

from app.access.permissions import Permission, Requires
from app.admin.http import list_page
from app.admin.users.queries import LISTING
from app.admin.users.schemas import User, UserQuery
from app.web.input import CrmRequest
from app.web.paging import Page
from app.web.routing import Routes


@get("/", guards=[Requires(Permission.READ)])
async def list_users(request: CrmRequest, filters: NamedDependency[UserQuery]) -> Response[Page[User]]:
    """People by name, for offering them where something can be assigned."""
    return await list_page(request, LISTING, filters)


router = Routes("/users", route_handlers=[list_users], tags=["Users"])
