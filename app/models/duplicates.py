"""What is known in the background of customers and of contacts that may be the same."""

from datetime import datetime

from sqlalchemy import BigInteger, Identity, SmallInteger, String, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, UserReference


class DuplicateKey(Base):
    """Something that a record may have in common with others: see app/admin/duplicates/matching.py."""

    __tablename__ = "duplicate_keys"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    record_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


class DuplicatePair(Base):
    """Two records that may be the same, the older one first, or that somebody said are not."""

    __tablename__ = "duplicate_pairs"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True)
    record_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    other_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    score: Mapped[int] = mapped_column(SmallInteger)
    reasons: Mapped[list[str]] = mapped_column(ARRAY(Text))
    group_id: Mapped[int | None] = mapped_column(BigInteger)
    dismissed_at: Mapped[datetime | None]
    dismissed_by: Mapped[int | str | None] = mapped_column(UserReference)


class DuplicateGroup(Base):
    """Records that hang together by pairs."""

    __tablename__ = "duplicate_groups"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    score: Mapped[int] = mapped_column(SmallInteger)
    reasons: Mapped[list[str]] = mapped_column(ARRAY(Text))
    members: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))


class DuplicateState(Base):
    """How far a tenant's feed is read, and its records that were there before; null once all of these are."""

    __tablename__ = "duplicate_states"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    place: Mapped[int] = mapped_column(BigInteger)
    customers_to: Mapped[int | None] = mapped_column(BigInteger, server_default=text("0"))
    contacts_to: Mapped[int | None] = mapped_column(BigInteger, server_default=text("0"))
