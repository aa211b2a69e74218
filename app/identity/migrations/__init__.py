"""The line of migrations of `crm identity`, apart from the CRM's: both may use one database, or each its own."""

from __future__ import annotations

from app.db.migrations import Line
from app.db.roles import IDENTITY_ROLE
from app.identity.database import MIGRATIONS
from app.identity.models import Base

SCHEMA = "identity"

IDENTITY = Line(
    folder=MIGRATIONS,
    metadata=Base.metadata,
    version_table="migrations",
    roles=(IDENTITY_ROLE,),
    acted_as=(IDENTITY_ROLE,),
    prepare=f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
    schema=SCHEMA,
)
