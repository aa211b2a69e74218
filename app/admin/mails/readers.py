"""Who reads a mail: a person of the organization, with a language and a time zone."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from msgspec import Struct
from sqlalchemy import Select, bindparam, func, literal, or_, select
from sqlalchemy.types import Text

from app.db.session import Session
from app.locales import Locale
from app.models import TenantSettings, User

user = User.__table__.c
settings = TenantSettings.__table__.c

_user, _address = bindparam("of_user", type_=Text), bindparam("of_address", type_=Text)
FIND: Select[tuple[object, ...]] = (
    select(user.id, user.name, user.email, user.role, literal("en"), settings.timezone, settings.default_currency)
    .join_from(User, TenantSettings, user.tenant_id == settings.tenant_id)
    .where(or_(user.id == _user, func.crm_fold_email(user.email) == func.crm_fold_email(_address)))
    .order_by(user.last_seen_at.desc())
    .limit(1)
)


class Reader(Struct, frozen=True):
    """A person of the organization, as a mail needs them."""

    user_id: int | str
    name: str | None
    email: str | None
    role: str
    locale: Locale
    zone: ZoneInfo
    currency: str


async def find_reader(
    session: Session, *, user_id: int | str | None = None, address: str | None = None
) -> Reader | None:
    """The active person with this id, or with this address; None if there is none."""
    given = {"of_user": None if user_id is None else str(user_id), "of_address": address}
    row = (await session.execute(FIND, given)).first()
    if row is None:
        return None
    found, name, email, role, locale, timezone, currency = row
    return Reader(found, name, email, role, Locale(locale), ZoneInfo(timezone), currency)
