"""Jobs as the database reads them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, bindparam, func, select, update

from app.access.permissions import Permission
from app.admin.jobs.schemas import Job, JobError, JobProgress, JobQuery
from app.models import Job as Row
from app.records.filters import one_of, own_or_all, own_or_all_of, user_in
from app.records.json_columns import JsonColumn, selected, view_columns
from app.records.listing import Listing
from app.records.transaction import Transaction
from app.web.errors import AppError, Code
from app.web.paging import SortOrder

c = Row.__table__.c
COLUMNS = view_columns(
    Job,
    Row.__table__,
    progress=JsonColumn(func.json_build_object("done", c.done, "total", c.total), JobProgress),
    error=JsonColumn(c.error, JobError | None),
)
LISTING = Listing(
    "jobs",
    Job,
    COLUMNS,
    Row.__table__,
    key=c.id,
    query=JobQuery,
    filters={"kind": one_of(c.kind), "status": one_of(c.status), "user_id": user_in(c.user_id)},
    scope={"asked_by": user_in(c.user_id)},
    default_sort=("created_at", SortOrder.DESC),
)
VISIBLE = (c.id == bindparam("job_id"), own_or_all(c.user_id))
ONE: Select[Any] = select(*selected(COLUMNS)).where(*VISIBLE)
CANCEL = (
    update(Row)
    .where(*VISIBLE, c.finished_at.is_(None))
    .values(status="cancelled", finished_at=func.now())
    .returning(c.kind)
)


def sees_all(tx: Transaction) -> bool:
    """Whether the person sees everybody's jobs: admins do."""
    return tx.actor.can(Permission.AUDIT)


async def get(tx: Transaction, job_id: int) -> Job:
    """Raises AppError JOB_NOT_FOUND, also for somebody else's job."""
    row = (await tx.connection.execute(ONE, _visible(tx, job_id))).one_or_none()
    if row is None:
        raise AppError(Code.JOB_NOT_FOUND)
    return Job(*row)


async def cancel(tx: Transaction, job_id: int) -> str:
    """End a job; returns its kind. A worker finds out at the end of its step, which is undone.

    Raises AppError JOB_NOT_FOUND, or JOB_FINISHED.
    """
    kind = (await tx.connection.execute(CANCEL, _visible(tx, job_id))).scalar_one_or_none()
    if kind is None:
        await get(tx, job_id)
        raise AppError(Code.JOB_FINISHED)
    return str(kind)


def _visible(tx: Transaction, job_id: int) -> dict[str, Any]:
    return {"job_id": job_id} | own_or_all_of(tx.actor.user_id, sees_all=sees_all(tx))
