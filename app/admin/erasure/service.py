"""Erasing a record: at once, or as a job where it reaches many others."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, convert, to_builtins

from app.access.permissions import Permission
from app.admin.erasure.schemas import Erasure
from app.admin.jobs import queries as jobs
from app.admin.jobs.schemas import JobKind, JobStarted
from app.jobs.queue import Job, Step, Work, enqueue, longer_statements
from app.records.erasure import AT_ONCE, IN_JOB, Erased, erase, identify, measure, too_many
from app.records.resources import WITH_TRASH, Resource
from app.records.transaction import Transaction
from app.settings import Settings

RESOURCES = {resource.kind: resource for resource in WITH_TRASH}


class _Wanted(Struct):
    """What a job has to know: never a name. `created_at` tells the record from any other."""

    resource_type: str
    resource_id: int
    created_at: datetime
    reason: str


async def erase_or_enqueue(
    tx: Transaction, resource: Resource, record_id: int, data: Erasure, settings: Settings
) -> Erased | JobStarted:
    """Erase a record with all that belongs to it; of more than 1,000 records or 10,000 audit entries, the job that it
    becomes.

    Raises AppError: not found, INVALID_REQUEST if `confirm` is not its name, ON_HOLD, TOO_MANY_RECORDS.
    """
    created_at = await identify(tx, resource, record_id, confirm=data.confirm)
    erased = await erase(tx, resource, record_id, created_at, reason=data.reason, limits=AT_ONCE, settings=settings)
    if erased is not None:
        return erased
    if tx.dry_run:
        raise too_many(AT_ONCE, "A dry run of an erasure reaches")
    records = await measure(tx, resource, record_id)
    wanted = _Wanted(resource.kind, record_id, created_at, data.reason)
    job_id = await enqueue(tx, JobKind.ERASURE, to_builtins(wanted), targets=None, total=records)
    return JobStarted(await jobs.get(tx, job_id))


def erase_in_job(settings: Settings) -> Work:
    """The work of jobs that erase a record: all of it in one step, by an admin then and now."""

    async def step(tx: Transaction, job: Job) -> Step:
        tx.actor.require(Permission.CONFIGURE)
        wanted = convert(job.arguments, _Wanted)
        resource = RESOURCES[wanted.resource_type]
        # On a slow server it takes longer than it should, and still ends.
        async with longer_statements(tx):
            erased = await erase(
                tx,
                resource,
                wanted.resource_id,
                wanted.created_at,
                reason=wanted.reason,
                limits=IN_JOB,
                settings=settings,
            )
        if erased is None:  # it has grown meanwhile
            raise too_many(IN_JOB, "A job erases")
        return Step(sum(erased.erased.values()), {}, to_builtins(erased))

    return step
