"""Statements of sessions and refresh tokens."""

from __future__ import annotations

from typing import Any

from sqlalchemy import DateTime, Integer, Interval, Select, bindparam, cast, func, insert, select, text, update
from sqlalchemy.types import Text, Uuid

from app.identity.models import Credential, Membership, Organization, RefreshToken, Session, User
from app.identity.pages import Listing

user, credential = User.__table__.c, Credential.__table__.c
session, token = Session.__table__.c, RefreshToken.__table__.c
membership, organization = Membership.__table__.c, Organization.__table__.c

_tables = User.__table__.outerjoin(Credential.__table__)
FIND_BY_EMAIL = (
    select(user.id, user.email, user.name, user.is_active, credential.password_hash, credential.changed_at)
    .select_from(_tables)
    .where(user.email_folded == bindparam("folded", type_=Text))
)
FIND_BY_ID = (
    select(user.id, user.email, user.name, user.is_active, credential.password_hash, credential.changed_at)
    .select_from(_tables)
    .where(user.id == bindparam("person", type_=Uuid))
)
# Where somebody may work. The first is the one that is meant where none is named.
ORGANIZATIONS = (
    select(organization.id, organization.name, membership.role)
    .join_from(Membership.__table__, Organization.__table__, membership.organization_id == organization.id)
    .where(membership.user_id == bindparam("person", type_=Uuid))
    .order_by(membership.joined_at, organization.id)
)
# For a token: whoever takes a right away waits, so that the token is from before that, or without the right.
ORGANIZATIONS_FOR_A_TOKEN = ORGANIZATIONS.with_for_update(read=True, of=Membership.__table__)
_lives = func.make_interval(0, 0, 0, cast(bindparam("days"), Integer), type_=Interval)
BEGIN = (
    insert(Session)
    .values(
        user_id=bindparam("person"),
        organization_id=bindparam("in_organization"),
        user_agent=bindparam("agent"),
        address=bindparam("from_address"),
        expires_at=func.now() + _lives,
    )
    .returning(session.id)
)
ADD_TOKEN = (
    insert(RefreshToken)
    .values(session_id=bindparam("in_session"), token_hash=bindparam("hash"))
    .returning(token.id, token.created_at)
)
_successor = RefreshToken.__table__.alias("successor")
FIND_TOKEN: Select[Any] = (
    select(
        token.id.label("token_id"),
        token.spent_at,
        (func.clock_timestamp(type_=DateTime(timezone=True)) - token.spent_at).label("spent_for"),
        (token.created_at + _lives < func.now()).label("is_old"),
        _successor.c.id.label("successor_id"),
        _successor.c.token_hash.label("successor_hash"),
        _successor.c.created_at.label("successor_at"),
        _successor.c.spent_at.label("successor_spent_at"),
        session.id.label("session_id"),
        session.organization_id,
        session.user_agent,
        session.created_at.label("began_at"),
        session.ended_at,
        (session.expires_at < func.now()).label("has_expired"),
        user.id.label("user_id"),
        user.email,
        user.name,
        user.is_active,
    )
    .select_from(
        RefreshToken.__table__.join(Session.__table__, token.session_id == session.id)
        .join(User.__table__, session.user_id == user.id)
        .outerjoin(_successor, _successor.c.id == token.successor_id)
    )
    .where(token.token_hash == bindparam("hash"))
)
LOCK_SESSION = select(session.id).where(session.id == bindparam("one", type_=Uuid)).with_for_update()
SPEND = (
    update(RefreshToken)
    .where(token.id == bindparam("spent"))
    .values(spent_at=func.clock_timestamp(), successor_id=bindparam("next"))
)
USE_SESSION = (
    update(Session)
    .where(session.id == bindparam("used"))
    .values(
        last_used_at=func.now(),
        expires_at=func.now() + _lives,
        organization_id=bindparam("in_organization"),
        user_agent=bindparam("agent"),
        address=bindparam("from_address"),
    )
)
_open = session.ended_at.is_(None)
_ended = {"ended_at": func.now(), "ended_by": bindparam("by")}
END = (
    update(Session)
    .where(session.id == bindparam("one"), session.user_id == bindparam("person"), _open)
    .values(_ended)
    .returning(session.id)
)
END_ALL = (
    update(Session)
    .where(session.user_id == bindparam("person"), session.id != bindparam("but", type_=Uuid), _open)
    .values(_ended)
    .returning(session.id)
)
DEVICES = Listing(
    "identity sessions",
    select(
        session.id,
        session.user_agent,
        session.address,
        session.organization_id,
        session.created_at,
        session.last_used_at,
        session.expires_at,
    ).where(session.user_id == bindparam("person", type_=Uuid), _open, session.expires_at > func.now()),
    ("last_used_at", "id"),
    newest_first=True,
)
# With which parameters hashes were made: one step through the index for each.
HASHES_IN_USE = text("""
    WITH RECURSIVE found AS (
        SELECT min(split_part(password_hash, '$', 4)) AS parameters FROM credentials
        UNION ALL
        SELECT (SELECT min(split_part(password_hash, '$', 4)) FROM credentials
            WHERE split_part(password_hash, '$', 4) > found.parameters)
        FROM found WHERE found.parameters IS NOT NULL
    )
    SELECT parameters FROM found WHERE parameters IS NOT NULL
""")
REHASH = (
    update(Credential)
    .where(credential.user_id == bindparam("person"), credential.password_hash == bindparam("before"))
    .values(password_hash=bindparam("after"))
)
# Whether a password that was right still lets the person in. Whoever sets another one, or disables the person, waits,
# and then ends what came of it. They lock the two rows in this order, too.
IS_STILL_SET = (
    select(user.id)
    .join_from(User.__table__, Credential.__table__)
    .where(
        user.is_active,
        credential.user_id == bindparam("person", type_=Uuid),
        credential.changed_at == bindparam("since", type_=DateTime(timezone=True)),
    )
    .with_for_update(key_share=True)
)
# Who shows an access token that was issued here, and the role in one organization.
AUTHENTICATE = (
    select(user.id, session.id, user.email, user.name, membership.role)
    .select_from(
        RefreshToken.__table__.join(Session.__table__, token.session_id == session.id)
        .join(User.__table__, session.user_id == user.id)
        .outerjoin(
            Membership.__table__,
            (membership.user_id == user.id) & (membership.organization_id == bindparam("in_organization", type_=Text)),
        )
    )
    .where(token.id == bindparam("jti", type_=Uuid), _open, session.expires_at > func.now(), user.is_active)
)
