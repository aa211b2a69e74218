"""/admin/settings."""

from __future__ import annotations

from litestar import Response, Router, get, put
from litestar.params import JSONBody

from app.access.permissions import Permission, Requires
from app.admin.http import answer, transaction
from app.admin.settings.queries import ID, SETTINGS, read
from app.admin.settings.schemas import TenantSettings, TenantSettingsChange
from app.web.input import CrmRequest


@get("/", guards=[Requires(Permission.READ)])
async def get_settings(request: CrmRequest) -> Response[TenantSettings]:
    """The organization's settings."""
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await read(tx))


@put("/", guards=[Requires(Permission.CONFIGURE)])
async def change_settings(request: CrmRequest, data: JSONBody[TenantSettingsChange]) -> Response[TenantSettings]:
    """Change the settings that are present."""
    async with transaction(request) as tx:
        row = await SETTINGS.get_for_update(tx, (await tx.connection.execute(ID)).scalar_one())
        await SETTINGS.update(tx, row, data.given())
        return answer(tx, await read(tx))


router = Router("/settings", route_handlers=[get_settings, change_settings], tags=["Settings"])
