"""What tools would do, and a person has to approve."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Computed, Identity, Integer, String, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, UserReference

MENTIONED = "crm_mentioned_in(request, changes, versions)"


class Proposal(Base):
    """A request that a tool made for a person, what its dry run changed, and the versions of these records then."""

    __tablename__ = "proposals"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    user_id: Mapped[int | str] = mapped_column(UserReference)
    via: Mapped[str] = mapped_column(Text)
    tool: Mapped[str] = mapped_column(Text)
    summary: Mapped[str] = mapped_column(Text)
    title: Mapped[str | None] = mapped_column(Text)
    request: Mapped[dict[str, Any]] = mapped_column(JSONB)
    changes: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    # So many changes more than are kept.
    more: Mapped[int] = mapped_column(Integer)
    versions: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    status: Mapped[str] = mapped_column(Text, server_default=text("'pending'"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    operation_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    conversation_id: Mapped[int | None] = mapped_column(BigInteger)
    # Of a call outside of the service.
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    mentions: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), Computed(MENTIONED))
