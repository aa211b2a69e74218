"""What people are told, and how they want to be told."""

from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Boolean, Identity, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, UserReference


class Notification(Base):
    """What a person is told, once for each `key`. `in_app` and `by_email` are what the person's settings were then."""

    __tablename__ = "notifications"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    user_id: Mapped[int | str] = mapped_column(UserReference)
    kind: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    read_at: Mapped[datetime | None]
    # Who did it; null is the service itself.
    actor_id: Mapped[int | str | None] = mapped_column(UserReference)
    actor_name: Mapped[str | None] = mapped_column(Text)
    resource_type: Mapped[str] = mapped_column(Text)
    resource_id: Mapped[int] = mapped_column(BigInteger)
    data: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    in_app: Mapped[bool] = mapped_column(Boolean)
    by_email: Mapped[bool] = mapped_column(Boolean)

    __table_args__ = (UniqueConstraint("tenant_id", "user_id", "key", name="notifications_key_key"),)


class NotificationSettings(Base):
    """How a person wants to be told: a row for each who was seen, which a trigger makes."""

    __tablename__ = "notification_settings"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int | str] = mapped_column(UserReference, primary_key=True)
    # The kinds of notifications that are not shown, and those that are mailed.
    hidden: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    emailed: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{...}'"))
    digest: Mapped[str] = mapped_column(Text, server_default=text("'none'"))
    digest_at: Mapped[str] = mapped_column(Text, server_default=text("'08:00'"))
    quiet_from: Mapped[str | None] = mapped_column(Text)
    quiet_to: Mapped[str | None] = mapped_column(Text)
    # Null is the organization's.
    timezone: Mapped[str | None] = mapped_column(String(64))
    locale: Mapped[str] = mapped_column(Text, server_default=text("'en'"))
    # Null is never.
    follow_up_minutes: Mapped[int | None] = mapped_column(Integer, server_default=text("900"))
    closing_minutes: Mapped[int | None] = mapped_column(Integer, server_default=text("2340"))


class ReminderProgress(Base):
    """Up to when reminders are made: one row, without a tenant, which only a function of the database changes."""

    __tablename__ = "reminder_progress"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True, server_default=text("''"))
    until: Mapped[datetime] = mapped_column(server_default=text("now()"))
    # The same of digests.
    digests_until: Mapped[datetime] = mapped_column(server_default=text("now()"))
