"""Attachments as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta

from app.web.paging import Deleted, ListQuery
from app.web.structs import Body, Maybe, View
from app.web.text import EXACT


class Attachment(View):
    """A file of a customer, a deal, an activity or a project. Its type is found out from its bytes."""

    id: int
    file_name: str
    content_type: str
    size: int
    sha256: str
    uploaded_by: int | str
    customer_id: int | None
    deal_id: int | None
    activity_id: int | None
    project_id: int | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    version: int


class AttachmentDetail(Attachment):
    """A file, and where to download it for the next five minutes without a token."""

    download_url: str


class UploadCreate(Body, kw_only=True):
    """A file that the client is going to put into the store itself."""

    file_name: Annotated[str, Meta(min_length=1, max_length=1024, **EXACT, examples=["offer.pdf"])]
    content_type: Annotated[str, Meta(min_length=1, max_length=255, examples=["application/pdf"], **EXACT)]
    size: Annotated[
        int,
        Meta(ge=0, le=2**63 - 1, description="In bytes, above 0", examples=[48213], extra_json_schema={"minimum": 1}),
    ]


class Upload(View):
    """Where to PUT the bytes, with which headers, until when; then POST to `/admin/attachments/{id}/complete`."""

    id: int
    upload_url: str
    headers: dict[str, str]
    expires_at: datetime


class AttachmentSort(StrEnum):
    """What a list of attachments can be sorted by."""

    CREATED_AT = "created_at"


class AttachmentQuery(ListQuery):
    """Filters of a record's attachments."""

    sort_by: Maybe[AttachmentSort] = UNSET
    deleted: Maybe[Deleted] = UNSET
