"""A tenant's settings, and the people that were seen in its tokens."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Integer, String, Text, UniqueConstraint, text
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
