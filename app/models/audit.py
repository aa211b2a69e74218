"""The audit log, written by triggers alone, and its seals."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Identity, Integer, LargeBinary, String, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, UserReference


class AuditEntry(Base):
    """Who changed what in which request. The service may read it and nothing else."""

    __tablename__ = "audit_entries"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    resource_type: Mapped[str] = mapped_column(Text)
    resource_id: Mapped[int] = mapped_column(BigInteger)
    action: Mapped[str] = mapped_column(Text)
    user_id: Mapped[int | str | None] = mapped_column(UserReference)
    user_name: Mapped[str | None] = mapped_column(Text)
    user_role: Mapped[str | None] = mapped_column(Text)
    old_values: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    new_values: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    ip_address: Mapped[str | None] = mapped_column(Text)
    user_agent: Mapped[str | None] = mapped_column(Text)
    request_id: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    version: Mapped[int | None] = mapped_column(Integer)
    operation_id: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    via: Mapped[str | None] = mapped_column(Text)
    salt: Mapped[bytes | None] = mapped_column(LargeBinary)
    old_digest: Mapped[bytes | None] = mapped_column(LargeBinary)
    new_digest: Mapped[bytes | None] = mapped_column(LargeBinary)
    erased_by: Mapped[int | None] = mapped_column(BigInteger)


class AuditProgress(Base):
    """Up to which entry the log may be sealed: one row, without a tenant, which only the sealing function changes."""

    __tablename__ = "audit_progress"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    complete: Mapped[int] = mapped_column(BigInteger)
    mark: Mapped[int | None] = mapped_column(BigInteger)
    transaction: Mapped[int | None] = mapped_column(BigInteger)


class AuditSeal(Base):
    """The seal of one entry in its tenant's chain: see app.records.audit_chain. Nobody may change it."""

    __tablename__ = "audit_seals"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    entry_id: Mapped[int] = mapped_column(BigInteger)
    hash_v1: Mapped[bytes | None] = mapped_column(LargeBinary)
    hash: Mapped[bytes | None] = mapped_column(LargeBinary)

    __table_args__ = (UniqueConstraint("tenant_id", "entry_id", name="audit_seals_entry_key"),)


class AuditCut(Base):
    """Where a tenant's log begins, if retention cut off what was before: after this entry, which is no longer there."""

    __tablename__ = "audit_cuts"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)
    entry_id: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    hash_v1: Mapped[bytes | None] = mapped_column(LargeBinary)
    until: Mapped[datetime]
    # Of what was cut off, this far it is deleted. Not known of cuts before there was this column.
    deleted_to: Mapped[int | None] = mapped_column(BigInteger)
