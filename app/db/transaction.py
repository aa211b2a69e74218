"""The one BEGIN … COMMIT. Every statement of the service runs inside, as a role that row-level security binds."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal

import msgspec
import psycopg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from app.access.actor import Actor
from app.access.permissions import Permission
from app.db.driver import Connection, Question, patience
from app.db.errors import translate
from app.db.execution import Executor, Reader, Writer
from app.db.schema import AUDITOR_ROLE, OWN_RECORDS_ROLE, SERVICE_ROLE
from app.settings import Settings
from app.web import strict_json
from app.web.preconditions import Precondition

POOL_WAIT_SECONDS = 1.5
CONNECT_SECONDS = 2

# All of it local to the transaction, so that it survives a transaction-mode pooler and nothing is left behind.
SETTINGS = {
    "role": "$1",
    "crm.tenant": "$2",
    "crm.user": "$3",
    "timezone": "'UTC'",
    "statement_timeout": "'5s'",
    "lock_timeout": "'2s'",
    # Compiling a statement takes longer than any of ours runs.
    "jit": "'off'",
}
# A read is over with its answer, and changes nothing that would be audited. Reports hash and sort in memory, as long as
# there is no more than a million of what they go by.
READS = SETTINGS | {"transaction_read_only": "'on'", "work_mem": "'16MB'"}
WRITES = SETTINGS | {"crm.actor": "$4", "idle_in_transaction_session_timeout": "'10s'"}


def _setting(settings: Mapping[str, str]) -> str:
    return "SELECT " + ", ".join(f"set_config('{name}', {value}, true)" for name, value in settings.items())


BEGIN_READ = _setting(READS)
BEGIN_WRITE = _setting(WRITES)
BEGIN_PATIENTLY = _setting(WRITES | {"statement_timeout": "'0'"})
NOBODY = (SERVICE_ROLE, "", "", "")
OVERSEER = (AUDITOR_ROLE, "", "", "")


class Origin(msgspec.Struct, frozen=True):
    """Where a request came from, for the audit log."""

    request_id: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None


class KeptAnswer(msgspec.Struct, frozen=True):
    """What was answered, as an Idempotency-Key keeps it."""

    status: int
    body: bytes
    etag: str | None


class Transaction:
    """What a service works with: the person who asks, and one open transaction of the person's tenant."""

    def __init__(
        self,
        actor: Actor,
        connection: Executor,
        precondition: Precondition | None = None,
        *,
        own_records_only: bool = False,
    ) -> None:
        self.actor = actor
        self.own_records_only = own_records_only
        self.connection = connection
        self.precondition = precondition or Precondition(())
        self.answer: KeptAnswer | None = None

    async def begin_again(self) -> None:
        """Undo everything so far, and begin anew as the same person: to look why it failed."""
        assert isinstance(self.connection, Writer), "a read writes nothing that could be undone"  # noqa: S101
        await self.connection.rollback()


class Database:
    """The pool of connections of one worker."""

    def __init__(self, settings: Settings) -> None:
        self._own_scope = settings.agent_read_scope == "own"
        self.engine: AsyncEngine = create_async_engine(
            settings.database_dsn.replace("postgresql://", "postgresql+psycopg://", 1),
            pool_size=settings.db_pool_max,
            max_overflow=0,
            pool_timeout=POOL_WAIT_SECONDS,
            pool_use_lifo=True,
            pool_reset_on_return=None,  # an Executor leaves nothing to be rolled back
            hide_parameters=True,
            connect_args={
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "crm-service",
                "async_creator_fn": Connection.connect,
                # A prepared statement belongs to a server's session, which a transaction-mode pooler hands around.
                "prepare_threshold": 0 if settings.db_prepared_statements else None,
            },
            json_serializer=lambda value: strict_json.encode(value).decode(),
            json_deserializer=msgspec.json.Decoder(float_hook=Decimal).decode,
        )
        self._slow_ms = settings.slow_query_ms

    @property
    def pool(self) -> QueuePool:
        """The pool, to be measured."""
        pool = self.engine.sync_engine.pool
        assert isinstance(pool, QueuePool)  # noqa: S101 -- the engine's default
        return pool

    async def open(self, count: int) -> None:
        """Open this many connections ahead of the first requests; a database that is away gets them later."""
        with contextlib.suppress(psycopg.Error, SQLAlchemyError, OSError), contextlib.ExitStack() as held:
            for _ in range(count):
                connection = await self.engine.raw_connection()
                held.callback(connection.close)

    @asynccontextmanager
    async def transaction(
        self,
        actor: Actor,
        origin: Origin,
        *,
        read_only: bool = False,
        precondition: Precondition | None = None,
    ) -> AsyncIterator[Transaction]:
        """Begin as this person, commit when the block ends well, roll back when it does not.

        Raises AppError for what the database refuses, and SERVICE_UNAVAILABLE where it can't be reached or is too slow.
        """
        limited = self._own_scope and not actor.can(Permission.MANAGE_ALL)
        who = (OWN_RECORDS_ROLE if limited else SERVICE_ROLE, actor.tenant_id, actor.user_id)
        if read_only:
            async with _in_words(), Reader(self.engine, Question(BEGIN_READ, who), self._slow_ms) as reader:
                yield Transaction(actor, reader, own_records_only=limited)
        else:
            async with self._writing(Question(BEGIN_WRITE, (*who, _described(actor, origin)))) as writer:
                yield Transaction(actor, writer, precondition, own_records_only=limited)

    @asynccontextmanager
    async def upkeep(self) -> AsyncIterator[Executor]:
        """Begin as nobody: no tenant's rows are seen, and the functions for upkeep may be called.

        Raises AppError as `transaction`.
        """
        async with self._writing(Question(BEGIN_WRITE, NOBODY)) as writer:
            yield writer

    @asynccontextmanager
    async def oversight(self) -> AsyncIterator[Executor]:
        """Begin as who may read the audit logs of all tenants, which the service's login may not; for commands, whose
        statements may take long.

        Raises AppError as `transaction`.
        """
        with patience(None):
            async with self._writing(Question(BEGIN_PATIENTLY, OVERSEER)) as writer:
                yield writer

    @asynccontextmanager
    async def _writing(self, who: Question) -> AsyncIterator[Writer]:
        async with _in_words(), Writer(self.engine, who, self._slow_ms) as writer:
            yield writer
            await writer.commit()


def _described(actor: Actor, origin: Origin) -> str:
    """Who asks, and from where, for the audit log."""
    described = {"user_id": actor.user_id, "user_name": actor.name or actor.email, "user_role": actor.role}
    return msgspec.json.encode(described | msgspec.structs.asdict(origin)).decode()


@asynccontextmanager
async def _in_words() -> AsyncIterator[None]:
    """What the database refuses inside, as an AppError."""
    try:
        yield
    except Exception as error:
        translated = translate(error)
        if translated is error:
            raise
        raise translated from error
