"""The sessions of one worker: each as a role that row-level security binds, in one tenant, with limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self
from uuid import UUID

import msgspec

from app.access.actor import Actor
from app.access.permissions import Permission
from app.db.pool import Pool, response_timeout
from app.db.roles import AUDITOR_ROLE, OWN_RECORDS_ROLE, SERVICE_ROLE, set_for_transaction
from app.db.session import Identity, Reader, Session, SingleReader, Writer
from app.db.standby import Standby
from app.settings import Settings

# All of it local to the transaction, so that it survives a transaction-mode pooler and nothing is left behind.
LIMITS = {
    "timezone": "'UTC'",
    "statement_timeout": "'5s'",
    "lock_timeout": "'2s'",
    "idle_in_transaction_session_timeout": "'10s'",
    # JIT costs more than it saves: no statement here runs long enough.
    "jit": "'off'",
}
SETTINGS = {"role": "$1", "crm.tenant": "$2", "crm.user": "$3"} | LIMITS
# A read needs no crm.actor, because it changes nothing. Its work_mem is enough to hash or sort about a million keys,
# for reports.
READS = SETTINGS | {"transaction_read_only": "'on'", "work_mem": "'16MB'"}
WRITES = SETTINGS | {"crm.actor": "$4"}


BEGIN_READ = set_for_transaction(READS)
BEGIN_UNLIMITED = set_for_transaction(WRITES | {"statement_timeout": "'0'"})
NOBODY = (SERVICE_ROLE, "", "", "")
AUDITOR = (AUDITOR_ROLE, "", "", "")


class Origin(msgspec.Struct, frozen=True):
    """Where a request came from, for the audit log. Everything that it changes is one operation."""

    operation_id: UUID | None = None
    via: str | None = None
    request_id: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None


class Pooled:
    """Writes over one worker's pool. It is a context: the pool is open inside."""

    def __init__(self, settings: Settings, *, least: int | None = None) -> None:
        self._slow_ms = settings.slow_query_ms
        self.pool = Pool(
            settings.database_dsn,
            least=settings.db_pool_min if least is None else least,
            most=settings.db_pool_max,
            prepare=settings.db_prepared_statements,
            measured=True,
        )
        # Where there is one, some reads go there.
        self.standby = (
            Standby(settings.read_dsn, self.pool, most=settings.db_pool_max, prepare=settings.db_prepared_statements)
            if settings.read_dsn
            else None
        )

    async def __aenter__(self) -> Self:
        await self.pool.open()
        if self.standby is not None:
            await self.standby.pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.close()
        if self.standby is not None:
            await self.standby.pool.close()

    def _writer(self, identity: Identity) -> Writer:
        """Commit when the block ends well, roll back when it does not. Raises AppError as `Database.reader`."""
        return Writer(self.pool, identity, self._slow_ms)


class Database(Pooled):
    """Opens sessions of people in their tenants, over one worker's pool."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # Whether agents see only what is their own.
        self.own_scope = settings.agent_read_scope == "own"
        limits = {f"crm.max_{name}": f"'{most}'" for name, most in settings.quotas.items()}
        self._begin_write = set_for_transaction(WRITES | limits)

    def sees_own_only(self, actor: Actor) -> bool:
        """Whether this person sees only what is their own."""
        return self.own_scope and not actor.can(Permission.MANAGE_ALL)

    def reader(self, actor: Actor, *, one_statement: bool = False, standby: bool = False) -> Reader:
        """Read as this person: at one moment, or by one statement. With `standby` from the standby, if there is one
        and it has everything that is committed by now: for what takes long, since it costs two round trips more.

        Raises AppError for what the database refuses, and SERVICE_UNAVAILABLE where it can't be reached or is too slow.
        """
        kind = SingleReader if one_statement else Reader
        pool = self.standby.first() if standby and self.standby is not None else self.pool
        return kind(pool, Identity(BEGIN_READ, self._who(actor)), self._slow_ms)

    def writer(self, actor: Actor, origin: Origin) -> Writer:
        """Read and write as this person: commit when the block ends well, roll back when it does not.

        Raises AppError as `reader`.
        """
        return self._writer(Identity(self._begin_write, (*self._who(actor), _audited(actor, origin))))

    def maintenance(self) -> Writer:
        """Begin as nobody: no tenant's rows are seen, and the functions for maintenance may be called.

        Raises AppError as `reader`.
        """
        return self._writer(Identity(self._begin_write, NOBODY))

    def in_tenant(self, tenant_id: str) -> Writer:
        """Begin in this tenant as nobody: for what the service itself notes there, such as the state of a job.

        Raises AppError as `reader`.
        """
        return self._writer(Identity(self._begin_write, (SERVICE_ROLE, tenant_id, "", "")))

    @asynccontextmanager
    async def oversight(self) -> AsyncIterator[Session]:
        """A session as crm_auditor, which may read the audit logs of all tenants. For commands: the service's login may
        not act as it. It has no statement timeout.

        Raises AppError as `reader`.
        """
        with response_timeout(None):
            async with self._writer(Identity(BEGIN_UNLIMITED, AUDITOR)) as session:
                yield session

    def _who(self, actor: Actor) -> tuple[str, str, str]:
        return (OWN_RECORDS_ROLE if self.sees_own_only(actor) else SERVICE_ROLE, actor.tenant_id, actor.user_id)


def _audited(actor: Actor, origin: Origin) -> str:
    """Who asks, and from where, for the audit log."""
    described = {"user_id": actor.user_id, "user_name": actor.name or actor.email, "user_role": actor.role}
    return msgspec.json.encode(described | msgspec.structs.asdict(origin)).decode()
