"""Jobs as the database keeps them: they are enqueued, begin, move on step by step, and end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import ARRAY, BigInteger, bindparam, func, literal_column, select, text, update
from sqlalchemy.dialects.postgresql import JSONB

from app.access.actor import Actor
from app.access.permissions import RANK, Role
from app.db.database import Database, Origin
from app.db.pool import response_timeout
from app.db.session import Session
from app.jobs.metrics import OLDEST, WAITING
from app.models import Job as Row
from app.records.transaction import Transaction
from app.web.errors import AppError

# Jobs of this kind write what a file says: the audit log tells it from what people do.
IMPORT = "import_run"
PRUNED_AT_ONCE, SCHEDULED_AT_ONCE = 500, 100
# A worker that was not heard of for so long is dead, and its jobs go on elsewhere.
SILENT_SECONDS = 15.0
ENQUEUE = text("SELECT crm_enqueue_job(:kind, :arguments, :targets, :total)").bindparams(
    bindparam("arguments", type_=JSONB), bindparam("targets", type_=ARRAY(BigInteger))
)
# Who gave way to other jobs, or to a restart, goes on with the same attempt.
# The role that the person's last token had; what the organization narrows it to; and whether the person was neither
# deactivated, nor signed out after asking for the job. Null of who was never seen.
STANDING = """(
    SELECT jsonb_build_array(users.role, members.role,
        members.is_active AND coalesce(members.signed_out_at < jobs.created_at, true))
    FROM users JOIN members ON members.user_id = users.id WHERE users.id = jobs.user_id
)"""
BEGIN = text(f"""
    UPDATE jobs SET status = 'running', started_at = coalesce(started_at, now()), steps = steps + 1,
        attempts = attempts + CASE WHEN status = 'queued' AND started_at IS NOT NULL THEN 0 ELSE 1 END
    WHERE id = :id AND finished_at IS NULL
    RETURNING kind, arguments, state, done, total, steps, failures, user_id, user_name, user_role, request_id,
        operation_id, started_at, {STANDING} AS standing
""")  # noqa: S608 -- our own text
TARGETS = text("SELECT targets[:first + 1 : :first + :most] FROM jobs WHERE id = :id")
c = Row.__table__.c
# Nothing is changed where the job was cancelled, or another worker took it over.
OURS = (
    update(Row)
    .where(c.id == bindparam("job_id"), c.steps == bindparam("seen"), c.status == "running")
    .returning(literal_column(STANDING, JSONB))
)
MOVE_ON = OURS.values(done=bindparam("done"), state=bindparam("state"), steps=c.steps + 1, failures=0)
FINISH = OURS.values(
    status=bindparam("status"),
    done=func.coalesce(bindparam("done", type_=BigInteger), c.done),
    result=bindparam("result"),
    error=bindparam("error"),
    finished_at=func.clock_timestamp(),
)
NOTE_PROGRESS = OURS.values(done=bindparam("done"))
GIVE_WAY = OURS.values(status="queued")
FAILED_STEP = OURS.values(failures=c.failures + 1)
TEND = text("SELECT waiting, oldest FROM crm_tend_jobs(:silent)")
RUN_SCHEDULES = text("SELECT crm_run_report_schedules(:most)")
# A statement of a request may take 5 seconds.
STATEMENT_SECONDS = 60
LONGER = select(func.set_config("statement_timeout", f"{STATEMENT_SECONDS}s", True))
PRUNE = text("SELECT crm_prune_jobs(:days, :most)")


# See STANDING.
Standing: TypeAlias = tuple[str | None, str | None, bool] | None


class Superseded(Exception):
    """The job was cancelled, or another worker took it over: this one must not go on with it."""


class Job(Struct):
    """A job that a worker has begun. `actor` is who asked, as of then, with a role that has become smaller since. Who
    `is_out` was deactivated, or signed out after asking.
    """

    id: int
    kind: str
    arguments: dict[str, Any]
    state: dict[str, Any]
    done: int
    total: int | None
    steps: int
    failures: int
    actor: Actor
    request_id: str | None
    operation_id: UUID
    started_at: datetime
    is_out: bool = False

    def after(self, step: Step, standing: Standing) -> Job:
        """The job, once this step of it is committed."""
        moved = replace(self, done=step.done, state=step.state, steps=self.steps + 1, failures=0)
        return moved.as_of(standing)

    def as_of(self, standing: Standing) -> Job:
        """The job with what the person may still do."""
        if standing is None:
            return self
        *roles, holds = standing
        role = min([self.actor.role, *(Role(role) for role in roles if role is not None)], key=RANK.__getitem__)
        return replace(self, actor=replace(self.actor, role=role), is_out=not holds)

    @property
    def origin(self) -> Origin:
        """For the audit log: all that the job changes is one operation, of the request that asked for it."""
        via = "import" if self.kind == IMPORT else "job"
        return Origin(operation_id=self.operation_id, via=via, request_id=self.request_id)


class Step(NamedTuple):
    """How far a job has come. The one with a `result` is the last."""

    done: int
    state: dict[str, Any]
    result: Any = None


# Does a part of a job that takes seconds at most, in one transaction. Raises AppError, which ends the job unless trying
# again can help.
Work: TypeAlias = Callable[[Transaction, Job], Awaitable[Step]]
Kinds: TypeAlias = Mapping[str, Work]


async def enqueue(
    tx: Transaction, kind: str, arguments: Mapping[str, Any], *, targets: Sequence[int] | None, total: int | None
) -> int:
    """The id of a new job, which is there if the transaction is committed. It runs as the transaction's person."""
    given = {"kind": kind, "arguments": arguments, "targets": targets, "total": total}
    return int((await tx.connection.execute(ENQUEUE, given)).scalar_one())


