"""/admin/trash."""

from litestar import Response, get
from litestar.di import NamedDependency

from app.access.permissions import Permission, Requires
from app.admin.http import list_page
from app.admin.trash.queries import LISTING
from app.admin.trash.schemas import Trashed, TrashQuery
from app.web.input import CrmRequest
from app.web.paging import Page
from app.web.routing import Routes


@get("/", guards=[Requires(Permission.DELETE)])
async def list_trash(request: CrmRequest, filters: NamedDependency[TrashQuery]) -> Response[Page[Trashed]]:
    """What is in the trash, of all kinds, newest first. Each is restored at its own address."""
    return await list_page(request, LISTING, filters)


router = Routes("/trash", route_handlers=[list_trash], tags=["Trash"])
