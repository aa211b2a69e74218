"""Changing many records at once, by the rules that hold for each of them alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, NamedTuple, TypeAlias

from litestar import Response
from msgspec import UNSET, Meta, Raw, Struct, convert, to_builtins

from app.access.actor import Actor
from app.access.permissions import Permission
from app.admin.http import ACCEPTED, answer, transaction
from app.admin.jobs import queries as jobs
from app.admin.jobs.schemas import JobKind, JobStarted
from app.jobs.queue import Job, Step, Work, enqueue, targets
from app.records.listing import Listing
from app.records.transaction import Transaction
from app.records.trash_repository import TrashRepository
from app.settings import Settings
from app.web import strict_json
from app.web.errors import AppError, Code, Fault, fitting, invalid
from app.web.input import CrmRequest, read_again
from app.web.paging import Deleted, ListQuery
from app.web.preconditions import Precondition
from app.web.structs import Body, Maybe, RecordId

# So many are changed in one transaction, by the request itself. More become a job.
MOST_AT_ONCE, MOST_IDS, MOST_IN_JOB = 1000, 10_000, 1_000_000
# A job's step takes a second or so, and locks its records for as long.
STEP = 200
# So many refusals are kept of a job; the others are counted.
MOST_REFUSED = 1000
UPDATE, TRASH, RESTORE, REASSIGN = "update", "trash", "restore", "reassign"
ADD_TAGS, REMOVE_TAGS = "add_tags", "remove_tags"
# As for the routes that do the same to one record.
PERMISSIONS = {
    UPDATE: Permission.WRITE,
    ADD_TAGS: Permission.WRITE,
    REMOVE_TAGS: Permission.WRITE,
    TRASH: Permission.DELETE,
    RESTORE: Permission.DELETE,
    REASSIGN: Permission.MANAGE_ALL,
}


class Action(StrEnum):
    """What can be done to many records at once."""

    UPDATE = UPDATE
    TRASH = TRASH
    RESTORE = RESTORE


class OwnedAction(StrEnum):
    """The same, for records that have an owner."""

    UPDATE = UPDATE
    TRASH = TRASH
    RESTORE = RESTORE
    REASSIGN = REASSIGN


class TaggedAction(StrEnum):
    """The same, for records that have an owner and tags."""

    UPDATE = UPDATE
    ADD_TAGS = ADD_TAGS
    REMOVE_TAGS = REMOVE_TAGS
    TRASH = TRASH
    RESTORE = RESTORE
    REASSIGN = REASSIGN


class NoValues(Body):
    """What an action takes that needs no values."""


class BulkChange(Body, kw_only=True):
    """Which records, and what to do to each of them.

    A subclass declares the `action`s, the `query` whose filters choose records, and what the `values` of an action are.
    """

    query: ClassVar[type[ListQuery]]
    values_of: ClassVar[Mapping[str, type[Body]]]

    ids: Maybe[Annotated[list[RecordId], Meta(min_length=1, max_length=MOST_IDS, description="These records")]] = UNSET
    filter: Annotated[Any, Meta(description="All records that a list with these filters has")] = UNSET
    action: Any
    values: Annotated[Any, Meta(description="What the action needs to know")] = UNSET
    expected: Maybe[
        Annotated[int, Meta(ge=0, le=10**9, description="If another number of records matches, nothing is done")]
    ] = UNSET
    partial: Maybe[Annotated[bool, Meta(description="Change the others where some are refused, instead of none")]] = (
        UNSET
    )

    @classmethod
    def parts(cls, document: dict[str, Any]) -> Mapping[str, type[Any]]:
        """The filters of the list, and the values of the action."""
        action = document.get("action")
        return cls.parts_of(action if isinstance(action, str) else "")

    @classmethod
    def parts_of(cls, action: str) -> Mapping[str, type[Any]]:
        """The same for a known action."""
        return {"filter": cls.query, "values": cls.values_of.get(action, NoValues)}


class BulkRefusal(Struct):
    """A record that could not be changed, and why: as a request for this record alone would be refused."""

    id: int
    code: str
    message: str


class BulkResult(Struct):
    """How many records matched, how many were changed, how many had these values already, and which were refused. The
    result of a job names the first 1,000 of these, and `more` counts the others.
    """

    matched: int
    changed: int
    unchanged: int
    refused: list[BulkRefusal]
    more: Maybe[int] = UNSET


# Changes one record: gets its id, and the values where the action has any. Returns False where there was nothing to
# change. Raises AppError.
Act: TypeAlias = Callable[..., Awaitable[object]]


def usual_acts(repository: TrashRepository[Any]) -> dict[str, Act]:
    """The actions of records that have no rules of their own."""

    def apply(tx: Transaction, record_id: int, values: Body) -> Awaitable[bool]:
        return repository.apply(tx, record_id, values.given())

    return {UPDATE: apply, REASSIGN: apply, TRASH: repository.trash, RESTORE: repository.restore}


class Bulk(NamedTuple):
    """What bulk changes of one kind of record are made of. `acts` do the actions, by the rules of the settings;
    `within` looks at the filters first.
    """

    name: str
    body: type[BulkChange]
    listing: Listing[Any]
    acts: Callable[[Settings], Mapping[str, Act]]
    permissions: Mapping[str, Permission] = PERMISSIONS
    within: Callable[[Transaction, Any], Awaitable[object]] | None = None

    def act(self, tx: Transaction, data: BulkChange, settings: Settings) -> Callable[[int], Awaitable[bool]]:
        """What changes one record."""
        do = self.acts(settings)[data.action.value]
        values = [] if data.values is UNSET or isinstance(data.values, NoValues) else [data.values]

        async def act(record_id: int) -> bool:
            return await do(tx, record_id, *values) is not False

        return act


async def change_many(request: CrmRequest, data: BulkChange, bulk: Bulk) -> Response[Any]:
    """The answer to a change of many records; of more than 1,000, the job that it becomes.

    Raises AppError INSUFFICIENT_PERMISSIONS, INVALID_REQUEST, NO_UPDATES, TOO_MANY_RECORDS, COUNT_CHANGED,
    DRY_RUN_UNSUPPORTED, or BULK_REFUSED with what would have been refused record by record.
    """
    actor: Actor = request.user
    action: str = data.action.value
    actor.require(bulk.permissions[action])
    _check(data, action)
    async with transaction(request) as tx:
        # One version can't be that of many records.
        tx.precondition = Precondition(())
        if bulk.within is not None and data.filter is not UNSET:
            await bulk.within(tx, data.filter)
        ids = await _chosen(tx, data, bulk.listing)
        if data.expected not in {UNSET, len(ids)}:
            raise AppError(Code.COUNT_CHANGED, data={"expected": data.expected, "matched": len(ids)})
        if len(ids) > MOST_AT_ONCE:
            return await _enqueue(tx, data, bulk, ids)
        act = bulk.act(tx, data, request.app.state.settings)
        return answer(tx, await _change(tx, ids, act, partial=data.partial is True))


def _check(data: BulkChange, action: str) -> None:
    """Raise AppError for fields that do not go together."""
    faults = []
    if (data.ids is UNSET) is (data.filter is UNSET):
        faults.append(Fault("ids", "name the records either by ids or by filter"))
    if data.values is UNSET and action in data.values_of:
        faults.append(Fault("values", f"is required to {action.replace('_', ' ')}"))
    if action == RESTORE and data.filter is not UNSET and data.filter.deleted is not Deleted.ONLY:
        faults.append(Fault("filter.deleted", "must be only: what is not in the trash can't be restored"))
    if faults:
        raise invalid(*faults)
    if action == UPDATE and data.values.writes_nothing:
        raise AppError(Code.NO_UPDATES)


async def _chosen(tx: Transaction, data: BulkChange, listing: Listing[Any]) -> list[int]:
    """The ids of the records, in the order in which they are locked; few of them are locked already.

    Raises AppError TOO_MANY_RECORDS.
    """
    if data.filter is UNSET:
        return sorted(set(data.ids or ()))
    ids = await listing.ids(tx, data.filter, MOST_AT_ONCE + 1, lock=True)
    if len(ids) > MOST_AT_ONCE:
        ids = await listing.ids(tx, data.filter, MOST_IN_JOB + 1)
    if len(ids) > MOST_IN_JOB:
        text = f"These are more than {MOST_IN_JOB} records: change them in parts"
        raise AppError(Code.TOO_MANY_RECORDS, text, data={"max": MOST_IN_JOB})
    return ids


async def _change(
    tx: Transaction, ids: list[int], act: Callable[[int], Awaitable[bool]], *, partial: bool
) -> BulkResult:
    # Most often nothing is refused, and no record needs a savepoint of its own.
    try:
        async with tx.savepoint():
            changed = sum([await act(record_id) for record_id in ids])
            return BulkResult(len(ids), changed, len(ids) - changed, [])
    except AppError as refusal:
        if refusal.status >= 500:
            raise
    changed = 0
    refused: list[BulkRefusal] = []
    for record_id in ids:
        try:
            async with tx.savepoint():
                changed += await act(record_id)
        except AppError as refusal:
            if refusal.status >= 500:
                raise
            refused.append(BulkRefusal(record_id, refusal.code.name, refusal.message))
    if refused and not partial:
        raise _refused(refused)
    return BulkResult(len(ids), changed, len(ids) - changed - len(refused), refused)


def _refused(refused: list[BulkRefusal], more: int = 0) -> AppError:
    shown = fitting(refused)
    more += len(refused) - len(shown)
    return AppError(Code.BULK_REFUSED, data={"refused": shown} | ({"more": more} if more else {}))


# ── as a job ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Progress(Struct):
    """What a job knows of its steps so far. `tried` records were changed and put back, to see what is refused."""

    tried: int = 0
    changed: int = 0
    unchanged: int = 0
    refused: list[BulkRefusal] = []
    more: int = 0

    def refuse(self, refused: list[BulkRefusal]) -> None:
        room = max(MOST_REFUSED - len(self.refused), 0)
        self.refused += refused[:room]
        self.more += len(refused[room:])


async def _enqueue(tx: Transaction, data: BulkChange, bulk: Bulk, ids: list[int]) -> Response[Any]:
    if tx.dry_run:
        text = f"These are {len(ids)} records: more than {MOST_AT_ONCE} become a job, which can't be tried"
        raise AppError(Code.DRY_RUN_UNSUPPORTED, text, data={"matched": len(ids)})
    body = {"action": data.action, "values": data.values, "partial": data.partial}
    sent = {name: value for name, value in body.items() if value is not UNSET}
    arguments = {"of": bulk.name, "body": Raw(strict_json.encode(sent))}
    job_id = await enqueue(tx, JobKind.BULK, arguments, targets=ids, total=len(ids))
    return answer(tx, JobStarted(await jobs.get(tx, job_id)), ACCEPTED)


def change_in_steps(bulks: Iterable[Bulk], settings: Settings) -> Work:
    """The work of jobs that change many records."""
    known = {bulk.name: bulk for bulk in bulks}

    async def step(tx: Transaction, job: Job) -> Step:
        bulk = known[job.arguments["of"]]
        data: BulkChange = read_again(job.arguments["body"], bulk.body)
        tx.actor.require(bulk.permissions[data.action.value])
        act = bulk.act(tx, data, settings)
        progress = convert(job.state, _Progress)
        if data.partial is not True and progress.tried < (job.total or 0):
            await _try_some(tx, job, act, progress)
            return Step(0, to_builtins(progress))
        ids = await targets(tx, job, job.done, STEP)
        some = await _change(tx, ids, act, partial=data.partial is True)
        progress.changed += some.changed
        progress.unchanged += some.unchanged
        progress.refuse(some.refused)
        done = job.done + len(ids)
        if done < (job.total or 0):
            return Step(done, to_builtins(progress))
        result = BulkResult(done, progress.changed, progress.unchanged, progress.refused, progress.more or UNSET)
        return Step(done, {}, to_builtins(result))

    return step


async def _try_some(tx: Transaction, job: Job, act: Callable[[int], Awaitable[bool]], progress: _Progress) -> None:
    """Change the next records and undo it. Whoever does not allow a part gets nothing where some are refused: so all
    are tried before the first is changed. Raises AppError BULK_REFUSED at the end of the trial.
    """
    ids = await targets(tx, job, progress.tried, STEP)
    async with tx.trial():
        progress.refuse((await _change(tx, ids, act, partial=True)).refused)
    progress.tried += len(ids)
    if progress.refused and progress.tried >= (job.total or 0):
        raise _refused(progress.refused, progress.more)
