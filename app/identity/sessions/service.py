"""Who comes in, how a session goes on, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct

from app.access.permissions import Role
from app.identity import mails
from app.identity.caller import Caller
from app.identity.database import Database, Transaction
from app.identity.events import Kind, note, refuse_many
from app.identity.organizations.schemas import Organization
from app.identity.organizations.service import join
from app.identity.passwords import PasswordHashes
from app.identity.sessions import queries
from app.identity.sessions.schemas import Login, Person, Session
from app.identity.tokens import Bearer, access_token, hash_of, new_secret, successors
from app.settings import Settings
from app.web.email import fold_email
from app.web.errors import AppError, Code
from app.web.limits import RateLimiter

# So long after a refresh token was spent, whoever sends it again gets the same pair: the answer was lost, or two
# windows of one browser were awake at the same moment.
SAME_PAIR_SECONDS = 10
NONE = UUID(int=0)
ENDED = "The session has ended: log in again"
NO_ORGANIZATION = "You are in no organization: ask somebody to invite you"
NOT_A_MEMBER = "You are not a member of this organization: name another one in the header X-Organization-Id"


class Known(Struct, frozen=True):
    """A person, as the database knows them."""

    id: UUID
    email: str
    name: str
    is_active: bool
    password_hash: str | None
    password_changed_at: datetime | None


async def find_by_email(tx: Transaction, email: str) -> Known | None:
    """The person with this email, if there is one."""
    row = (await tx.execute(queries.FIND_BY_EMAIL, {"folded": fold_email(email)})).first()
    return None if row is None else Known(*row)


async def find_by_id(tx: Transaction, user_id: UUID) -> Known:
    """This person, who is there."""
    return Known(*(await tx.execute(queries.FIND_BY_ID, {"person": user_id})).one())


async def organizations_of(tx: Transaction, user_id: UUID, *, for_a_token: bool = False) -> list[Organization]:
    """Where somebody may work."""
    statement = queries.ORGANIZATIONS_FOR_A_TOKEN if for_a_token else queries.ORGANIZATIONS
    rows = await tx.execute(statement, {"person": user_id})
    return [Organization(id=each, name=name, role=Role(role)) for each, name, role in rows]


def choose(organizations: Sequence[Organization], wanted: str | None, before: str | None = None) -> Organization:
    """Where a token works: in the organization that the request names, else the session's, else the first one.

    Raises AppError ORGANIZATION_FORBIDDEN.
    """
    if not organizations:
        raise AppError(Code.ORGANIZATION_FORBIDDEN, NO_ORGANIZATION)
    name = wanted or before
    if name is None:
        return organizations[0]
    found = next((each for each in organizations if each.id == name), None)
    if found is None:
        raise AppError(Code.ORGANIZATION_FORBIDDEN, NOT_A_MEMBER)
    return found


async def check_password(
    database: Database, hashes: PasswordHashes, caller: Caller, email: str, password: str
) -> Known | None:
    """Whose password it is; None if it is wrong, or nobody has this email, which takes as long.

    Raises AppError RATE_LIMITED.
    """
    async with database.transaction(caller) as tx:
        await refuse_many(tx, Kind.LOGIN_FAILED, email)
        known = await find_by_email(tx, email)
        in_use = (await tx.execute(queries.HASHES_IN_USE)).scalars().all()
    is_right = await hashes.verify(known.password_hash if known and known.is_active else None, password, in_use)
    return known if is_right else None


async def is_still_set(tx: Transaction, known: Known) -> bool:
    """Whether the password lets the person in until this transaction ends: while it was checked, another one may have
    been set, or the person disabled.
    """
    since = {"person": known.id, "since": known.password_changed_at}
    return bool((await tx.execute(queries.IS_STILL_SET, since)).all())


async def log_in(
    database: Database,
    hashes: PasswordHashes,
    settings: Settings,
    caller: Caller,
    login: Login,
    organization_id: str | None,
) -> Session:
    """A new session. Raises AppError INVALID_CREDENTIALS, RATE_LIMITED, ORGANIZATION_FORBIDDEN."""
    known = await check_password(database, hashes, caller, login.email, login.password)
    after = None
    if known is not None and known.password_hash and hashes.is_outdated(known.password_hash):
        after = await hashes.hash(login.password)
    async with database.transaction(caller) as tx:
        # Once more, when it is known what the answer would be: of many who guess at the same moment, no more are told.
        await refuse_many(tx, Kind.LOGIN_FAILED, login.email, exactly=True)
        if known is None or not await is_still_set(tx, known):
            await note(tx, Kind.LOGIN_FAILED, email=login.email)
        else:
            if after is not None:
                await tx.execute(queries.REHASH, {"person": known.id, "before": known.password_hash, "after": after})
            if isinstance(login.invitation, str):
                await join(tx, known.id, known.email, login.invitation)
            return await begin_session(tx, settings, known.id, known.email, known.name, organization_id)
    raise AppError(Code.INVALID_CREDENTIALS)


async def begin_session(
    tx: Transaction, settings: Settings, user_id: UUID, email: str, name: str, organization_id: str | None = None
) -> Session:
    """A new session of this person. Raises AppError ORGANIZATION_FORBIDDEN."""
    organizations = await organizations_of(tx, user_id, for_a_token=True)
    chosen = choose(organizations, organization_id)
    begun = {
        "person": user_id,
        "in_organization": chosen.id,
        "agent": tx.caller.user_agent,
        "from_address": tx.caller.address,
        "days": settings.refresh_token_days,
    }
    session_id = (await tx.execute(queries.BEGIN, begun)).scalar_one()
    secret = new_secret()
    added = await tx.execute(queries.ADD_TOKEN, {"in_session": session_id, "hash": hash_of(secret)})
    token_id, issued_at = added.one()
    await note(tx, Kind.LOGGED_IN, user_id=user_id, email=email, organization_id=chosen.id, session=str(session_id))
    person = Person(id=user_id, email=email, name=name, role=chosen.role)
    return _answer(settings, person, chosen, organizations, secret, token_id, issued_at)


async def refresh(
    database: Database,
    settings: Settings,
    attempts: RateLimiter,
    caller: Caller,
    secret: str,
    organization_id: str | None,
) -> Session:
    """A new pair; the old refresh token is spent. One that was spent before ends the session.

    Raises AppError INVALID_TOKEN, TOKEN_REUSED, ORGANIZATION_FORBIDDEN, RATE_LIMITED.
    """
    refusal: AppError
    async with database.transaction(caller) as tx:
        given = {"hash": hash_of(secret), "days": settings.refresh_token_days}
        found = await _find(tx, given)
        if found is not None and found.ended_at is None and not found.is_repeated:
            # Of those who come at the same moment, one after the other. Who changes nothing waits for nobody.
            await tx.execute(queries.LOCK_SESSION, {"one": found.session_id})
            found = await _find(tx, given)
        if found is None:
            await refuse_many(tx, Kind.LINK_REFUSED, exactly=True)
            await note(tx, Kind.LINK_REFUSED, of="refresh_token")
            refusal = AppError(Code.INVALID_TOKEN)
        elif found.is_reused:
            if found.ended_at is None:
                await _end_reused(tx, found)
            refusal = AppError(Code.TOKEN_REUSED)
        elif found.is_over:
            refusal = AppError(Code.INVALID_TOKEN, ENDED)
        else:
            return await _go_on(tx, settings, attempts, found, secret, organization_id)
    raise refusal


async def _find(tx: Transaction, given: Mapping[str, object]) -> _Found | None:
    row = (await tx.execute(queries.FIND_TOKEN, given)).first()
    return None if row is None else _Found(*row)


class _Found(Struct, frozen=True):
    """A refresh token, its successor, its session and its person."""

    token_id: UUID
    spent_at: datetime | None
    spent_for: timedelta | None
    is_old: bool
    successor_id: UUID | None
    successor_hash: bytes | None
    successor_at: datetime | None
    successor_spent_at: datetime | None
    session_id: UUID
    organization_id: str | None
    user_agent: str | None
    began_at: datetime
    ended_at: datetime | None
    has_expired: bool
    user_id: UUID
    email: str
    name: str
    is_active: bool

    @property
    def is_reused(self) -> bool:
        """Whether it was spent, and this is not the same moment, or somebody has used what came of it."""
        if self.spent_at is None or self.spent_for is None:
            return False
        return self.spent_for > timedelta(seconds=SAME_PAIR_SECONDS) or self.successor_spent_at is not None

    @property
    def is_repeated(self) -> bool:
        """Whether it was spent a moment ago, and the session goes on: the answer is the same as then."""
        return self.spent_at is not None and not self.is_reused and not self.is_over

    @property
    def is_over(self) -> bool:
        """Whether the session does not go on."""
        return self.ended_at is not None or self.has_expired or self.is_old or not self.is_active


async def _end_reused(tx: Transaction, found: _Found) -> None:
    await tx.execute(queries.END, {"one": found.session_id, "person": found.user_id, "by": "reuse"})
    about = {"session": str(found.session_id)}
    await note(tx, Kind.TOKEN_REUSED, user_id=found.user_id, email=found.email, **about)
    await mails.make(tx, mails.TOKEN_REUSED, found.email, about)


async def _go_on(
    tx: Transaction,
    settings: Settings,
    attempts: RateLimiter,
    found: _Found,
    secret: str,
    organization_id: str | None,
) -> Session:
    # A token as from a moment ago is refused as that one is, if somebody takes a right away now.
    organizations = await organizations_of(tx, found.user_id, for_a_token=not found.is_repeated)
    chosen = choose(organizations, organization_id, found.organization_id)
    next_secret, token_id, issued_at = _same_pair(settings, found, secret)
    is_same = token_id is not None and chosen.id == found.organization_id
    if not is_same:
        attempts.acquire(found.session_id)
    if token_id is None or issued_at is None:
        next_secret = next(successors(settings, secret))
        added = await tx.execute(queries.ADD_TOKEN, {"in_session": found.session_id, "hash": hash_of(next_secret)})
        token_id, issued_at = added.one()
        await tx.execute(queries.SPEND, {"spent": found.token_id, "next": token_id})
        await note(
            tx,
            Kind.REFRESHED,
            user_id=found.user_id,
            email=found.email,
            organization_id=chosen.id,
            session=str(found.session_id),
        )
    if not is_same:
        used = {
            "used": found.session_id,
            "in_organization": chosen.id,
            "agent": tx.caller.user_agent,
            "from_address": tx.caller.address,
            "days": settings.refresh_token_days,
        }
        await tx.execute(queries.USE_SESSION, used)
    person = Person(id=found.user_id, email=found.email, name=found.name, role=chosen.role)
    return _answer(settings, person, chosen, organizations, next_secret, token_id, issued_at)


def _same_pair(settings: Settings, found: _Found, secret: str) -> tuple[str, UUID | None, datetime | None]:
    """What somebody else got for this refresh token a moment ago, if so."""
    for each in successors(settings, secret):
        if found.successor_hash == hash_of(each):
            return each, found.successor_id, found.successor_at
    return "", None, None


def _answer(
    settings: Settings,
    person: Person,
    chosen: Organization,
    organizations: list[Organization],
    secret: str,
    token_id: UUID,
    issued_at: datetime,
) -> Session:
    bearer = Bearer(person.id, person.email, person.name, chosen.role, chosen.id)
    token = access_token(settings, bearer, token_id, issued_at)
    return Session(
        token=token,
        access_token=token,
        refresh_token=secret,
        expires_in=60 * settings.access_token_minutes,
        user=person,
        organizations=organizations,
    )


async def log_out(tx: Transaction, user_id: UUID, session_id: UUID) -> None:
    """End this session."""
    await tx.execute(queries.END, {"one": session_id, "person": user_id, "by": "logout"})
    await note(tx, Kind.LOGGED_OUT, user_id=user_id, session=str(session_id))


async def log_out_everywhere(tx: Transaction, user_id: UUID) -> None:
    """End all sessions of the person."""
    ended = await end_all(tx, user_id, "logout")
    await note(tx, Kind.LOGGED_OUT, user_id=user_id, sessions=ended)


async def end_all(tx: Transaction, user_id: UUID, by: str, *, but: UUID = NONE) -> int:
    """End all sessions of somebody, perhaps but one; returns how many."""
    return len((await tx.execute(queries.END_ALL, {"person": user_id, "but": but, "by": by})).all())


async def end_one(tx: Transaction, user_id: UUID, session_id: UUID) -> None:
    """End one of the person's sessions. Raises AppError SESSION_NOT_FOUND."""
    ended = await tx.execute(queries.END, {"one": session_id, "person": user_id, "by": "owner"})
    if not ended.all():
        raise AppError(Code.SESSION_NOT_FOUND)
    await note(tx, Kind.SESSION_ENDED, user_id=user_id, session=str(session_id))
