"""Files that belong to records. Their bytes are in the object store, under `object_key`."""

from datetime import datetime

from sqlalchemy import BigInteger, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Record, SoftDeleted, UserReference, reference


class Attachment(Record, SoftDeleted):
    """A file of exactly one customer, deal, activity or project."""

    __tablename__ = "attachments"

    file_name: Mapped[str] = mapped_column(String(255))
    content_type: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(Text)
    uploaded_by: Mapped[int | str] = mapped_column(UserReference)
    object_key: Mapped[str] = mapped_column(Text)
    customer_id: Mapped[int | None] = mapped_column(BigInteger)
    deal_id: Mapped[int | None] = mapped_column(BigInteger)
    activity_id: Mapped[int | None] = mapped_column(BigInteger)
    project_id: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (
        UniqueConstraint("tenant_id", "object_key", name="attachments_object_key"),
        reference("attachments", "customer_id", "customers"),
        reference("attachments", "deal_id", "deals"),
        reference("attachments", "activity_id", "activities"),
        reference("attachments", "project_id", "projects"),
    )


class AttachmentUpload(Base):
    """An upload that a client was given a URL for. The attachment will have the same id."""

    __tablename__ = "attachment_uploads"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, server_default=text("nextval('attachments_id_seq')")
    )
    file_name: Mapped[str] = mapped_column(String(255))
    content_type: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    uploaded_by: Mapped[int | str] = mapped_column(UserReference)
    object_key: Mapped[str] = mapped_column(Text)
    customer_id: Mapped[int | None] = mapped_column(BigInteger)
    deal_id: Mapped[int | None] = mapped_column(BigInteger)
    activity_id: Mapped[int | None] = mapped_column(BigInteger)
    project_id: Mapped[int | None] = mapped_column(BigInteger)
    expires_at: Mapped[datetime]

    __table_args__ = (
        reference("attachment_uploads", "customer_id", "customers"),
        reference("attachment_uploads", "deal_id", "deals"),
        reference("attachment_uploads", "activity_id", "activities"),
        reference("attachment_uploads", "project_id", "projects"),
    )


class RemovedObject(Base):
    """An object of the store that is to be deleted. Only functions of the database read and write these."""

    __tablename__ = "removed_objects"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    object_key: Mapped[str] = mapped_column(Text, primary_key=True)
    due_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
