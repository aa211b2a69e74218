"""Jobs as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct

from app.web.paging import ListQuery, UserFilter
from app.web.structs import Maybe, View


class JobKind(StrEnum):
    """What a job does."""

    BULK = "bulk"
    UNDO = "undo"
    REASSIGN = "reassign"
    REPORT = "report"
    ERASURE = "erasure"
    IMPORT_CHECK = "import_check"
    IMPORT_RUN = "import_run"
    EXPORT = "export"


class JobStatus(StrEnum):
    """Where a job is. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobSort(StrEnum):
    """Lists of jobs have one order."""

    CREATED_AT = "created_at"


class JobProgress(Struct):
    """How many records, or rows, are done; `total` is null where nobody knows how many there are."""

    done: int
    total: int | None


class JobError(Struct):
    """Why a job failed, as a request would be refused."""

    code: str
    message: str
    data: Any


class Job(View):
    """What somebody asked for that takes longer than a request. All that it changes is the operation `operation_id`."""

    id: int
    kind: JobKind
    status: JobStatus
    progress: JobProgress
    result: dict[str, Any] | None
    error: JobError | None
    user_id: int | str
    user_name: str | None
    operation_id: UUID
    attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobStarted(Struct):
    """The answer 202 of whatever becomes a job. Its address is in the header Location."""

    job: Job


class JobQuery(ListQuery):
    """Filters of a list of jobs."""

    sort_by: Maybe[JobSort] = UNSET
    kind: Maybe[list[JobKind]] = UNSET
    status: Maybe[list[JobStatus]] = UNSET
    user_id: Maybe[UserFilter] = UNSET
