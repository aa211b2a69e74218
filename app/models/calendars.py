"""Calendars that programs subscribe to."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, Identity, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, UserReference


class CalendarFeed(Base):
    """A person's calendar for whoever has the secret. It never changes: another one has another secret."""

    __tablename__ = "calendar_feeds"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int | str] = mapped_column(UserReference)
    name: Mapped[str] = mapped_column(String(255))
    include: Mapped[list[str]] = mapped_column(ARRAY(Text))
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
