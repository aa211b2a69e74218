"""Statements of people and their passwords."""

from __future__ import annotations

from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.types import Uuid

from app.identity.models import Credential, Membership, User

c, credential, membership = User.__table__.c, Credential.__table__.c, Membership.__table__.c

REGISTER = text("SELECT register(:email, :folded, :name, :hash, :organization_id, :organization)")
VERIFY = (
    update(User)
    .where(c.id == bindparam("person"))
    .values(email_verified_at=func.coalesce(c.email_verified_at, func.now()))
    .returning(c.email)
)
IS_VERIFIED = select(c.email_verified_at.is_not(None)).where(c.id == bindparam("person", type_=Uuid))
SET_PASSWORD = upsert(Credential).values(user_id=bindparam("person"), password_hash=bindparam("hash"))
SET_PASSWORD = SET_PASSWORD.on_conflict_do_update(
    index_elements=["user_id"], set_={"password_hash": SET_PASSWORD.excluded.password_hash, "changed_at": func.now()}
)
SET_ACTIVE = update(User).where(c.id == bindparam("person")).values(is_active=bindparam("active"))
ADD = (
    upsert(User)
    .values(
        id=bindparam("new_id"), email=bindparam("address"), email_folded=bindparam("folded"), name=bindparam("called")
    )
    .returning(c.id)
)
LIST = (
    select(
        c.id,
        c.email,
        c.name,
        c.is_active,
        func.string_agg(membership.organization_id + " " + membership.role, text("', '")),
    )
    .select_from(User.__table__.outerjoin(Membership.__table__))
    .group_by(c.id)
    .order_by(c.created_at, c.id)
)
