"""/admin/settings."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from litestar import Response, Router, get, put
from litestar.params import JSONBody
from msgspec import UNSET, Meta
from sqlalchemy import select

from app.access.permissions import Permission, Requires
from app.admin.http import answer, transaction
from app.models import TenantSettings as Row
from app.records import resources
from app.records.json_columns import selected, view_columns
from app.records.repository import Repository
from app.records.transaction import Transaction
from app.timezones import TIMEZONES
from app.web.currency import Currency
from app.web.fields import Refused
from app.web.input import CrmRequest
from app.web.structs import Body, Maybe, View, ViewType


def check_timezone(name: str) -> str:
    """The name as it is. Raises Refused."""
    if name not in TIMEZONES:
        raise Refused("must be an IANA time zone, such as Europe/Berlin")
    return name


class TenantSettings(View):
    """The currency that new deals get, and the zone that says where a day begins in reports."""

    default_currency: str
    timezone: str
    created_at: datetime
    updated_at: datetime
    version: int


class TenantSettingsChange(Body, kw_only=True):
    """The settings that can be written."""

    view: ClassVar[ViewType] = TenantSettings

    default_currency: Maybe[Currency] = UNSET
    timezone: Maybe[
        Annotated[str, Meta(examples=["Europe/Berlin"], extra={"check": check_timezone, "choice": True})]
    ] = UNSET


COLUMNS = view_columns(TenantSettings, Row.__table__)
SETTINGS = Repository(resources.SETTINGS, TenantSettings, COLUMNS)
ONE = select(*selected(COLUMNS))
ID = select(Row.id)


async def read(tx: Transaction) -> TenantSettings:
    """The tenant's settings, which its first request made."""
    return TenantSettings(*(await tx.connection.execute(ONE)).one())


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
