"""/admin/settings."""

from litestar import Response, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import UNSET

from app.access.permissions import Permission, Requires
from app.admin.audit.schemas import AuditEntry, VersionQuery
from app.admin.history import service as history
from app.admin.history.schemas import AsOf, EntryUndo
from app.admin.http import answer, transaction
from app.admin.settings.queries import ID, SETTINGS, read
from app.admin.settings.schemas import TenantSettings, TenantSettingsChange
from app.web.input import CrmRequest
from app.web.paging import Page
from app.web.routing import Routes


@get("/", guards=[Requires(Permission.READ)])
async def get_settings(request: CrmRequest, filters: NamedDependency[AsOf]) -> Response[TenantSettings]:
    """The organization's settings."""
    if filters.as_of is not UNSET:
        return await history.as_of(request, SETTINGS, await _id(request), filters.as_of)
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await read(tx))


@put("/", guards=[Requires(Permission.CONFIGURE)])
async def change_settings(request: CrmRequest, data: JSONBody[TenantSettingsChange]) -> Response[TenantSettings]:
    """Change the settings that are present."""
    async with transaction(request) as tx:
        row = await SETTINGS.get_for_update(tx, (await tx.connection.execute(ID)).scalar_one())
        await SETTINGS.update(tx, row, data.given())
        return answer(tx, await read(tx))


@get("/versions", guards=[Requires(Permission.READ)])
async def list_settings_versions(
    request: CrmRequest, filters: NamedDependency[VersionQuery]
) -> Response[Page[AuditEntry]]:
    """Every change of the settings, newest first. Addresses and user agents are for admins."""
    return await history.versions(request, SETTINGS, await _id(request), filters)


@post("/undo", guards=[Requires(Permission.CONFIGURE)], status_code=200)
async def undo_settings_change(request: CrmRequest, data: JSONBody[EntryUndo]) -> Response[TenantSettings]:
    """Take one change back. What was changed again since is 409 CHANGED_SINCE."""
    return await history.undo(request, SETTINGS, await _id(request), data)


async def _id(request: CrmRequest) -> int:
    """The settings have an id, which no address names."""
    async with transaction(request, ahead=True) as tx:
        return int((await tx.connection.execute(ID)).scalar_one())


router = Routes(
    "/settings",
    route_handlers=[
        get_settings,
        change_settings,
        list_settings_versions,
        undo_settings_change,
    ],
    tags=["Settings"],
)
