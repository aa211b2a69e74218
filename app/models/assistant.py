"""The assistant: who runs its model, what it costs, and the tools of others."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Date,
    FetchedValue,
    Identity,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, UserReference


class AssistantSettings(Base):
    """What an organization has set. It is audited, without the key, but no undo takes it back: a key that was replaced
    does not come back, and is not sent to the address of another.
    """

    __tablename__ = "assistant_settings"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    provider: Mapped[str | None]
    model: Mapped[str | None] = mapped_column(String(200))
    base_url: Mapped[str | None] = mapped_column(String(2000))
    secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    secret_end: Mapped[str | None] = mapped_column(String(4))
    secret_changed_at: Mapped[datetime | None]
    monthly_tokens: Mapped[int | None] = mapped_column(BigInteger)
    monthly_tokens_per_person: Mapped[int | None] = mapped_column(BigInteger)
    failure: Mapped[str | None]
    failed_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"), server_onupdate=FetchedValue())
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"), server_onupdate=FetchedValue())

    __table_args__ = (UniqueConstraint("tenant_id", name="assistant_settings_tenant_key"),)


class AssistantUsage(Base):
    """The tokens that a person's conversations took in a month."""

    __tablename__ = "assistant_usage"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    month: Mapped[date] = mapped_column(Date, primary_key=True)
    user_id: Mapped[int | str] = mapped_column(UserReference, primary_key=True)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)


class McpServer(Base):
    """A server of others whose tools the assistant may use. Like the settings it is audited, and not taken back."""

    __tablename__ = "mcp_servers"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(String(32))
    url: Mapped[str] = mapped_column(String(2000))
    auth: Mapped[str]
    secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    secret_end: Mapped[str | None] = mapped_column(String(4))
    allowed_tools: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    tools: Mapped[list[Any]] = mapped_column(JSONB, server_default=text("'[]'"))
    listed_at: Mapped[datetime | None]
    problem: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"), server_onupdate=FetchedValue())
    version: Mapped[int] = mapped_column(Integer, server_default=text("1"), server_onupdate=FetchedValue())

    __table_args__ = (UniqueConstraint("tenant_id", "name", name="mcp_servers_name_key"),)
