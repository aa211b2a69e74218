"""Webhooks: addresses of other systems that events are sent to."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Identity, Integer, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Record


class Webhook(Record):
    """Where events of some types are sent."""

    __tablename__ = "webhooks"

    url: Mapped[str] = mapped_column(String(2000))
    types: Mapped[list[str]] = mapped_column(ARRAY(Text))
    description: Mapped[str | None] = mapped_column(Text)
    is_active: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    secret_changed_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class WebhookState(Base):
    """What is not for the audit log: the secrets, encrypted, and how far the webhook is."""

    __tablename__ = "webhook_states"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    webhook_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    previous_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_until: Mapped[datetime | None]
    # For events up to this sequence there are deliveries.
    place: Mapped[int] = mapped_column(BigInteger)
    # Since then every attempt failed.
    failing_since: Mapped[datetime | None]


class WebhookDelivery(Base):
    """One event on its way to one webhook."""

    __tablename__ = "webhook_deliveries"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    webhook_id: Mapped[int] = mapped_column(BigInteger)
    sequence: Mapped[int] = mapped_column(BigInteger)
    type: Mapped[str] = mapped_column(Text)
    resource_type: Mapped[str] = mapped_column(Text)
    resource_id: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(Text, server_default=text("'pending'"))
    attempts: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'"))
    # Attempts since it was last to be sent from the beginning.
    tries: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    # Until the first attempt, later events of the same record wait.
    in_order: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    due_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    # Until then, somebody is sending it.
    claimed_until: Mapped[datetime | None]
    # Grows whenever somebody takes it: who was too slow can't write a result any more.
    claims: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    finished_at: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("tenant_id", "webhook_id", "sequence", name="webhook_deliveries_sequence_key"),)
