"""Who reads a mail: a person of the organization, with a language and a time zone."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, Text, bindparam, func, select

from app.access.actor import Actor
from app.access.permissions import RANK, Role
from app.db.session import Session
from app.locales import Locale
from app.mail.texts import Say
from app.models import Member, NotificationSettings, TenantSettings, User

user = User.__table__.c
member = Member.__table__.c
preferences = NotificationSettings.__table__.c
settings = TenantSettings.__table__.c


def _who(condition: ColumnElement[bool]) -> Select[Any]:
    """One person who may come in."""
    return (
        select(user.id, user.name, user.email, user.role, member.role)
        .add_columns(func.coalesce(preferences.locale, "en"), func.coalesce(preferences.timezone, settings.timezone))
        .add_columns(settings.default_currency)
        .join_from(User, TenantSettings, user.tenant_id == settings.tenant_id)
        .join(Member, (member.tenant_id == user.tenant_id) & (member.user_id == user.id))
        .outerjoin(NotificationSettings, (preferences.tenant_id == user.tenant_id) & (preferences.user_id == user.id))
        .where(condition, member.is_active)
        .order_by(user.last_seen_at.desc())
        .limit(1)
    )


BY_ID = _who(user.id == bindparam("of_user", type_=Text))
BY_ADDRESS = _who(func.crm_fold_email(user.email) == func.crm_fold_email(bindparam("of_address", type_=Text)))


class Reader(Struct, frozen=True):
    """A person of the organization, as a mail needs them."""

    user_id: int | str
    name: str | None
    email: str | None
    role: Role
    locale: Locale
    zone: ZoneInfo
    currency: str

    @property
    def say(self) -> Say:
        """Says sentences in the person's language."""
        return Say(self.locale)

    def actor(self, tenant: str) -> Actor:
        """The person as one who asks, with the rights of now."""
        return Actor(user_id=str(self.user_id), tenant_id=tenant, role=self.role, name=self.name, email=self.email)

    def greeting(self) -> str:
        """The first line."""
        return self.say("hello", name=self.name) if self.name else self.say("hello_nobody")


async def find_reader(
    session: Session, *, user_id: int | str | None = None, address: str | None = None
) -> Reader | None:
    """The active person with this id, or with this address; None if there is none."""
    if user_id is not None:
        row = (await session.execute(BY_ID, {"of_user": str(user_id)})).first()
    else:
        row = (await session.execute(BY_ADDRESS, {"of_address": address})).first()
    if row is None:
        return None
    found, name, email, role, narrowed, locale, zone, currency = row
    lowest = min((Role(each) for each in (role, narrowed) if each is not None), key=RANK.__getitem__)
    return Reader(found, name, email, lowest, Locale(locale), ZoneInfo(zone), currency)
