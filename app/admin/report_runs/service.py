"""Makes a report as a file: by the same code as its route."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from msgspec import UNSET, Struct, convert, to_builtins
from sqlalchemy import bindparam, func, select

from app.access.permissions import Permission
from app.admin.jobs import queries as jobs
from app.admin.jobs.schemas import JobKind, JobStarted
from app.admin.mails.queries import mail_report, mailing_of
from app.admin.report_runs.schemas import ReportFormat, ReportName, ReportResult, ReportRun
from app.admin.reports import forecast, last
from app.admin.reports import service as reports
from app.admin.reports.schemas import DealReportQuery, ForecastQuery, PeriodQuery
from app.db.database import Database
from app.files.tables import tables_of, to_csv
from app.files.xlsx import to_xlsx
from app.jobs.files import File, hold_erasures, keep_file
from app.jobs.queue import Job, Step, Work, enqueue, longer_statements
from app.models import Job as Row
from app.records.calendar import day_of, zone_of
from app.records.transaction import Transaction, reading
from app.web import strict_json
from app.web.errors import AppError, Code, Fault, invalid
from app.web.input import read_again

job = Row.__table__.c
# It reads, so that it holds up nobody.
MORE_MEMORY = select(func.set_config("work_mem", "16MB", True))
# So many reports of one person may wait.
MOST_WAITING = 100
WAITING = select(func.count()).where(
    job.user_id == bindparam("user_id"), job.kind == JobKind.REPORT.value, job.finished_at.is_(None)
)
# As in the filters of lists: the person who asks, and nobody.
NAMED = ("me", "none")
CONTENT_TYPES = {
    ReportFormat.JSON: "application/json",
    ReportFormat.CSV: "text/csv",
    ReportFormat.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


class _NoFilters(Struct):
    """The overview has none."""


class _Report(NamedTuple):
    """The filters that a report has, what makes it, and what refuses filters that do not go together."""

    query: type[Struct]
    make: Callable[[Transaction, Any], Awaitable[Struct]]
    check: Callable[[Transaction, Any], Awaitable[object]] | None = None


REPORTS = {
    ReportName.OVERVIEW: _Report(_NoFilters, lambda tx, _: reports.overview(tx)),
    ReportName.SUMMARY: _Report(DealReportQuery, reports.summary),
    ReportName.FUNNEL: _Report(DealReportQuery, reports.funnel),
    ReportName.FORECAST: _Report(ForecastQuery, forecast.forecast, forecast.span_of),
    ReportName.TEAM: _Report(PeriodQuery, reports.team),
}


def query_of(run: ReportRun) -> Struct:
    """The run's filters, as the report reads them. Raises AppError for one that the report does not have."""
    # In quotes a person is taken literally.
    owners = UNSET if run.owner_id is UNSET else [run.owner_id if run.owner_id in NAMED else f'"{run.owner_id}"']
    given = {"from_": run.from_, "to": run.to, "owner_id": owners}
    given = {name: value for name, value in given.items() if value is not UNSET}
    known = REPORTS[run.report].query
    if unknown := given.keys() - set(known.__struct_fields__):
        message = f"is not a filter of the report {run.report}"
        raise invalid(*(Fault(name.rstrip("_"), message) for name in sorted(unknown)))
    return known(**given)


async def start(tx: Transaction, run: ReportRun) -> JobStarted:
    """Let a job make the report. Raises AppError INVALID_REQUEST, or LIMIT_REACHED."""
    await check_run(tx, run)
    if (await tx.connection.execute(WAITING, {"user_id": tx.actor.user_id})).scalar_one() >= MOST_WAITING:
        text = f"{MOST_WAITING} of your reports are not made yet: wait, or cancel some of these jobs"
        raise AppError(Code.LIMIT_REACHED, text, data={"max": MOST_WAITING})
    job_id = await enqueue(tx, JobKind.REPORT, arguments_of(run), targets=None, total=1)
    return JobStarted(await jobs.get(tx, job_id))


async def check_run(tx: Transaction, run: ReportRun) -> None:
    """Raise AppError INVALID_REQUEST for a run that its report would refuse."""
    query = query_of(run)
    if check := REPORTS[run.report].check:
        await check(tx, query)


def arguments_of(run: ReportRun) -> dict[str, Any]:
    """What the job has to know."""
    arguments: dict[str, Any] = to_builtins(run)
    return arguments


def make_report(database: Database) -> Work:
    """The work of a job that makes a report, all of it in one step: as by its route, of one moment."""

    async def step(tx: Transaction, job: Job) -> Step:
        tx.actor.require(Permission.READ)
        run, query = _asked(job.arguments)
        await hold_erasures(tx)
        # Not by the step's own transaction, whose statements each see another moment.
        async with reading(database, tx.actor, standby=True) as moment, longer_statements(moment):
            await moment.connection.execute(MORE_MEMORY)
            report = await REPORTS[run.report].make(moment, query)
            today = day_of(datetime.now(UTC), await zone_of(moment))
        name = f"{run.report}-{today}.{run.format}"
        if "filters" in job.arguments:
            name = last.name_of(job.arguments | last.made_as(database, tx.actor))
        document = strict_json.encode(report)
        content = document if run.format is ReportFormat.JSON else await asyncio.to_thread(_written, run, report)
        file = File(name, CONTENT_TYPES[run.format], content)
        mailing = await mailing_of(tx, job.id)
        await keep_file(tx, job, file, document, with_document=mailing is not None)
        if mailing is not None:
            await mail_report(tx, job.id, mailing)
        return Step(1, {}, to_builtins(ReportResult(run.report, run.format, name, file.content_type, len(content))))

    return step


def _asked(arguments: dict[str, Any]) -> tuple[ReportRun, Struct]:
    """The run, and its filters: those of the report's address, where the run takes the place of an answer."""
    if "filters" in arguments:
        run = ReportRun(report=ReportName(arguments["report"]), format=ReportFormat.JSON)
        return run, convert(arguments["filters"], REPORTS[run.report].query)
    run = read_again(arguments, ReportRun)
    return run, query_of(run)


def _written(run: ReportRun, report: Struct) -> bytes:
    tables = tables_of(run.report.value.capitalize(), report)
    return to_csv(tables) if run.format is ReportFormat.CSV else to_xlsx(tables)
