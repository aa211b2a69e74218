"""Calendars that programs subscribe to, and calendars elsewhere that are kept equal to a person's work."""

import uuid
from datetime import datetime

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ForeignKeyConstraint,
    Identity,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
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


class CalendarConnection(Base):
    """A calendar elsewhere of a person's, and how far it and the person's activities are the same."""

    __tablename__ = "calendar_connections"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    user_id: Mapped[int | str] = mapped_column(UserReference)
    provider: Mapped[str] = mapped_column(Text)
    # Whose calendar it is there; what the server calls it; and what people do.
    account: Mapped[str] = mapped_column(String(320))
    calendar: Mapped[str] = mapped_column(Text)
    calendar_name: Mapped[str] = mapped_column(String(255))
    # The tokens or the password, encrypted.
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[str] = mapped_column(Text, server_default=text("'active'"))
    # So many entries have vanished there at once, and what the person said is to become of it.
    vanished: Mapped[int | None] = mapped_column(Integer)
    decision: Mapped[str | None] = mapped_column(Text)
    sync_token: Mapped[str | None] = mapped_column(Text)
    # When all of it was read, and not only what changed.
    listed_at: Mapped[datetime | None]
    next_sync_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    # Until then a worker has it. Each one that takes it counts on, and the one before may write no more.
    claimed_until: Mapped[datetime | None]
    claims: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    # What the last sync changed here is this operation in the audit log.
    operation_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    failures: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    last_error: Mapped[str | None] = mapped_column(Text)
    last_synced_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    __table_args__ = (
        UniqueConstraint("tenant_id", "user_id", "provider", "calendar", name="calendar_connections_calendar_key"),
    )


class CalendarEntry(Base):
    """An entry of such a calendar: the activity that it is, or else a time that is taken. No text of it is here, only
    digests, which tell what changed since both sides agreed.
    """

    __tablename__ = "calendar_entries"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    connection_id: Mapped[int] = mapped_column(BigInteger)
    user_id: Mapped[int | str] = mapped_column(UserReference)
    # No foreign key: the entry there has to go when the activity is deleted for good.
    activity_id: Mapped[int | None] = mapped_column(BigInteger)
    # Null until it is written there for the first time, under this key.
    remote_id: Mapped[str | None] = mapped_column(Text)
    key: Mapped[str | None] = mapped_column(String(64))
    series: Mapped[str | None] = mapped_column(Text)
    uid: Mapped[str | None] = mapped_column(Text)
    etag: Mapped[str | None] = mapped_column(Text)
    # What each side had when they agreed, and what may have been written there since.
    here: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    there: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    sent: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    # The calendar's server refused to delete it.
    is_kept: Mapped[bool] = mapped_column(server_default=text("false"))
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    all_day: Mapped[bool]

    __table_args__ = (
        UniqueConstraint("tenant_id", "connection_id", "remote_id", name="calendar_entries_remote_key"),
        UniqueConstraint("tenant_id", "connection_id", "activity_id", name="calendar_entries_activity_key"),
        ForeignKeyConstraint(
            ["tenant_id", "connection_id"],
            ["calendar_connections.tenant_id", "calendar_connections.id"],
            name="calendar_entries_connection_fkey",
            ondelete="CASCADE",
        ),
    )


class OAuthState(Base):
    """A person who was sent to a provider to consent, and may come back within minutes, once."""

    __tablename__ = "oauth_states"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    state_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[int | str] = mapped_column(UserReference)
    provider: Mapped[str] = mapped_column(Text)
    # What only whoever asked for the code can exchange it with, encrypted.
    verifier: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime]
