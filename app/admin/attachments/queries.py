"""Attachments as the database reads them."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, select

from app.admin.attachments.schemas import Attachment, AttachmentQuery
from app.models import Attachment as Row
from app.models import AttachmentUpload
from app.records import resources
from app.records.counts import total
from app.records.filters import one_of
from app.records.json_columns import view_columns
from app.records.listing import Listing
from app.records.trash_repository import TrashRepository
from app.web.paging import SortOrder

c = Row.__table__.c
upload = AttachmentUpload.__table__.c

COLUMNS = view_columns(Attachment, Row.__table__)
ATTACHMENTS = TrashRepository(resources.ATTACHMENTS, Attachment, COLUMNS)
LISTING = Listing.of(
    ATTACHMENTS,
    AttachmentQuery,
    scope={
        "customer_id": one_of(c.customer_id),
        "deal_id": one_of(c.deal_id),
        "activity_id": one_of(c.activity_id),
        "project_id": one_of(c.project_id),
    },
    default_sort=("created_at", SortOrder.DESC),
)
KEY = select(c.object_key).where(c.id == bindparam("attachment_id"), c.deleted_at.is_(None))
KEPT = select(c.id).where(c.object_key == bindparam("key"))
# Only the person who began an upload may complete it.
PENDING = select(AttachmentUpload.__table__).where(
    upload.id == bindparam("attachment_id"), upload.uploaded_by == bindparam("me")
)
TAKEN = delete(AttachmentUpload).where(upload.id == bindparam("attachment_id")).returning(upload.id)
# The bytes of all files of the organization, those in the trash too.
BYTES = total("attachment_bytes")
