"""Answers kept under the key that a client sent with its request."""

import uuid
from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, Computed, LargeBinary, SmallInteger, String, Text, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, UserReference


class IdempotencyKey(Base):
    """A key that a person sent: the request that it stands for, and the answer."""

    __tablename__ = "idempotency_keys"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int | str] = mapped_column(UserReference, primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[int | None] = mapped_column(SmallInteger)
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    etag: Mapped[str | None] = mapped_column(Text)
    operation_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    mentions: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger), Computed("crm_mentioned(body)"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
