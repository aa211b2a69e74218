"""The rows of attachments. Their bytes are moved by `transfer`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import insert

from app.admin.activities.queries import ACTIVITIES
from app.admin.attachments import queries
from app.admin.attachments.queries import ATTACHMENTS
from app.admin.attachments.schemas import Attachment, UploadCreate
from app.admin.customers.queries import CUSTOMERS
from app.admin.deals.queries import DEALS
from app.admin.projects.queries import PROJECTS
from app.db.result import RowMapping
from app.models import AttachmentUpload
from app.records.repository import Repository
from app.records.resources import quota_exceeded
from app.records.transaction import Transaction
from app.settings import Settings
from app.storage.objects import INCOMING, new_key
from app.web.errors import AppError, Code, bad_field
from app.web.file_names import safe_name

# How long a signed URL lives.
URL_SECONDS = 300


class Parent(NamedTuple):
    """A kind of record that attachments may belong to."""

    column: str
    records: Repository[Any]


CUSTOMER = Parent("customer_id", CUSTOMERS)
DEAL = Parent("deal_id", DEALS)
ACTIVITY = Parent("activity_id", ACTIVITIES)
PROJECT = Parent("project_id", PROJECTS)
PARENTS = (CUSTOMER, DEAL, ACTIVITY, PROJECT)


class File(NamedTuple):
    """A file that has arrived, and its type, size and hash."""

    name: str
    content_type: str
    size: int
    sha256: str
    key: str


def require_acceptable(settings: Settings, size: int, content_type: str, *, field: str = "file") -> None:
    """Raises AppError UNSUPPORTED_MEDIA_TYPE, PAYLOAD_TOO_LARGE or EMPTY_FILE."""
    if size and content_type not in settings.accepted_types:
        raise AppError(Code.UNSUPPORTED_MEDIA_TYPE, f"Files of this type ({content_type}) are not accepted here")
    if size > settings.attachment_max_bytes:
        limit = settings.attachment_max_bytes
        raise AppError(Code.PAYLOAD_TOO_LARGE, f"A file may have at most {limit} bytes", data={"max": limit})
    if not size:
        raise bad_field(Code.EMPTY_FILE, field)


async def require_room(tx: Transaction, settings: Settings, size: int) -> None:
    """Raises AppError QUOTA_EXCEEDED before the store is given what the database would refuse afterwards."""
    most = settings.max_storage_bytes
    if most and (await tx.connection.execute(queries.BYTES)).scalar_one() + size > most:
        raise quota_exceeded("quota_bytes", most)


async def key_of(tx: Transaction, attachment_id: int) -> str:
    """The name of its object in the store. Raises AppError ATTACHMENT_NOT_FOUND."""
    key = (await tx.connection.execute(queries.KEY, {"attachment_id": attachment_id})).scalar_one_or_none()
    if key is None:
        raise ATTACHMENTS.not_found()
    return str(key)


async def create(tx: Transaction, parent: Parent, record_id: int, file: File) -> Attachment:
    """Store the row of a file. Raises AppError if the parent does not exist."""
    await parent.records.lock_parent(tx, record_id)
    return await _insert(tx, {parent.column: record_id, "uploaded_by": tx.actor.user_id}, file)


async def is_kept(tx: Transaction, parent: Parent, record_id: int, key: str) -> bool:
    """Whether there is a row for this object. Waits for transactions that may be creating it."""
    await parent.records.lock_parent(tx, record_id)
    return (await tx.connection.execute(queries.KEPT, {"key": key})).first() is not None


async def begin(tx: Transaction, parent: Parent, record_id: int, data: UploadCreate) -> RowMapping:
    """Store a row that waits for its file, not yet an attachment. Raises AppError if the parent does not exist."""
    await parent.records.lock_parent(tx, record_id)
    values = {
        "tenant_id": tx.actor.tenant_id,
        "file_name": safe_name(data.file_name),
        "content_type": data.content_type.lower(),
        "size": data.size,
        "uploaded_by": tx.actor.user_id,
        "object_key": f"{INCOMING}/{new_key(tx.actor.tenant_id)}",
        "expires_at": datetime.now(UTC) + timedelta(seconds=URL_SECONDS),
        parent.column: record_id,
    }
    made = await tx.connection.execute(insert(AttachmentUpload).values(values).returning(AttachmentUpload.__table__))
    row: RowMapping = made.mappings().one()
    return row


async def pending(tx: Transaction, attachment_id: int) -> RowMapping | None:
    """An upload that this person began and did not complete."""
    found = await tx.connection.execute(queries.PENDING, {"attachment_id": attachment_id, "me": tx.actor.user_id})
    row: RowMapping | None = found.mappings().one_or_none()
    return row


def parent_of(row: RowMapping) -> tuple[Parent, int]:
    """The record that a row belongs to."""
    return next((each, row[each.column]) for each in PARENTS if row[each.column] is not None)


async def complete(tx: Transaction, upload: RowMapping, file: File) -> bool:
    """Make an upload an attachment; returns False if another request just did. Raises AppError PARENT_DELETED."""
    parent, record_id = parent_of(upload)
    await parent.records.lock_parent_for_restore(tx, record_id)
    taken = await tx.connection.execute(queries.TAKEN, {"attachment_id": upload["id"]})
    if taken.first() is None:
        return False
    links = {parent.column: record_id, "uploaded_by": upload["uploaded_by"], "id": upload["id"]}
    await _insert(tx, links, file)
    return True


async def _insert(tx: Transaction, values: dict[str, Any], file: File) -> Attachment:
    described = {
        "file_name": file.name,
        "content_type": file.content_type,
        "size": file.size,
        "sha256": file.sha256,
        "object_key": file.key,
    }
    return await ATTACHMENTS.get(tx, await ATTACHMENTS.insert(tx, values | described))
