"""Mails as the database keeps them: they are made, taken by who sends them, and get their results.

Whatever runs here is a short transaction: nobody waits for the network in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Executable,
    Text,
    bindparam,
    func,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import DeclarativeBase

from app.db.database import Database
from app.db.session import Session
from app.mail.metrics import OLDEST, WAITING
from app.models import Mail as Row
from app.models import RefusedAddress
from app.records.transaction import Transaction
from app.web.email import ascii_address

PATIENCE_SECONDS = 86_400
# Whoever takes a mail for longer than this is dead.
SILENT_SECONDS = 600
KEPT_DAYS, PRUNED_AT_ONCE = 30, 500

c = Row.__table__.c
refused = RefusedAddress.__table__.c

DUE = text("SELECT tenant_id, id FROM crm_due_mails(:most)")
TEND = text("SELECT waiting, oldest FROM crm_tend_mails(:patience, :silent)")
MAKE_DIGESTS = text("SELECT crm_make_digests()")
PRUNE = text("SELECT crm_prune_mails(:days, :most)")

IS_REFUSED = select(refused.answer).where(refused.address_folded == func.crm_fold_email(bindparam("to")))
REFUSE = (
    insert(RefusedAddress)
    .values(
        tenant_id=func.current_setting("crm.tenant"),
        address_folded=func.crm_fold_email(bindparam("to")),
        answer=bindparam("reason"),
    )
    .on_conflict_do_nothing()
)
_given = func.unnest(bindparam("addresses", type_=ARRAY(Text))).column_valued("given")
MAKE_TO_ADDRESSES = (
    insert(Row)
    .from_select(
        ["tenant_id", "kind", "key", "about", "address"],
        select(
            func.current_setting("crm.tenant"),
            bindparam("mail_kind", type_=Text),
            bindparam("mail_key", type_=Text) + literal_column("' '") + func.crm_fold_email(_given),
            bindparam("mail_about", type_=JSONB),
            _given,
        ),
    )
    .on_conflict_do_nothing()
)


class Mail(Struct, frozen=True):
    """A mail that this worker has taken, to send it now."""

    id: int
    message_id: UUID
    kind: str
    about: dict[str, Any]
    user_id: int | str | None
    address: str | None
    attempts: int


async def make(tx: Transaction, kind: str, key: str, about: Mapping[str, Any], addresses: Sequence[str]) -> None:
    """Make a mail to each address, in this transaction; once for each kind, key and address."""
    given = {"mail_kind": kind, "mail_key": key, "mail_about": dict(about), "addresses": list(addresses)}
    await tx.connection.execute(MAKE_TO_ADDRESSES, given)


class MailTable:
    """A table of mails, and what becomes of each. Every method is a transaction of its own, and raises AppError."""

    def __init__(
        self,
        in_tenant: Callable[[str], AbstractAsyncContextManager[Session]],
        table: type[DeclarativeBase],
        shown: Sequence[ColumnElement[Any]],
        *,
        is_refused: Executable,
        refuse: Executable,
    ) -> None:
        c = table.__table__.c
        self._in_tenant = in_tenant
        mail = update(table).where(c.id == bindparam("mail_id"))
        # From now on it is sent once or never, by whoever got it here.
        self._take = (
            mail.where(c.status == "waiting", c.due_at <= func.now())
            .values(status="sending", taken_at=func.now(), attempts=c.attempts + 1)
            .returning(*shown)
        )
        self._end = mail.where((c.status == "sending") | (c.status == "unknown")).values(
            status=bindparam("ending"), error=bindparam("reason"), finished_at=func.now()
        )
        self._again = mail.where(c.status == "sending").values(
            status="waiting",
            error=bindparam("reason"),
            due_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, bindparam("pause")),
        )
        self._is_refused, self._refuse = is_refused, refuse

    async def take(self, tenant_id: str, mail_id: int) -> Mail | None:
        """Take a mail; None if somebody else has it."""
        async with self._in_tenant(tenant_id) as session:
            row = (await session.execute(self._take, {"mail_id": mail_id})).first()
        return None if row is None else Mail(*row)

    async def refusal(self, tenant_id: str, address: str) -> str | None:
        """What a mail server answered when it refused this address for good, if one did."""
        async with self._in_tenant(tenant_id) as session:
            answer: str | None = (await session.execute(self._is_refused, _key(address))).scalar_one_or_none()
        return answer

    async def end(self, tenant_id: str, mail: Mail, status: str, error: str | None = None) -> None:
        """Keep what came of a mail."""
        async with self._in_tenant(tenant_id) as session:
            await session.execute(self._end, {"mail_id": mail.id, "ending": status, "reason": error})

    async def refuse(self, tenant_id: str, mail: Mail, address: str, answer: str) -> None:
        """End a mail, and send no other to this address."""
        async with self._in_tenant(tenant_id) as session:
            await session.execute(self._refuse, _key(address) | {"reason": answer})
            await session.execute(self._end, {"mail_id": mail.id, "ending": "refused", "reason": answer})

    async def again(self, tenant_id: str, mail: Mail, pause: float, error: str | None) -> None:
        """Let a mail that was certainly not sent wait for its next attempt."""
        async with self._in_tenant(tenant_id) as session:
            await session.execute(self._again, {"mail_id": mail.id, "pause": pause, "reason": error})


def _key(address: str) -> dict[str, str]:
    try:
        server_form = ascii_address(address)
    except ValueError:
        server_form = address  # which is not sent
    return {"to": address, "server_form": server_form.lower()}


class Outbox(MailTable):
    """The mails of all tenants, for who sends them."""

    def __init__(self, database: Database) -> None:
        shown = (c.id, c.message_id, c.kind, c.about, c.user_id, c.address, c.attempts)
        super().__init__(database.in_tenant, Row, shown, is_refused=IS_REFUSED, refuse=REFUSE)
        self._database = database

    async def due(self, most: int) -> list[tuple[str, int]]:
        """Mails that are due, by tenant and id; tenants take turns. Raises AppError."""
        async with self._database.maintenance() as session:
            return [(tenant, mail) for tenant, mail in await session.execute(DUE, {"most": most})]

    async def tend(self) -> None:
        """Make the digests that are due, and end what waited too long. Raises AppError."""
        await make_digests(self._database)
        await tend(self._database)


async def tend(database: Database) -> None:
    """End what waited too long, and tell monitors how many mails wait. Raises AppError."""
    async with database.maintenance() as session:
        waiting, oldest = (await session.execute(TEND, {"patience": PATIENCE_SECONDS, "silent": SILENT_SECONDS})).one()
    WAITING.set(waiting)
    OLDEST.set(oldest)


async def make_digests(database: Database) -> int:
    """Make the digests that are due; returns how many. Any number of workers may do so. Raises AppError."""
    async with database.maintenance() as session:
        return int((await session.execute(MAKE_DIGESTS)).scalar_one())


async def prune_mails(database: Database) -> int:
    """Delete some of the mails that were made long ago; returns how many. Raises AppError."""
    async with database.maintenance() as session:
        return int((await session.execute(PRUNE, {"days": KEPT_DAYS, "most": PRUNED_AT_ONCE})).scalar_one())
