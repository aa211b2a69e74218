"""Jobs: what somebody asked for that takes longer than a request, and the files that they make."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, ForeignKeyConstraint, Identity, Integer, LargeBinary, String, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, UserReference


class Job(Base):
    """Only `crm_enqueue_job` makes one. The service moves it on, and never changes who asked for what."""

    __tablename__ = "jobs"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, server_default=text("'queued'"))
    user_id: Mapped[int | str] = mapped_column(UserReference)
    user_name: Mapped[str | None] = mapped_column(Text)
    user_role: Mapped[str] = mapped_column(Text)
    request_id: Mapped[str | None] = mapped_column(Text)
    operation_id: Mapped[uuid.UUID] = mapped_column(Uuid)
    arguments: Mapped[dict[str, Any]] = mapped_column(JSONB)
    targets: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))
    total: Mapped[int | None] = mapped_column(BigInteger)
    done: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    state: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'"))
    steps: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    failures: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    queue_id: Mapped[int | None] = mapped_column(BigInteger)


class JobFile(Base):
    """A file that a job has made; without its content, once a customer is erased that it mentions. An archive's content
    is in the object store, as long as there is an `object_key`.
    """

    __tablename__ = "job_files"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    content_type: Mapped[str] = mapped_column(Text)
    content: Mapped[bytes | None] = mapped_column(LargeBinary)
    mentions: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    object_key: Mapped[str | None] = mapped_column(Text)
    size: Mapped[int | None] = mapped_column(BigInteger)
    expires_at: Mapped[datetime | None]
    # Of a report that is mailed, what the file says, as JSON.
    document: Mapped[bytes | None] = mapped_column(LargeBinary)

    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "job_id"], ["jobs.tenant_id", "jobs.id"], name="job_files_job_fkey", ondelete="CASCADE"
        ),
    )
