"""Mails on their way, and addresses that took none."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Identity, Integer, String, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, UserReference


class Mail(Base):
    """A mail to one person of the organization. What it says is made when it is sent."""

    __tablename__ = "mails"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    message_id: Mapped[uuid.UUID] = mapped_column(Uuid, server_default=text("gen_random_uuid()"))
    kind: Mapped[str] = mapped_column(Text)
    key: Mapped[str] = mapped_column(Text)
    about: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    user_id: Mapped[int | str | None] = mapped_column(UserReference)
    address: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, server_default=text("'waiting'"))
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    due_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    # When a worker took it, to send it now.
    taken_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    finished_at: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("tenant_id", "kind", "key", name="mails_key_key"),)


class RefusedAddress(Base):
    """An address that a mail server refused for good."""

    __tablename__ = "refused_addresses"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    address_folded: Mapped[str] = mapped_column(Text, primary_key=True)
    answer: Mapped[str] = mapped_column(Text)
    refused_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
