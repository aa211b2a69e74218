"""What people talk about with the assistant."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Boolean, ForeignKeyConstraint, Identity, String, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, UserReference


class Conversation(Base):
    """A person's conversation. `run` is the answer that is being given, and `alive_at` when its worker last said so;
    `told` are the proposals that the model knows the outcome of, and `mentions` the records that it is about.
    """

    __tablename__ = "conversations"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int | str] = mapped_column(UserReference)
    title: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    run: Mapped[UUID | None]
    alive_at: Mapped[datetime | None]
    cancelled: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    told: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default=text("'{}'"))
    mentions: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))


class ConversationMessage(Base):
    """One turn. `until` is the last message that a summary stands for."""

    __tablename__ = "conversation_messages"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    conversation_id: Mapped[int] = mapped_column(BigInteger)
    role: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, server_default=text("'done'"))
    parts: Mapped[list[Any]] = mapped_column(JSONB)
    context: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    until: Mapped[int | None] = mapped_column(BigInteger)
    input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    output_tokens: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "conversation_id"],
            ["conversations.tenant_id", "conversations.id"],
            name="conversation_messages_conversation_fkey",
            ondelete="CASCADE",
        ),
    )


class ConversationCall(Base):
    """What was sent to a provider for one turn: all but the messages themselves. Of those in `shortened`, results were
    left out; of what was sent to be summed up, it was the last so many `letters`.
    """

    __tablename__ = "conversation_calls"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    conversation_id: Mapped[int] = mapped_column(BigInteger)
    message_id: Mapped[int] = mapped_column(BigInteger)
    provider: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    system: Mapped[str] = mapped_column(Text)
    tools: Mapped[list[str]] = mapped_column(ARRAY(Text))
    sent: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    shortened: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    letters: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "message_id"],
            ["conversation_messages.tenant_id", "conversation_messages.id"],
            name="conversation_calls_message_fkey",
            ondelete="CASCADE",
        ),
    )
