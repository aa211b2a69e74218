"""Where readers of all organizations' events are."""

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, String, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class FeedPlace(Base):
    """Up to which event a reader has all of a tenant's."""

    __tablename__ = "feed_places"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    reader: Mapped[str] = mapped_column(Text, primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)


class FeedReader(Base):
    """Which process is a reader now: rows without a tenant, which only a function of the database changes."""

    __tablename__ = "feed_readers"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True, server_default=text("''"))
    reader: Mapped[str] = mapped_column(Text, primary_key=True)
    holder: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    held_until: Mapped[datetime] = mapped_column(server_default=text("now()"))
