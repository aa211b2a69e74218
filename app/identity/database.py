"""The transactions of one worker, each as the role crm_identity in the schema `identity`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import structlog
from psycopg.errors import IntegrityError
from sqlalchemy import Executable

from app.db.database import LIMITS, Pooled
from app.db.result import Result
from app.db.roles import IDENTITY_ROLE, SERVICE_ROLE, set_for_transaction
from app.db.session import Identity, Writer
from app.identity.caller import Caller
from app.settings import Settings
from app.web.errors import AppError, Code

log = structlog.get_logger("startup")

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "identity.migrations"

# Fifty who refresh one session wait for each other.
BEGIN = set_for_transaction(LIMITS | {"role": "$1", "search_path": "$2", "lock_timeout": "'5s'"})
IDENTITY = Identity(BEGIN, (IDENTITY_ROLE, "identity, pg_temp"), "crm identity upgrade")
LEAST_CONNECTIONS = 2
# What the database refuses, by the constraint.
REFUSALS = {
    "users_email_key": (Code.EMAIL_EXISTS, "Somebody with this email address is here already: log in"),
    "last_admin": (Code.LAST_ADMIN, "Somebody has to stay admin of the organization"),
    "organizations_owner_fkey": (Code.OWNER_STAYS, None),
    "memberships_pkey": (Code.MEMBER_EXISTS, None),
}
CONNECT_SECONDS = 2
POWERS = """
    SELECT session_user, EXISTS (
        SELECT FROM pg_roles
        WHERE (rolsuper OR rolbypassrls OR rolname = %s) AND pg_has_role(session_user, oid, 'MEMBER'))
"""


class Transaction:
    """One transaction, and where the request that it is for came from."""

    def __init__(self, connection: Writer, caller: Caller) -> None:
        self.connection = connection
        self.caller = caller

    async def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Result[Any]:
        """One statement. Raises psycopg.Error."""
        return await self.connection.execute(statement, parameters)


class Database(Pooled):
    """Opens transactions over one worker's pool."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, least=min(settings.db_pool_min, LEAST_CONNECTIONS))

    @asynccontextmanager
    async def transaction(self, caller: Caller) -> AsyncIterator[Transaction]:
        """Commit when the block ends well, roll back when it does not.

        Raises AppError for what the database refuses, and SERVICE_UNAVAILABLE where it can't be reached or is too slow.
        """
        with _refusals():
            async with self._writer(IDENTITY) as connection:
                yield Transaction(connection, caller)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        refusal = REFUSALS.get(error.diag.constraint_name or "")
        if refusal is None:
            raise
        raise AppError(refusal[0], refusal[1]) from error


class UnsafeLoginError(Exception):
    """The login could do what only the CRM's may."""


def check_login(dsn: str, *, production: bool) -> None:
    """Refuse to start in production with a login that reads the CRM's tables. A database that is away is for /ready to
    say.

    Raises UnsafeLoginError.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_SECONDS) as connection:
            powers = connection.execute(POWERS, [SERVICE_ROLE]).fetchone()
    except psycopg.Error:
        log.warning("the database can't be reached yet, or is not prepared")
        return
    if powers is not None and powers[1] and production:
        raise UnsafeLoginError(
            f"DATABASE_URL: the login {powers[0]} can act as {SERVICE_ROLE}, and so read the CRM's tables. Give crm"
            " identity a login of its own, without rights: CREATE ROLE crm_identity_login LOGIN"
        )