async def begin(database: Database, tenant_id: str, job_id: int) -> Job | None:
    """The job, which this worker runs from now on; None where it is finished. Raises AppError."""
    async with database.in_tenant(tenant_id) as session:
        row = (await session.execute(BEGIN, {"id": job_id})).mappings().first()
    if row is None:
        return None
    values = dict(row)
    standing = values.pop("standing")
    actor = Actor(
        user_id=values.pop("user_id"),
        tenant_id=tenant_id,
        role=Role(values.pop("user_role")),
        name=values.pop("user_name"),
    )
    return Job(id=job_id, actor=actor, **values).as_of(standing)


@asynccontextmanager
async def longer_statements(tx: Transaction) -> AsyncIterator[None]:
    """Inside, a statement of a job's step may take a minute; and in the rest of its transaction, for the database."""
    await tx.connection.execute(LONGER)
    with response_timeout(STATEMENT_SECONDS + 1):
        yield


async def targets(tx: Transaction, job: Job, first: int, most: int) -> list[int]:
    """Some of the records that the job is about."""
    given = {"id": job.id, "first": first, "most": most}
    return list((await tx.connection.execute(TARGETS, given)).scalar_one() or ())


async def move_on(tx: Transaction, job: Job, step: Step) -> Standing:
    """Keep how far the job has come, in the transaction of what it did. Raises Superseded, so that it is undone. Once
    it is committed, the caller goes on from `Job.after`, with what this returns.
    """
    if step.result is not None:
        ended = {"status": "done", "done": step.done, "result": step.result, "error": None}
        return await _ours(tx.connection, FINISH, job, ended)
    return await _ours(tx.connection, MOVE_ON, job, {"done": step.done, "state": step.state})


async def note_progress(database: Database, job: Job, done: int) -> None:
    """Tell how far a long step is, before it is committed. Raises AppError, or Superseded, so that it ends early."""
    async with database.in_tenant(job.actor.tenant_id) as session:
        await _ours(session, NOTE_PROGRESS, job, {"done": done})


async def fail(database: Database, job: Job, error: AppError) -> None:
    """End the job with the reason. Raises AppError, or Superseded."""
    reason = {"code": error.code.name, "message": error.message, "data": error.data}
    ended = {"status": "failed", "done": None, "result": None, "error": reason}
    async with database.in_tenant(job.actor.tenant_id) as session:
        await _ours(session, FINISH, job, ended)


async def give_way(database: Database, job: Job) -> None:
    """Let the job wait for its next turn. Raises AppError, or Superseded."""
    async with database.in_tenant(job.actor.tenant_id) as session:
        await _ours(session, GIVE_WAY, job, {})


async def note_failure(database: Database, job: Job) -> None:
    """Count a step that failed and is tried again. Raises AppError, or Superseded."""
    async with database.in_tenant(job.actor.tenant_id) as session:
        await _ours(session, FAILED_STEP, job, {})


async def _ours(session: Session, statement: Any, job: Job, values: Mapping[str, Any]) -> Standing:
    found = (await session.execute(statement, {"job_id": job.id, "seen": job.steps, **values})).first()
    if found is None:
        raise Superseded
    standing: Standing = found[0]
    return standing


async def tend(database: Database) -> int:
    """Let jobs go on whose worker is dead, and tell monitors how many wait. Returns how many. Raises AppError."""
    async with database.maintenance() as session:
        waiting, oldest = (await session.execute(TEND, {"silent": SILENT_SECONDS})).one()
    WAITING.set(waiting)
    OLDEST.set(oldest)
    return int(waiting)


async def run_schedules(database: Database) -> int:
    """Make the jobs of reports that are due; returns how many. Any number of workers may do so. Raises AppError."""
    async with database.maintenance() as session:
        return int((await session.execute(RUN_SCHEDULES, {"most": SCHEDULED_AT_ONCE})).scalar_one())


async def prune_jobs(database: Database, days: int) -> int:
    """Delete some of the jobs that were finished so many days ago; returns how many. Raises AppError."""
    async with database.maintenance() as session:
        return int((await session.execute(PRUNE, {"days": days, "most": PRUNED_AT_ONCE})).scalar_one())
