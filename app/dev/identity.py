"""The login of `crm identity` in the embedded database."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from app.dev.postgres import IDENTITY_LOGIN, EmbeddedPostgres
from app.settings import Settings


def with_identity_login(settings: Settings) -> Settings:
    """The same settings, with the login of `crm identity` in the embedded database, which runs."""
    postgres = EmbeddedPostgres(Path(settings.crm_data_dir))
    return replace(settings, database_url=postgres.dsn(user=IDENTITY_LOGIN))
