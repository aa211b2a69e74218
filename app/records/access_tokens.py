"""Finding access tokens by their hashes."""

from __future__ import annotations

from functools import partial

from sqlalchemy import text

from app.access.access_tokens import AccessTokens, Found
from app.db.database import Database

FIND = text("""
    SELECT tenant_id, id, user_id, scope, created_at, expires_at, is_revoked, role, name, email
    FROM crm_find_access_token(:hash)
""")


def access_tokens_of(database: Database) -> AccessTokens:
    """What a worker knows of access tokens."""
    return AccessTokens(partial(_find, database))


async def _find(database: Database, hash_: bytes) -> Found | None:
    async with database.maintenance() as session:
        row = (await session.execute(FIND, {"hash": hash_})).one_or_none()
    return None if row is None else Found(*row)
