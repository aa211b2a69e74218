"""The mails of `crm identity`: they wait in a table of its own, and what one says is made when it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import bindparam, func, insert, literal_column, null, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.types import BigInteger, Text, Uuid

from app.db.session import Session
from app.identity.caller import OPERATOR
from app.identity.database import Database, Transaction
from app.identity.links import IS_GOOD_INVITATION, Purpose, give_secret, make_link
from app.identity.models import Invitation, Organization, RefusedAddress, User
from app.identity.models import Mail as Row
from app.identity.models import Session as Device
from app.locales import Locale
from app.mail.messages import Recipient, Written
from app.mail.metrics import OLDEST, WAITING
from app.mail.outbox import PATIENCE_SECONDS, SILENT_SECONDS, Mail, MailTable
from app.mail.sender import DropError, MailSender
from app.mail.templates import as_text, render
from app.mail.texts import Say
from app.settings import Settings
from app.web.email import fold_email

# Somebody has registered: `user` is null if the address was known, which only its owner is told.
REGISTERED = "registered"
RESET_PASSWORD = "reset_password"
INVITATION = "invitation"
TOKEN_REUSED = "token_reused"
# Pages of the console that links lead to.
PAGES = {REGISTERED: "verify-email", RESET_PASSWORD: "reset-password", INVITATION: "accept-invitation"}
# The outbox has no tenants.
NO_TENANT = "identity"

c = Row.__table__.c
refused = RefusedAddress.__table__.c
user, invitation = User.__table__.c, Invitation.__table__.c
organization, session = Organization.__table__.c, Device.__table__.c

MAKE = insert(Row).values(
    kind=bindparam("mail_kind"), address=bindparam("to"), about=bindparam("concerning"), locale=bindparam("language")
)
# As literals: so are the conditions of the indexes.
WAITS = c.status == literal_column("'waiting'")
# What a mail is about, and in which language.
ABOUT = c.about.op("||", return_type=JSONB)(func.jsonb_build_object("locale", c.locale))
DUE = (
    select(c.id)
    .where(WAITS, c.due_at <= func.now())
    .order_by(c.due_at, c.id)
    .limit(bindparam("most", type_=BigInteger))
)
GIVE_UP = (
    update(Row)
    .where(WAITS, c.created_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, PATIENCE_SECONDS))
    .values(status="failed", error="It waited for too long", finished_at=func.now())
)
DOUBT = (
    update(Row)
    .where(
        c.status == literal_column("'sending'"),
        c.taken_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, SILENT_SECONDS),
    )
    .values(
        status="unknown",
        error="The worker died while it sent this: it may have been sent",
        finished_at=func.now(),
    )
)
COUNT = select(func.count(), func.coalesce(func.extract("epoch", func.now() - func.min(c.due_at)), 0)).where(WAITS)
# As servers know it: of two addresses that are alike, one can be refused and the other not.
IS_REFUSED = select(refused.answer).where(refused.address_folded == bindparam("server_form", type_=Text))
REFUSE = (
    upsert(RefusedAddress)
    .values(address_folded=bindparam("server_form"), answer=bindparam("reason"))
    .on_conflict_do_nothing()
)
_find_user = select(user.id, user.name, user.email).where(user.is_active)
USER_BY_ID = _find_user.where(user.id == bindparam("person", type_=Uuid))
USER_BY_EMAIL = _find_user.where(user.email_folded == bindparam("folded", type_=Text))
INVITATION_BY_ID = (
    select(invitation.id, organization.name, user.name)
    .select_from(
        Invitation.__table__.join(Organization.__table__, invitation.organization_id == organization.id).join(
            User.__table__, invitation.invited_by == user.id
        )
    )
    .where(invitation.id == bindparam("invitation_id", type_=Uuid), IS_GOOD_INVITATION)
)
SESSION_BY_ID = select(session.user_agent, session.address).where(session.id == bindparam("one", type_=Uuid))


async def make(tx: Transaction, kind: str, address: str, about: Mapping[str, Any]) -> None:
    """Make a mail in this transaction. It is the same work for every address."""
    about = dict(about)
    made = {"mail_kind": kind, "to": address, "concerning": about, "language": tx.caller.locale.value}
    await tx.execute(MAKE, made)


class Outbox(MailTable):
    """The mails of `crm identity`, for who sends them."""

    def __init__(self, database: Database) -> None:
        shown = (c.id, c.message_id, c.kind, ABOUT, null(), c.address, c.attempts)
        super().__init__(self._session, Row, shown, is_refused=IS_REFUSED, refuse=REFUSE)
        self._database = database

    @asynccontextmanager
    async def _session(self, _: str) -> AsyncIterator[Session]:
        async with self._database.transaction(OPERATOR) as tx:
            yield tx.connection

    async def due(self, most: int) -> list[tuple[str, int]]:
        """Mails that are due. Raises AppError."""
        async with self._database.transaction(OPERATOR) as tx:
            found = (await tx.execute(DUE, {"most": most})).scalars().all()
        return [(NO_TENANT, mail_id) for mail_id in found]

    async def tend(self) -> None:
        """End what waited too long, and tell monitors how many mails wait. Raises AppError."""
        async with self._database.transaction(OPERATOR) as tx:
            await tx.execute(GIVE_UP)
            await tx.execute(DOUBT)
            waiting, oldest = (await tx.execute(COUNT)).one()
        WAITING.set(waiting)
        OLDEST.set(float(oldest))


class Writer:
    """Writes them. A secret is made here and now, and not before: so none waits in the database."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    async def registered(self, _: str, mail: Mail) -> tuple[Written, Recipient]:
        """To a new person: is this your address? To one who was here: somebody tried to register with it."""
        if mail.about["user"] is None:
            async with self._database.transaction(OPERATOR) as tx:
                owner = await self._owner(mail, tx)
            return self._written(mail, "registered_again", None, None, address=owner[2])
        async with self._database.transaction(OPERATOR) as tx:
            row = (await tx.execute(USER_BY_ID, {"person": UUID(mail.about["user"])})).first()
            if row is None:
                raise DropError("The person is not there any more, or may not log in")
            secret = await make_link(tx, Purpose.VERIFY_EMAIL, row[0])
        return self._written(mail, "registered", row[1], secret)

    async def reset_password(self, _: str, mail: Mail) -> tuple[Written, Recipient]:
        """Raises DropError where nobody has this address: whoever asked is not told."""
        async with self._database.transaction(OPERATOR) as tx:
            user_id, name, address = await self._owner(mail, tx)
            secret = await make_link(tx, Purpose.RESET_PASSWORD, user_id)
        return self._written(mail, "reset_password", name, secret, address=address)

    async def invitation(self, _: str, mail: Mail) -> tuple[Written, Recipient]:
        """Raises DropError where the invitation was withdrawn or is too old."""
        async with self._database.transaction(OPERATOR) as tx:
            found = {"invitation_id": UUID(mail.about["invitation"])}
            row = (await tx.execute(INVITATION_BY_ID, found)).first()
            if row is None:
                raise DropError("The invitation is not there any more")
            secret = await give_secret(tx, row[0])
        return self._written(mail, "invitation", None, secret, organization=row[1], inviter=row[2])

    async def token_reused(self, _: str, mail: Mail) -> tuple[Written, Recipient]:
        """Raises AppError."""
        async with self._database.transaction(OPERATOR) as tx:
            row = (await tx.execute(SESSION_BY_ID, {"one": UUID(mail.about["session"])})).first()
        device = " · ".join(filter(None, row or ())) or "?"
        return self._written(mail, "token_reused", None, None, device=device)

    async def _owner(self, mail: Mail, tx: Transaction) -> tuple[UUID, str, str]:
        """Whose address this is: id, name and email.

        What is for them goes to the address that they gave: another one that is alike can be somebody else's.
        """
        owner = (await tx.execute(USER_BY_EMAIL, {"folded": fold_email(mail.address or "")})).first()
        if owner is None:
            raise DropError("Nobody with this address may log in")
        user_id, name, address = owner
        return user_id, name, address

    def _written(
        self, mail: Mail, what: str, name: str | None, secret: str | None, *, address: str | None = None, **more: str
    ) -> tuple[Written, Recipient]:
        locale = Locale(mail.about["locale"])
        say = Say(locale)
        subject = say(f"{what}_subject", **more)
        values = {
            "subject": subject,
            "hello": say("hello", name=name) if name else say("hello_nobody"),
            "sentence": say(f"{what}_text", **more),
            "link": self._link(mail.kind, secret) if secret else None,
            "action": say(f"{what}_action") if secret else "",
            "secret": secret,
            "why": say("why_identity"),
            "unsubscribe": None,
        }
        written = Written(
            subject=subject,
            text=as_text("identity.txt", locale, values),
            html=render("identity.html", locale, values),
            locale=locale.value,
        )
        return written, Recipient(address or mail.address or "", name)

    def _link(self, kind: str, secret: str) -> str | None:
        address = self._settings.console_url.rstrip("/")
        return f"{address}/{PAGES[kind]}?token={quote(secret)}" if address else None


def mail_sender(settings: Settings, database: Database) -> MailSender:
    """What sends all mails of `crm identity`."""
    writer = Writer(database, settings)
    writers = {
        REGISTERED: writer.registered,
        RESET_PASSWORD: writer.reset_password,
        INVITATION: writer.invitation,
        TOKEN_REUSED: writer.token_reused,
    }
    return MailSender(Outbox(database), settings, writers)
