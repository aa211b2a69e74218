"""What services work with: the person who asks, and one open transaction of the person's tenant."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from uuid import UUID

from msgspec import Struct
from psycopg.errors import IntegrityError

from app.access.actor import Actor
from app.db.database import Database, Origin
from app.db.session import Session, Writer
from app.records.resources import refusal_of
from app.web.preconditions import Precondition

# In a dry run new records get ids from here on: no sequence ever comes so far, and they are easy to tell.
FIRST_PLACEHOLDER_ID = 2**62


class KeptAnswer(Struct, frozen=True):
    """An answer, as it is kept under an Idempotency-Key."""

    status: int
    body: bytes
    etag: str | None
    operation_id: UUID | None


class _Tried(Exception):
    """Undoes what was only tried."""


class Transaction:
    """A person's transaction, with the request's If-Match and, in the end, its answer."""

    def __init__(
        self,
        actor: Actor,
        connection: Session,
        precondition: Precondition | None = None,
        *,
        own_records_only: bool = False,
        operation_id: UUID | None = None,
        dry_run: bool = False,
    ) -> None:
        self.actor = actor
        # What it changes is one operation in the audit log.
        self.operation_id = operation_id
        # Whether it is undone in the end.
        self.dry_run = dry_run
        # Two dry runs at the same time do not wait for each other's ids.
        first = FIRST_PLACEHOLDER_ID + (secrets.randbits(40) << 16)
        self.placeholder_ids = range(first, first)
        self.own_records_only = own_records_only
        self.connection = connection
        self.precondition = precondition or Precondition(())
        self.answer: KeptAnswer | None = None

    def placeholder_id(self) -> int:
        """An id for a record that a dry run makes: it takes none from a sequence, and is known as one that is new."""
        self.placeholder_ids = range(self.placeholder_ids.start, self.placeholder_ids.stop + 1)
        return self.placeholder_ids[-1]

    async def begin_again(self) -> None:
        """Undo everything so far, or in a savepoint what was done in it, to find out why it failed."""
        await self._writer.begin_again()

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A part of the transaction: if it fails, it alone is undone.

        Raises AppError for what a constraint refuses as its resource declares.
        """
        with constraints_as_refusals():
            async with self._writer.savepoint():
                yield

    @asynccontextmanager
    async def trial(self) -> AsyncIterator[None]:
        """A part of the transaction that is undone in any case, to see what is refused. Raises as `savepoint`."""
        with suppress(_Tried):
            async with self.savepoint():
                yield
                raise _Tried

    @property
    def _writer(self) -> Writer:
        assert isinstance(self.connection, Writer), "a read writes nothing that could be undone"  # noqa: S101
        return self.connection


@asynccontextmanager
async def reading(
    database: Database, actor: Actor, *, one_statement: bool = False, standby: bool = False
) -> AsyncIterator[Transaction]:
    """Read as this person: at one moment, or by one statement; from the standby or not, and raises AppError, as
    `Database.reader`.
    """
    async with database.reader(actor, one_statement=one_statement, standby=standby) as session:
        yield Transaction(actor, session, own_records_only=database.sees_own_only(actor))


@asynccontextmanager
async def writing(
    database: Database,
    actor: Actor,
    origin: Origin,
    precondition: Precondition | None = None,
    *,
    dry_run: bool = False,
) -> AsyncIterator[Transaction]:
    """Read and write as this person; committed when the block ends well.

    Raises AppError as `Database.writer`, and for what a constraint refuses as its resource declares.
    """
    with constraints_as_refusals():
        async with database.writer(actor, origin) as session:
            yield Transaction(
                actor,
                session,
                precondition,
                own_records_only=database.sees_own_only(actor),
                operation_id=origin.operation_id,
                dry_run=dry_run,
            )


@contextmanager
def constraints_as_refusals() -> Iterator[None]:
    """What a constraint refuses inside, as the AppError that its resource declares for it."""
    try:
        yield
    except IntegrityError as error:
        refusal = refusal_of(error.diag.constraint_name, error.diag.message_detail)
        if refusal is None:
            raise
        raise refusal from error
