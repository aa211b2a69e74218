"""Proposals as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct

from app.admin.audit.schemas import Via
from app.admin.dry_run import Change
from app.web.paging import ListQuery
from app.web.structs import Maybe, View


class ProposalStatus(StrEnum):
    """What became of a proposal. One that nobody decided in time is expired."""

    PENDING = "pending"
    APPROVED = "approved"
    DECLINED = "declined"
    EXPIRED = "expired"


class ProposalSort(StrEnum):
    """What a list of proposals can be sorted by."""

    CREATED_AT = "created_at"


class ProposedRequest(Struct):
    """What is done when it is approved."""

    method: str
    path: str
    body: dict[str, Any] | None


class Proposal(View):
    """What a tool would do for me: `summary` says it, `title` is what the record is called, and `changes` are the first
    records that would change, field by field; `more` counts the others. Once approved, `operation_id` takes it back.
    """

    id: int
    status: ProposalStatus
    via: Via
    tool: str
    summary: str
    title: str | None
    request: ProposedRequest
    changes: list[Change]
    more: int
    created_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    operation_id: UUID | None
    conversation_id: Annotated[int | None, Meta(description="The assistant's conversation that it came up in")]


class ApprovedProposal(Struct):
    """A proposal that was done, and what the request answered."""

    proposal: Proposal
    result: Any


class ProposalQuery(ListQuery):
    """Which proposals: those that wait for me, unless `status` says otherwise."""

    sort_by: Maybe[ProposalSort] = UNSET
    status: Maybe[list[ProposalStatus]] = UNSET
