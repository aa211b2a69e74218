"""The organization's settings as the database reads them."""

from __future__ import annotations

from sqlalchemy import select

from app.admin.settings.schemas import TenantSettings
from app.models import TenantSettings as Row
from app.records import resources
from app.records.json_columns import selected, view_columns
from app.records.repository import Repository
from app.records.transaction import Transaction

COLUMNS = view_columns(TenantSettings, Row.__table__)
SETTINGS = Repository(resources.SETTINGS, TenantSettings, COLUMNS)
ONE = select(*selected(COLUMNS))
ID = select(Row.id)


async def read(tx: Transaction) -> TenantSettings:
    """The tenant's settings, which its first request made."""
    return TenantSettings(*(await tx.connection.execute(ONE)).one())
