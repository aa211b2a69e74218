"""Taking back a whole operation: at once, or as a job where there is much to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from msgspec import UNSET, Struct, convert, to_builtins

from app.admin.history.schemas import Kept, Undone, UndoneByJob
from app.admin.history.undo import MOST_CHANGES, TooManyError, Undo, refuse_programs
from app.admin.jobs import queries as jobs
from app.admin.jobs.schemas import JobKind, JobStarted
from app.jobs.queue import Job, Step, Work, enqueue
from app.records import history
from app.records.history import Entry
from app.records.transaction import Transaction
from app.settings import Settings
from app.web.errors import AppError, Code

MOST_ENTRIES = 10_000
LAST_ID = 2**63 - 1


async def undo_operation(tx: Transaction, operation_id: UUID, settings: Settings, *, keep: bool) -> Undone | JobStarted:
    """Take back all that an operation did; with `keep` all but what was changed since. Of more than 1,000 changes, the
    job that it becomes.

    Raises AppError OPERATION_NOT_FOUND, UNDO_EXPIRED, DRY_RUN_UNSUPPORTED, or as `undo_entry`.
    """
    count, began = await history.extent_of_operation(tx, operation_id)
    if began is None:
        raise AppError(Code.OPERATION_NOT_FOUND)
    if began < datetime.now(UTC) - timedelta(days=settings.undo_days):
        raise AppError(Code.UNDO_EXPIRED, f"Operations can be taken back for {settings.undo_days} days")
    if count <= MOST_ENTRIES:
        undo = Undo(tx, await history.get_operation(tx, operation_id), settings, keep=keep)
        try:
            await undo.run()
        except TooManyError:
            pass  # nothing was changed yet
        else:
            return Undone(operation_id, undo.changed, undo.kept)
    if tx.dry_run:
        text = f"These are more than {MOST_CHANGES} changes, which become a job: it can't be tried"
        raise AppError(Code.DRY_RUN_UNSUPPORTED, text)
    # Who runs a job is not known to be a program any more.
    refuse_programs(tx, await history.kinds_of_operation(tx, operation_id))
    arguments = {"operation_id": str(operation_id), "keep": keep}
    job_id = await enqueue(tx, JobKind.UNDO, arguments, targets=None, total=count)
    return JobStarted(await jobs.get(tx, job_id))


class TakenBack(Struct):
    """How far an operation is taken back: each transaction of it in one, the last one first."""

    before: int = LAST_ID
    changed: int = 0
    kept: list[Kept] = []
    more: int = 0
    over: bool = False


class _Progress(TakenBack):
    """What a job that undoes an operation knows of its steps so far. `tried` says that the trial is over."""

    tried: bool = False


async def take_back(tx: Transaction, operation_id: UUID, so_far: TakenBack, settings: Settings) -> None:
    """Take back one transaction of what a job itself has done, all but what was changed since: it needs no right to.

    Raises AppError HISTORY_CUT.
    """
    entries = await _last_part(tx, operation_id, so_far)
    so_far.over = not entries
    if entries:
        undo = Undo(tx, entries, settings, keep=True, authorized=True, most=MOST_ENTRIES)
        await undo.run()
        _note(so_far, undo)


async def _last_part(tx: Transaction, operation_id: UUID, so_far: TakenBack) -> list[Entry]:
    entries = await history.get_last_part(tx, operation_id, so_far.before, MOST_ENTRIES)
    if len(entries) == MOST_ENTRIES:
        raise TooManyError
    if entries:
        so_far.before = entries[0].id
    return entries


def _note(so_far: TakenBack, undo: Undo) -> None:
    so_far.changed += undo.changed
    room = max(MOST_CHANGES - len(so_far.kept), 0)
    so_far.kept += undo.kept[:room]
    so_far.more += len(undo.kept[room:])


def undo_in_steps(settings: Settings) -> Work:
    """The work of jobs that take back an operation: each transaction of it in one, the last one first."""

    async def step(tx: Transaction, job: Job) -> Step:
        operation_id, keep = UUID(job.arguments["operation_id"]), bool(job.arguments["keep"])
        progress = convert(job.state, _Progress)
        entries = await _last_part(tx, operation_id, progress)
        if not entries and (keep or progress.tried):
            result = UndoneByJob(operation_id, progress.changed, progress.kept, progress.more or UNSET)
            return Step(job.done, {}, to_builtins(result))
        if not entries:
            return Step(0, to_builtins(_Progress(tried=True)))
        undo = Undo(tx, entries, settings, keep=keep, most=MOST_ENTRIES)
        if keep or progress.tried:
            await undo.run()
            _note(progress, undo)
            return Step(job.done + len(entries), to_builtins(progress))
        # Whole or not at all: so all is tried before the first is taken back.
        async with tx.trial():
            await undo.run()
        return Step(0, to_builtins(progress))

    return step
