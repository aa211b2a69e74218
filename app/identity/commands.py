"""What the commands of `crm identity` do: making the first people, and looking at what happened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

from msgspec import Struct
from sqlalchemy import bindparam, select
from sqlalchemy.types import BigInteger, Text

from app.access.permissions import Role
from app.db.result import RowMapping
from app.identity.caller import OPERATOR
from app.identity.database import Database, Transaction
from app.identity.events import Kind, note
from app.identity.links import Purpose, make_link
from app.identity.models import AuthEvent
from app.identity.organizations import queries as organizations
from app.identity.organizations.service import create, sign_out
from app.identity.passwords import PasswordHashes, require_good
from app.identity.sessions.service import Known, end_all, find_by_email, organizations_of
from app.identity.users import queries
from app.identity.users.service import set_password
from app.settings import Settings
from app.web.email import fold_email
from app.web.text import is_text, normalized

event = AuthEvent.__table__.c
EVENTS = (
    select(event.at, event.kind, event.email, event.user_id, event.organization_id, event.network, event.data)
    .where((event.email_folded == bindparam("folded", type_=Text)) | bindparam("folded", type_=Text).is_(None))
    .order_by(event.id.desc())
    .limit(bindparam("most", type_=BigInteger))
)


class CommandError(Exception):
    """It can't be done; the message is for the operator."""


class New(Struct, frozen=True, kw_only=True):
    """Somebody to add, as a member of an organization, which is made if it is not there."""

    email: str
    name: str
    role: Role
    organization: str
    password: str
    # In place of random ones: of people and organizations that have records in the CRM already.
    user_id: UUID | None = None
    organization_id: str | None = None


@asynccontextmanager
async def transaction(settings: Settings) -> AsyncIterator[Transaction]:
    """A transaction of whoever runs the command. Raises AppError."""
    async with Database(settings) as database, database.transaction(OPERATOR) as tx:
        yield tx


async def add_users(settings: Settings, people: Sequence[New]) -> None:
    """Add people with their passwords. Raises CommandError, AppError."""
    hashes = PasswordHashes(settings)
    for new in people:
        if not is_text(new.password):
            raise CommandError("The password has characters that nobody can type: NUL, or bytes that are no UTF-8")
        require_good(normalized(new.password), new.email)
    async with transaction(settings) as tx:
        for new in people:
            await _add(tx, new, await hashes.hash(normalized(new.password)))


async def _add(tx: Transaction, new: New, password_hash: str) -> None:
    if await find_by_email(tx, new.email) is not None:
        raise CommandError(f"{new.email} is there already: crm identity user reset gives a new password")
    person = {
        "new_id": new.user_id or uuid4(),
        "address": new.email,
        "folded": fold_email(new.email),
        "called": new.name,
    }
    user_id: UUID = (await tx.execute(queries.ADD, person)).scalar_one()
    await set_password(tx, user_id, password_hash)
    found = await _organization(tx, new.organization)
    if found is not None:
        member = {"here": found, "person": user_id, "as_role": new.role.value}
        await tx.execute(organizations.JOIN, member)
    elif new.role is not Role.ADMIN:
        raise CommandError(
            f"There is no organization {new.organization!r}, and the first one of a new one is its admin"
        )
    else:
        found = (await create(tx, user_id, new.organization, new.organization_id)).id
    await note(tx, Kind.USER_ADDED, user_id=user_id, email=new.email, organization_id=found, role=new.role.value)


async def _organization(tx: Transaction, called: str) -> str | None:
    """The id of an organization, by its id or its name. Raises CommandError for several of this name."""
    found = (await tx.execute(organizations.FIND_BY_NAME, {"called": called})).scalars().all()
    if called in found:
        return called
    if len(found) > 1:
        raise CommandError(
            f"There are {len(found)} organizations of this name: name one by its id, of {', '.join(found)}"
        )
    return found[0] if found else None


async def known_emails(settings: Settings) -> set[str]:
    """Everybody's email."""
    return {email for _, email, *_ in await list_users(settings)}


async def list_users(settings: Settings) -> list[Any]:
    """Everybody: id, email, name, whether they may log in, and where as what."""
    async with transaction(settings) as tx:
        return (await tx.execute(queries.LIST)).all()


async def list_organizations(settings: Settings) -> list[Any]:
    """All of them: id, name, the owner's email, since when, and how many members."""
    async with transaction(settings) as tx:
        return (await tx.execute(organizations.LIST)).all()


async def set_active(settings: Settings, email: str, *, active: bool) -> None:
    """Let somebody log in, or not any more; then all sessions end, in the CRM too. Raises CommandError."""
    async with transaction(settings) as tx:
        known = await _known(tx, email)
        await tx.execute(queries.SET_ACTIVE, {"person": known.id, "active": active})
        if not active:
            await end_all(tx, known.id, "disabled")
            places = await organizations_of(tx, known.id, for_a_token=True)
            await sign_out(tx, [each.id for each in places], known.id, "crm identity user disable")
        await note(tx, Kind.USER_ENABLED if active else Kind.USER_DISABLED, user_id=known.id, email=known.email)


async def reset(settings: Settings, email: str) -> str:
    """The secret of a link for a new password. Raises CommandError."""
    async with transaction(settings) as tx:
        known = await _known(tx, email)
        await note(tx, Kind.RESET_ASKED, user_id=known.id, email=known.email, by="operator")
        return await make_link(tx, Purpose.RESET_PASSWORD, known.id)


async def _known(tx: Transaction, email: str) -> Known:
    known = await find_by_email(tx, email)
    if known is None:
        raise CommandError(f"Nobody has the address {email}")
    return known


async def events(settings: Settings, email: str | None, most: int) -> list[RowMapping]:
    """The newest entries, of all or about one email."""
    async with transaction(settings) as tx:
        folded = None if email is None else fold_email(email)
        return (await tx.execute(EVENTS, {"folded": folded, "most": most})).mappings().all()
