"""Registration, passwords, and what commands do with people."""

from __future__ import annotations

from uuid import UUID, uuid4

from app.identity import mails
from app.identity.caller import Caller
from app.identity.database import Database, Transaction
from app.identity.events import Kind, has_enough_mails, note, refuse_many
from app.identity.guards import Person
from app.identity.links import Purpose, forget_links, is_good, use_link
from app.identity.organizations.service import is_invited, join
from app.identity.passwords import PasswordHashes, require_good
from app.identity.sessions.schemas import Session
from app.identity.sessions.service import begin_session, check_password, end_all, is_still_set
from app.identity.users import queries
from app.identity.users.schemas import Change, Registration, Reset, Whoami
from app.settings import Settings
from app.web.email import fold_email
from app.web.errors import AppError, Code, Fault, invalid

EXISTS = "Somebody with this email address is here already: log in"


async def register(
    database: Database, hashes: PasswordHashes, settings: Settings, caller: Caller, new: Registration
) -> Session | None:
    """A session of a new person; or None, where the answer is the same whether the email is known, and a mail says it.

    Raises AppError REGISTRATION_CLOSED, INVALID_LINK, RATE_LIMITED, and EMAIL_EXISTS where no mail can be sent or
    somebody shows an invitation, which was mailed to that address.
    """
    secret = new.invitation if isinstance(new.invitation, str) else None
    _require_open(settings, new)
    require_good(new.password, new.email)
    async with database.transaction(caller) as tx:
        await refuse_many(tx, Kind.REGISTERED, new.email)
        if secret is not None:
            await _require_invited(tx, new.email, secret)
    password_hash = await hashes.hash(new.password)
    async with database.transaction(caller) as tx:
        await refuse_many(tx, Kind.REGISTERED, new.email, exactly=True)
        user_id = await _insert(tx, new, password_hash)
        by_mail = secret is None and settings.sends_mail
        is_mailed = by_mail and not await has_enough_mails(tx, Kind.REGISTERED, new.email)
        is_new = user_id is not None
        await note(tx, Kind.REGISTERED, user_id=user_id, email=new.email, is_new=is_new, is_mailed=is_mailed)
        if is_mailed:
            about = {"user": None if user_id is None else str(user_id)}
            await mails.make(tx, mails.REGISTERED, new.email, about)
        if by_mail:
            return None
        if user_id is not None:
            if secret is not None:
                await join(tx, user_id, new.email, secret)
                await tx.execute(queries.VERIFY, {"person": user_id})
            return await begin_session(tx, settings, user_id, new.email, new.name)
    raise AppError(Code.EMAIL_EXISTS, EXISTS)


def _require_open(settings: Settings, new: Registration) -> None:
    invited = isinstance(new.invitation, str)
    if settings.registers == "closed":
        raise AppError(Code.REGISTRATION_CLOSED, "Nobody can register here: ask whoever runs this service")
    if settings.registers == "invited" and not invited:
        raise AppError(Code.REGISTRATION_CLOSED)
    if invited == isinstance(new.organization, str):
        raise invalid(Fault("organization", "is required without an invitation, and must be left out with one"))


async def _require_invited(tx: Transaction, email: str, secret: str) -> None:
    await refuse_many(tx, Kind.LINK_REFUSED)
    if not await is_invited(tx, email, secret):
        raise AppError(Code.INVALID_LINK)


async def _insert(tx: Transaction, new: Registration, password_hash: str) -> UUID | None:
    """Who has registered; None where the email is known, or is at this moment."""
    called = new.organization if isinstance(new.organization, str) else None
    person = {
        "email": new.email,
        "folded": fold_email(new.email),
        "name": new.name,
        "hash": password_hash,
        "organization_id": None if called is None else str(uuid4()),
        "organization": called,
    }
    made: UUID | None = (await tx.execute(queries.REGISTER, person)).scalar_one()
    return made


