"""A worker: it takes jobs from the queue and runs each step by step, as the person who asked for it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime

import structlog
from opentelemetry import trace
from procrastinate import App, BaseRetryStrategy, JobContext, RetryDecision
from procrastinate.jobs import Job as Queued

from app.db.database import Database
from app.jobs import queue
from app.jobs.connection import queue_connector
from app.jobs.metrics import DURATION, JOBS
from app.jobs.queue import Job, Kinds, Standing, Step, Superseded
from app.records.transaction import writing
from app.settings import Settings
from app.web.errors import AppError, Code

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 4.0
TEND_SECONDS = 5.0
RESTART_SECONDS = 1.0
# After so long a job lets those go ahead that wait.
TURN_SECONDS = 5.0
# A step that fails is tried again after 1, 2, 4, … seconds, where trying again can help.
MOST_FAILURES, LONGEST_PAUSE_SECONDS = 10, 300
# Jobs may come to the end of a step when a worker stops.
STOP_SECONDS = 15.0
NEVER = 10.0**8
# Minute, hour, day, month, weekday, second, year. The library wants a moment before now, and one to come.
NO_DAY = "0 0 1 1 * 0 2000,2060"

log = structlog.get_logger("jobs")
tracer = trace.get_tracer("crm-service")


class AgainError(Exception):
    """The job is not at its end: it goes on after so many seconds, and behind those that wait."""

    def __init__(self, seconds: int = 0) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class _Retry(BaseRetryStrategy):
    def get_retry_decision(self, *, exception: BaseException, job: Queued) -> RetryDecision:
        """Whatever ends a run early, a stop of the worker too, does not end the job."""
        seconds = exception.seconds if isinstance(exception, AgainError) else 1
        return RetryDecision(retry_in={"seconds": seconds}, priority=job.priority - 1)


async def _nothing(_timestamp: int) -> None:
    """A periodic task that is never due."""


class JobWorker:
    """Runs jobs of all tenants, some at the same time. Any number of workers take turns."""

    def __init__(self, database: Database, settings: Settings, kinds: Kinds) -> None:
        self._database = database
        self._kinds = kinds
        self._concurrency = settings.job_concurrency
        self._stopping = False
        self._waiting = 0
        self._failing = False
        self._queue = App(connector=queue_connector(settings.database_dsn))
        self._queue.task(name="run", queue="jobs", pass_context=True, retry=_Retry())(self._run)
        # Without a periodic task, the library does not notice when its heartbeat fails.
        self._queue.periodic(cron=NO_DAY)(self._queue.task(name="nothing")(_nothing))

    async def run(self) -> None:
        """Run until it is cancelled: then each job comes to the end of its step, and goes on in another worker."""
        try:
            while True:
                try:
                    async with self._queue.open_async():
                        await self._work()
                except Exception as error:
                    # The database is away: what is running is taken up again once it is back.
                    if not self._failing:
                        log.warning("the queue of jobs can't be reached and is tried again", exc_info=error)
                    self._failing = True
                await asyncio.sleep(RESTART_SECONDS)
        finally:
            self._stopping = True

    async def _work(self) -> None:
        tending = asyncio.create_task(self._tend())
        try:
            working = asyncio.create_task(
                self._queue.run_worker_async(
                    concurrency=self._concurrency,
                    fetch_job_polling_interval=POLL_SECONDS,
                    # Cancelling is ours: the record of the job says so.
                    abort_job_polling_interval=NEVER,
                    shutdown_graceful_timeout=STOP_SECONDS,
                    listen_notify=False,
                    delete_jobs="always",
                    install_signal_handlers=False,
                    update_heartbeat_interval=HEARTBEAT_SECONDS,
                    stalled_worker_timeout=queue.SILENT_SECONDS,
                )
            )
            try:
                await asyncio.shield(working)
            except asyncio.CancelledError:
                self._stopping = True
                working.cancel()
                await asyncio.wait([working])
                raise
        finally:
            tending.cancel()

    async def _tend(self) -> None:
        while True:
            with suppress(AppError):  # `run` says that the database is away
                while await queue.run_schedules(self._database) >= queue.SCHEDULED_AT_ONCE:
                    pass
                self._waiting = await queue.tend(self._database)
                self._failing = False
            await asyncio.sleep(TEND_SECONDS)

    async def _run(self, _context: JobContext, *, tenant: str, job: int) -> None:
        """One turn of one job. Raises AgainError where it has to go on later."""
        with (
            structlog.contextvars.bound_contextvars(job=job, tenant=tenant),
            tracer.start_as_current_span("job", attributes={"crm.job": job, "crm.tenant": tenant}) as span,
        ):
            try:
                begun = await queue.begin(self._database, tenant, job)
            except AppError as error:
                raise AgainError(1) from error
            if begun is None:
                return
            span.update_name(f"job {begun.kind}")
            with structlog.contextvars.bound_contextvars(request_id=begun.request_id):
                try:
                    await self._turn(begun)
                except Superseded:
                    log.info("the job was cancelled, or another worker has it", kind=begun.kind)

    async def _turn(self, job: Job) -> None:
        began = time.monotonic()
        while True:
            try:
                step, standing = await self._step(job)
            except Superseded:
                raise
            except AppError as error:
                await self._failed(job, error, again=error.status >= 500)
                return
            except Exception as error:
                log.error("a step of a job failed", kind=job.kind, exc_info=error)
                await self._failed(job, AppError(Code.INTERNAL_ERROR), again=True)
                return
            job = job.after(step, standing)
            if step.result is not None:
                self._ended(job, "done")
                return
            if self._stopping or (self._waiting and time.monotonic() - began >= TURN_SECONDS):
                with suppress(AppError):  # the next worker takes it for one whose worker died
                    await queue.give_way(self._database, job)
                raise AgainError

    async def _step(self, job: Job) -> tuple[Step, Standing]:
        if job.is_out:
            raise AppError(Code.MEMBER_INACTIVE, "Who asked for this was deactivated or signed out since")
        work = self._kinds.get(job.kind)
        if work is None:
            # A newer release enqueued it, and has workers that know it.
            raise AppError(Code.SERVICE_UNAVAILABLE, f"This release does not know jobs of the kind {job.kind}")
        async with writing(self._database, job.actor, job.origin) as tx:
            step = await work(tx, job)
            return step, await queue.move_on(tx, job, step)

    async def _failed(self, job: Job, error: AppError, *, again: bool) -> None:
        if again and job.failures + 1 < MOST_FAILURES:
            pause = min(2**job.failures, LONGEST_PAUSE_SECONDS)
            with suppress(AppError):  # the database is away: the step counts as not tried
                await queue.note_failure(self._database, job)
            log.warning("a step of a job failed and is tried again", kind=job.kind, code=error.code.name, seconds=pause)
            raise AgainError(pause) from error
        try:
            await queue.fail(self._database, job, error)
        except AppError as away:
            raise AgainError(1) from away
        self._ended(job, "failed", code=error.code.name)

    def _ended(self, job: Job, outcome: str, **more: object) -> None:
        seconds = (datetime.now(UTC) - job.started_at).total_seconds()
        JOBS.labels(job.kind, outcome).inc()
        DURATION.labels(job.kind).observe(seconds)
        log.info("job", kind=job.kind, outcome=outcome, duration_s=round(seconds, 2), steps=job.steps, **more)
