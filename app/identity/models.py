"""The tables of the schema `identity`, which each transaction's search path names. migrations/ explains them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NOW = text("now()")
RANDOM = text("gen_random_uuid()")


class Base(DeclarativeBase):
    """The metadata that the migrations are compared with."""

    metadata = MetaData()
    type_annotation_map = {  # noqa: RUF012 -- read by SQLAlchemy
        datetime: DateTime(timezone=True),
        str: Text(),
        bytes: LargeBinary(),
        dict[str, Any]: JSONB(),
    }


class User(Base):
    """A person who may log in."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=RANDOM)
    email: Mapped[str] = mapped_column(String(255))
    email_folded: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str] = mapped_column(String(255))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    email_verified_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Credential(Base):
    """A person's password, as a hash."""

    __tablename__ = "credentials"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    password_hash: Mapped[str]
    changed_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Organization(Base):
    """An organization. Its id is the `tenant_id` of tokens, and its owner the admin who made it."""

    __tablename__ = "organizations"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(255))
    owner_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    __table_args__ = (
        ForeignKeyConstraint(
            ["id", "owner_id"],
            ["memberships.organization_id", "memberships.user_id"],
            name="organizations_owner_fkey",
            deferrable=True,
            initially="DEFERRED",
            use_alter=True,
        ),
    )


class Membership(Base):
    """A person in an organization, and as what."""

    __tablename__ = "memberships"

    organization_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str]
    joined_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Invitation(Base):
    """Somebody who may become a member, by the link in a mail."""

    __tablename__ = "invitations"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=RANDOM)
    organization_id: Mapped[str] = mapped_column(String(64), ForeignKey("organizations.id", ondelete="CASCADE"))
    email: Mapped[str] = mapped_column(String(255))
    email_folded: Mapped[str]
    role: Mapped[str]
    invited_by: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    secret_hash: Mapped[bytes | None] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("organization_id", "email_folded"),)


class OneTimeLink(Base):
    """A link in a mail that sets a new password, or shows that an address is its reader's own."""

    __tablename__ = "one_time_links"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=RANDOM)
    purpose: Mapped[str]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    secret_hash: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime]


class Session(Base):
    """A person on one device: the family of all refresh tokens that came of one login."""

    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=RANDOM)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    organization_id: Mapped[str | None] = mapped_column(String(64), ForeignKey("organizations.id", ondelete="SET NULL"))
    user_agent: Mapped[str | None] = mapped_column(String(255))
    address: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    last_used_at: Mapped[datetime] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]


class RefreshToken(Base):
    """A refresh token, as a hash. Its id is the `jti` of the access token that was issued with it."""

    __tablename__ = "refresh_tokens"

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=RANDOM)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"))
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    spent_at: Mapped[datetime | None]
    successor_id: Mapped[UUID | None]


class AuthEvent(Base):
    """Something that happened, such as a login. Never with a secret."""

    __tablename__ = "auth_events"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=NOW)
    kind: Mapped[str]
    user_id: Mapped[UUID | None]
    email: Mapped[str | None] = mapped_column(String(255))
    email_folded: Mapped[str | None]
    organization_id: Mapped[str | None] = mapped_column(String(64))
    network: Mapped[str | None] = mapped_column(String(64))
    user_agent: Mapped[str | None] = mapped_column(String(255))
    request_id: Mapped[str | None] = mapped_column(String(128))
    data: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class IdempotencyKey(Base):
    """A key that a person sent: the request that it stands for, and the answer."""

    __tablename__ = "idempotency_keys"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[bytes]
    body: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Mail(Base):
    """A mail on its way. What one says is made when it is sent."""

    __tablename__ = "mails"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    message_id: Mapped[UUID] = mapped_column(server_default=RANDOM)
    kind: Mapped[str]
    about: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    address: Mapped[str] = mapped_column(String(255))
    locale: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=text("'waiting'"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[datetime] = mapped_column(server_default=NOW)
    taken_at: Mapped[datetime | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    finished_at: Mapped[datetime | None]


class RefusedAddress(Base):
    """An address that a mail server has refused for good."""

    __tablename__ = "refused_addresses"

    address_folded: Mapped[str] = mapped_column(primary_key=True)
    answer: Mapped[str]
    refused_at: Mapped[datetime] = mapped_column(server_default=NOW)
