"""Secrets in mails: links that are good for one thing, once, for some time. They are made when a mail is sent."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import Meta
from sqlalchemy import (
    Interval,
    LargeBinary,
    Text,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
    update,
)

from app.access.permissions import Role
from app.identity.database import Transaction
from app.identity.models import Invitation, Membership, OneTimeLink, User
from app.identity.tokens import hash_of, new_secret
from app.web.text import EXACT

link, invitation = OneTimeLink.__table__.c, Invitation.__table__.c
membership, user = Membership.__table__.c, User.__table__.c

Secret = Annotated[str, Meta(min_length=1, max_length=100, description="What the link in a mail ends with", **EXACT)]


class Purpose(StrEnum):
    """What a link is for."""

    RESET_PASSWORD = "reset_password"
    VERIFY_EMAIL = "verify_email"


LIVES = {Purpose.RESET_PASSWORD: "30 minutes", Purpose.VERIFY_EMAIL: "7 days"}
INVITATION_LIVES = literal_column("interval '7 days'", Interval)
MAKE = {
    purpose: insert(OneTimeLink).values(
        purpose=purpose.value,
        user_id=bindparam("person"),
        secret_hash=bindparam("hash"),
        expires_at=func.now() + literal_column(f"interval '{lives}'", Interval),
    )
    for purpose, lives in LIVES.items()
}
_good = (
    link.secret_hash == bindparam("hash", type_=LargeBinary),
    link.purpose == bindparam("for_purpose", type_=Text),
    link.expires_at > func.now(),
)
IS_GOOD = select(link.id).where(*_good)
USE = delete(OneTimeLink).where(*_good).returning(link.user_id)
# Those that were mailed before, too: one of them was enough.
FORGET = delete(OneTimeLink).where(link.user_id == bindparam("person"), link.purpose == bindparam("for_purpose"))
# An invitation is as good as its admin: whoever is admin no more has invited nobody.
IS_GOOD_INVITATION = and_(
    invitation.expires_at > func.now(),
    exists()
    .where(user.id == invitation.invited_by, user.is_active)
    .where(membership.user_id == user.id, membership.organization_id == invitation.organization_id)
    .where(membership.role == Role.ADMIN.value),
)
GIVE_SECRET = (
    update(Invitation)
    .where(invitation.id == bindparam("invitation_id"), IS_GOOD_INVITATION)
    .values(secret_hash=bindparam("hash"))
)


async def make_link(tx: Transaction, purpose: Purpose, user_id: UUID) -> str:
    """A new secret for this person."""
    secret = new_secret()
    await tx.execute(MAKE[purpose], {"person": user_id, "hash": hash_of(secret)})
    return secret


async def is_good(tx: Transaction, purpose: Purpose, secret: str) -> bool:
    """Whether `use_link` would find somebody. The link stays as it is."""
    given = {"hash": hash_of(secret), "for_purpose": purpose.value}
    return bool((await tx.execute(IS_GOOD, given)).all())


async def forget_links(tx: Transaction, purpose: Purpose, user_id: UUID) -> None:
    """None of these links of the person is good any more."""
    await tx.execute(FORGET, {"person": user_id, "for_purpose": purpose.value})


async def use_link(tx: Transaction, purpose: Purpose, secret: str) -> UUID | None:
    """Whose this link was; None for one that is none, was used or is too old."""
    given = {"hash": hash_of(secret), "for_purpose": purpose.value}
    user_id: UUID | None = (await tx.execute(USE, given)).scalar_one_or_none()
    if user_id is not None:
        await forget_links(tx, purpose, user_id)
    return user_id


async def give_secret(tx: Transaction, invitation_id: UUID) -> str:
    """A new secret for an invitation. One that it had before is not valid any more."""
    secret = new_secret()
    await tx.execute(GIVE_SECRET, {"invitation_id": invitation_id, "hash": hash_of(secret)})
    return secret
