"""Audit entries as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, field

from app.records.audit_values import AuditAction, Difference, ResourceType
from app.web.paging import ListQuery, UserFilter
from app.web.structs import From, Maybe, RecordId, Until, View


class Via(StrEnum):
    """By which way a change came."""

    API = "api"
    CONSOLE = "console"
    MCP = "mcp"
    ASSISTANT = "assistant"
    IMPORT = "import"
    JOB = "job"
    CALENDAR = "calendar"


class AuditSort(StrEnum):
    """What the audit log can be sorted by."""

    CREATED_AT = "created_at"


class AuditEntry(View):
    """Who did what to which record, in which request; `version` is the record's after it, and all that one request or
    job changed has the same `operation_id`. Its place in the organization's chain, and the SHA-256 over all of the
    chain up to it, are null until it is sealed, some seconds later.
    """

    id: int
    resource_type: ResourceType
    resource_id: int
    action: AuditAction
    user_id: int | str | None
    user_name: str | None
    user_role: str | None
    changes: dict[str, Difference]
    old_values: dict[str, Any] | None
    new_values: dict[str, Any] | None
    ip_address: str | None
    user_agent: str | None
    request_id: str | None
    version: int | None
    operation_id: UUID | None
    via: Via | None
    created_at: datetime
    sequence: int | None
    hash: str | None


RequestId = Annotated[str, Meta(max_length=128)]


class AuditQuery(ListQuery):
    """Filters of the audit log."""

    sort_by: Maybe[AuditSort] = UNSET
    resource_type: Maybe[list[ResourceType]] = UNSET
    resource_id: Maybe[list[RecordId]] = UNSET
    action: Maybe[list[AuditAction]] = UNSET
    user_id: Maybe[UserFilter] = UNSET
    request_id: Maybe[list[RequestId]] = UNSET
    operation_id: Maybe[list[UUID]] = UNSET
    from_: Maybe[From] = field(default=UNSET, name="from")
    to: Maybe[Until] = UNSET


class VersionSort(StrEnum):
    """Versions have one order."""

    CREATED_AT = "created_at"


class VersionQuery(ListQuery):
    """Versions are walked, not filtered."""

    sort_by: Maybe[VersionSort] = UNSET