async def verify_email(database: Database, caller: Caller, secret: str) -> None:
    """The person with this link reads the mails of the address. Raises AppError INVALID_LINK, RATE_LIMITED."""
    async with database.transaction(caller) as tx:
        user_id = await _use(tx, Purpose.VERIFY_EMAIL, secret)
        if user_id is not None:
            email = (await tx.execute(queries.VERIFY, {"person": user_id})).scalar_one()
            await note(tx, Kind.EMAIL_VERIFIED, user_id=user_id, email=email)
            return
    raise AppError(Code.INVALID_LINK)


async def forget_password(tx: Transaction, email: str) -> None:
    """Mail a link for a new password, if somebody has this email: who sends the mail finds that out, not this request.
    An address with enough such mails gets no more, and the answer is the same.

    Raises AppError RATE_LIMITED.
    """
    await refuse_many(tx, Kind.RESET_ASKED, email, exactly=True)
    is_mailed = not await has_enough_mails(tx, Kind.RESET_ASKED, email)
    await note(tx, Kind.RESET_ASKED, email=email, is_mailed=is_mailed)
    if is_mailed:
        await mails.make(tx, mails.RESET_PASSWORD, email, {})


async def reset_password(database: Database, hashes: PasswordHashes, caller: Caller, reset: Reset) -> None:
    """Set a new password by a link, and end all sessions. Raises AppError INVALID_LINK, RATE_LIMITED."""
    async with database.transaction(caller) as tx:
        # Before the hash, which takes much longer than to try any link.
        await refuse_many(tx, Kind.LINK_REFUSED)
        is_worth_it = await is_good(tx, Purpose.RESET_PASSWORD, reset.token)
    password_hash = await hashes.hash(reset.password) if is_worth_it else ""
    async with database.transaction(caller) as tx:
        user_id = await _use(tx, Purpose.RESET_PASSWORD, reset.token)
        if user_id is not None:
            email = (await tx.execute(queries.VERIFY, {"person": user_id})).scalar_one()
            require_good(reset.password, email)
            await set_password(tx, user_id, password_hash)
            await end_all(tx, user_id, "password")
            await note(tx, Kind.PASSWORD_RESET, user_id=user_id, email=email)
            return
    raise AppError(Code.INVALID_LINK)


async def _use(tx: Transaction, purpose: Purpose, secret: str) -> UUID | None:
    await refuse_many(tx, Kind.LINK_REFUSED, exactly=True)
    user_id = await use_link(tx, purpose, secret)
    if user_id is None:
        await note(tx, Kind.LINK_REFUSED, of=purpose.value)
    return user_id


async def change_password(
    database: Database, hashes: PasswordHashes, caller: Caller, person: Person, change: Change
) -> None:
    """Set a new password, and end all other sessions. Raises AppError INVALID_CREDENTIALS, RATE_LIMITED."""
    require_good(change.new_password, person.email, "new_password")
    known = await check_password(database, hashes, caller, person.email, change.current_password)
    password_hash = await hashes.hash(change.new_password) if known is not None else ""
    async with database.transaction(caller) as tx:
        await refuse_many(tx, Kind.LOGIN_FAILED, person.email, exactly=True)
        if known is None or not await is_still_set(tx, known):
            await note(tx, Kind.LOGIN_FAILED, user_id=person.user_id, email=person.email)
        else:
            await set_password(tx, person.user_id, password_hash)
            await end_all(tx, person.user_id, "password", but=person.session_id)
            await note(tx, Kind.PASSWORD_CHANGED, user_id=person.user_id, email=person.email)
            return
    raise AppError(Code.INVALID_CREDENTIALS, "The present password is wrong", status=400)


async def set_password(tx: Transaction, user_id: UUID, password_hash: str) -> None:
    """From now on this is the hash of the person's password, and no link from before sets another one."""
    await tx.execute(queries.SET_PASSWORD, {"person": user_id, "hash": password_hash})
    await forget_links(tx, Purpose.RESET_PASSWORD, user_id)


async def whoami(tx: Transaction, person: Person) -> Whoami:
    """Who asks."""
    is_verified = (await tx.execute(queries.IS_VERIFIED, {"person": person.user_id})).scalar_one()
    return Whoami(person.user_id, person.email, person.name, person.role, is_email_verified=is_verified)
