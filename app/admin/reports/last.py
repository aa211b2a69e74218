"""What is answered in the place of a report that can't be had in time: its last run, which a job makes anew."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

from msgspec import Struct, json, to_builtins
from psycopg.errors import LockNotAvailable, QueryCanceled
from sqlalchemy import BigInteger, bindparam, cast, extract, func, select, text
from sqlalchemy.dialects.postgresql import JSONB

from app.access.actor import Actor
from app.admin.http import OUTER, origin_of
from app.admin.jobs.schemas import JobKind
from app.admin.report_runs.schemas import ReportFormat, ReportName
from app.db.database import Database
from app.jobs.queue import enqueue
from app.models import Job, JobFile
from app.records.transaction import Transaction, reading, writing
from app.web.errors import AppError, Code
from app.web.input import CrmRequest

# A run that is older is made anew, and where there is none it is waited for.
ANEW_SECONDS = 60
MOST_WAITED_SECONDS = 30.0
PAUSE_SECONDS = 0.25

job, file = Job.__table__.c, JobFile.__table__.c
_same = (
    job.user_id == bindparam("user_id"),
    job.user_role == bindparam("role"),
    job.kind == JobKind.REPORT.value,
)
_age = func.greatest(func.floor(extract("epoch", func.now() - job.started_at)), 0)
LAST = (
    select(file.content, cast(_age, BigInteger))
    .join_from(Job.__table__, JobFile.__table__, file.job_id == job.id)
    .where(*_same, file.name == bindparam("name"), job.status == "done", file.content.is_not(None))
    .order_by(job.created_at.desc(), job.id.desc())
    .limit(1)
)
WAITS = select(func.count()).where(
    *_same, job.arguments == bindparam("arguments", type_=JSONB), job.finished_at.is_(None)
)
ONE_AT_A_TIME = text("""
    SELECT pg_advisory_xact_lock(
        hashtextextended('report ' || current_setting('crm.tenant') || ' ' || current_setting('crm.user'), 0)
    )
""")


class LastRun(Struct, frozen=True):
    """A report as JSON, and how many seconds ago it was made."""

    document: bytes
    age: int


def takes_too_long(request: CrmRequest, error: AppError) -> bool:
    """Whether a report failed for this only. Inside a batch there is one transaction, which can't go on."""
    return isinstance(error.__cause__, QueryCanceled | LockNotAvailable) and OUTER not in request.scope["state"]


async def last_run(request: CrmRequest, report: ReportName, query: Struct | None = None) -> LastRun:
    """The report as it was last made for this person. If it never was, it is waited for.

    Raises AppError SERVICE_UNAVAILABLE if it is not there after half a minute, or could not be made.
    """
    actor: Actor = request.user
    database: Database = request.app.state.database
    arguments = {
        "report": report.value,
        "format": ReportFormat.JSON.value,
        "filters": {} if query is None else to_builtins(query),
        "own_only": database.sees_own_only(actor),
    }
    given = {
        "user_id": actor.user_id,
        "role": actor.role.value,
        "arguments": arguments,
        "name": name_of(arguments),
    }
    async with writing(database, actor, origin_of(request)) as tx:
        await tx.connection.execute(ONE_AT_A_TIME)
        last = await _find(tx, given)
        if (last is None or last.age >= ANEW_SECONDS) and not await _waits(tx, given):
            await enqueue(tx, JobKind.REPORT, arguments, targets=None, total=1)
    give_up = time.monotonic() + MOST_WAITED_SECONDS
    is_made = last is not None
    while last is None and not is_made and time.monotonic() < give_up:
        await asyncio.sleep(PAUSE_SECONDS)
        async with reading(database, actor) as tx:
            is_made = not await _waits(tx, given)
            last = await _find(tx, given)
    if last is None:
        raise AppError(Code.SERVICE_UNAVAILABLE, "The report is still being made: ask again in a minute")
    return last


def name_of(arguments: dict[str, Any]) -> str:
    """The file of a run that takes the place of an answer. It says what was asked, which a finished job does not."""
    asked = hashlib.sha256(json.encode(arguments, order="deterministic")).hexdigest()
    return f"{arguments['report']}-{asked[:32]}.json"


async def _find(tx: Transaction, given: dict[str, Any]) -> LastRun | None:
    row = (await tx.connection.execute(LAST, given)).one_or_none()
    return None if row is None else LastRun(*row)


async def _waits(tx: Transaction, given: dict[str, Any]) -> bool:
    return bool((await tx.connection.execute(WAITS, given)).scalar_one())
