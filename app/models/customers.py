"""Customers, tags, and which customer has which tag."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Computed,
    ForeignKeyConstraint,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Imported, Mergeable, Record, UserReference


class Customer(Record, Imported, Mergeable):
    """A person or company that somebody sells to."""

    __tablename__ = "customers"

    name: Mapped[str] = mapped_column(String(255))
    email: Mapped[str | None] = mapped_column(String(255))
    phone: Mapped[str | None] = mapped_column(String(50))
    company: Mapped[str | None] = mapped_column(String(255))
    role: Mapped[str | None] = mapped_column(String(100))
    kind: Mapped[str | None] = mapped_column(Text)
    industry: Mapped[str | None] = mapped_column(String(100))
    website: Mapped[str | None] = mapped_column(String(255))
    status: Mapped[str] = mapped_column(Text, server_default=text("'lead'"))
    assigned_to: Mapped[int | str | None] = mapped_column(UserReference)
    contacted: Mapped[bool] = mapped_column(server_default=text("false"))
    next_follow_up_at: Mapped[datetime | None]
    contact_preferences: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    notes: Mapped[str | None] = mapped_column(String(10_000))
    # Nothing of it can be trashed or deleted: the table's trigger `held` refuses it.
    hold: Mapped[bool] = mapped_column(server_default=text("false"))
    # The ids are in the row itself, so that a change of tags is a change of the customer: one version, one audit
    # entry. A trigger keeps `customer_tags`, which has the foreign keys and finds the customers of a tag.
    tags: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default=text("'{}'"))

    # Folded once, by the database, so that sorting and searching ignore case in the same way on every server.
    name_folded: Mapped[str] = mapped_column(Text(collation="C"), Computed("crm_fold(name)"))
    email_folded: Mapped[str | None] = mapped_column(Text(collation="C"), Computed("crm_fold_email(email)"))
    company_folded: Mapped[str | None] = mapped_column(Text(collation="C"), Computed("crm_fold(company)"))
    search_folded: Mapped[str] = mapped_column(Text(collation="C"), Computed("crm_party_text(...)"))
    status_rank: Mapped[int] = mapped_column(SmallInteger, Computed("array_position(...)"))


class Tag(Record):
    """A coloured label for customers."""

    __tablename__ = "tags"

    name: Mapped[str] = mapped_column(String(100))
    color: Mapped[str | None] = mapped_column(String(7))
    name_folded: Mapped[str] = mapped_column(Text(collation="C"), Computed("crm_fold(name)"))

    __table_args__ = (UniqueConstraint("tenant_id", "name_folded", name="tags_name_key"),)


class CustomerTag(Base):
    """A copy of `customers.tags`, which only a trigger writes."""

    __tablename__ = "customer_tags"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    tag_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    customer_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    # Whether the customer is live: those in the trash are not counted.
    live: Mapped[bool] = mapped_column(server_default=text("true"))

    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "tag_id"], ["tags.tenant_id", "tags.id"], name="customer_tags_tag_fkey"),
        ForeignKeyConstraint(
            ["tenant_id", "customer_id"],
            ["customers.tenant_id", "customers.id"],
            name="customer_tags_customer_fkey",
            ondelete="CASCADE",
        ),
    )
