"""A tenant's settings, and its people."""

from datetime import datetime

from sqlalchemy import BigInteger, Computed, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Record, UserReference


class TenantSettings(Record):
    """One row for each tenant, created by its first request."""

    __tablename__ = "settings"

    default_currency: Mapped[str] = mapped_column(String(3))
    timezone: Mapped[str] = mapped_column(String(64))
    country: Mapped[str | None] = mapped_column(String(2))
    # For so many days the trash and the audit log are kept; null is for ever.
    trash_days: Mapped[int | None] = mapped_column(Integer)
    audit_days: Mapped[int | None] = mapped_column(Integer)

    __table_args__ = (UniqueConstraint("tenant_id", name="settings_tenant_key"),)


class User(Base):
    """A person, as the CMS's last token described them. The CMS owns people; this copy is for showing names."""

    __tablename__ = "users"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int | str] = mapped_column(UserReference, primary_key=True)
    name: Mapped[str | None] = mapped_column(Text)
    email: Mapped[str | None] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    last_seen_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class Member(Record):
    """A person of the organization: one for each of `users`, and one for each that is expected. What the organization
    makes of the token's role is here.
    """

    __tablename__ = "members"

    # Null for who is expected.
    user_id: Mapped[int | str | None] = mapped_column(UserReference)
    # As the invitation said; of who was seen, `users` has them.
    name: Mapped[str | None] = mapped_column(String(255))
    email: Mapped[str | None] = mapped_column(String(255))
    email_folded: Mapped[str | None] = mapped_column(Text(collation="C"), Computed("crm_fold_email(email)"))
    # What the token's role is narrowed to.
    role: Mapped[str | None] = mapped_column(Text)
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    # Tokens from before are refused.
    signed_out_at: Mapped[datetime | None]
    invited_at: Mapped[datetime | None]
    # The transaction that changed the person's rights last: the database keeps it.
    changed_in: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (UniqueConstraint("tenant_id", "user_id", name="members_user_key"),)
