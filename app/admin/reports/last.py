"""What is answered in the place of a report that can't be had in time: its last run, which a job makes anew."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

from msgspec import Struct, json, to_builtins
from psycopg.errors import LockNotAvailable, QueryCanceled, SerializationFailure
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
# So many different ones are made at a time for one person.
MOST_ON_THEIR_WAY = 5

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
ON_THEIR_WAY = select(func.count()).where(*_same, job.arguments.has_key("filters"), job.finished_at.is_(None))
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
    # A standby breaks a read off with the last one, so that it can follow the primary.
    too_long = QueryCanceled | LockNotAvailable | SerializationFailure
    return isinstance(error.__cause__, too_long) and OUTER not in request.scope["state"]


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
        **made_as(database, actor),
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
            if (await tx.connection.execute(ON_THEIR_WAY, given)).scalar_one() < MOST_ON_THEIR_WAY:
                await enqueue(tx, JobKind.REPORT, arguments, targets=None, total=1)
            elif last is None:
                raise AppError(Code.SERVICE_UNAVAILABLE, "Other reports of yours are being made: ask again in a minute")
    give_up = time.monotonic() + MOST_WAITED_SECONDS
    is_made = last is not None
    while last is None and not is_made and time.monotonic() < give_up:
        await asyncio.sleep(PAUSE_SECONDS)
        async with reading(database, actor) as tx:
            is_made = not await _waits(tx, given)
            last = await _find(tx, given)
    if last is None:
        made = (
            "could not be made: GET /admin/jobs says why" if is_made else "is still being made: ask again in a minute"
        )
        raise AppError(Code.SERVICE_UNAVAILABLE, f"The report {made}")
    return last


def made_as(database: Database, actor: Actor) -> dict[str, Any]:
    """What decides on the records in a report. A run is found as what it was made as, not as what was asked for."""
    return {"own_only": database.sees_own_only(actor), "role": actor.role.value}


def name_of(arguments: dict[str, Any]) -> str:
    """The file of a run that takes the place of an answer. A finished job no longer has its arguments: the name stands
    for them.
    """
    asked = hashlib.sha256(json.encode(arguments, order="deterministic")).hexdigest()
    return f"{arguments['report']}-{asked[:32]}.json"


async def _find(tx: Transaction, given: dict[str, Any]) -> LastRun | None:
    row = (await tx.connection.execute(LAST, given)).one_or_none()
    return None if row is None else LastRun(*row)


async def _waits(tx: Transaction, given: dict[str, Any]) -> bool:
    return bool((await tx.connection.execute(WAITS, given)).scalar_one())
