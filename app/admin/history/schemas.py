"""Versions, moments and undoing, as JSON."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, Struct

from app.records.audit_values import ResourceType
from app.web.structs import DATES, Body, Maybe, RecordId, check_bound


class AsOf(Struct):
    """A record as it was."""

    as_of: Maybe[
        Annotated[
            str,
            Meta(
                description="Answers the record's own fields as they were then, without nested records; a bare date is"
                " the end of that day in the organization's timezone",
                examples=["2026-01-31T09:30:00Z"],
                extra={"check": check_bound},
                extra_json_schema=DATES,
            ),
        ]
    ] = UNSET


class EntryUndo(Body, kw_only=True):
    """The change that is taken back: one of the record's versions."""

    entry_id: RecordId


class ChangedSince(StrEnum):
    """What becomes of fields that were changed again since."""

    REFUSE = "refuse"
    KEEP = "keep"


class OperationUndo(Body, kw_only=True):
    """How an operation is taken back: whole or not at all, or all but what was changed since."""

    changed_since: Maybe[ChangedSince] = UNSET


class Kept(Struct):
    """A field that was changed since, or could not be taken back, and stays as it is."""

    resource_type: ResourceType
    resource_id: int
    field: str


class Undone(Struct):
    """How many changes of the operation were taken back, and what was not. X-Operation-Id names the undo itself."""

    operation_id: UUID
    changed: int
    kept: list[Kept]


class UndoneByJob(Undone):
    """The result of a job that took an operation back: `more` counts what stays beyond the first 1,000."""

    more: Maybe[int] = UNSET
