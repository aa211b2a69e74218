"""Changing many records at once, by the rules that hold for each of them alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, TypeAlias

from litestar import Response
from msgspec import UNSET, Meta, Struct

from app.access.actor import Actor
from app.access.permissions import Permission
from app.admin.http import answer, transaction
from app.records.listing import Listing
from app.records.transaction import Transaction
from app.records.trash_repository import TrashRepository
from app.web.errors import AppError, Code, Fault, fitting, invalid
from app.web.input import CrmRequest
from app.web.paging import Deleted, ListQuery
from app.web.preconditions import Precondition
from app.web.structs import Body, Maybe, RecordId

# So many are changed in one request. More ids may be named, so that the refusal says how many there are.
MOST_RECORDS, MOST_IDS = 1000, 10_000
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
    """How many records matched, how many were changed, how many had these values already, and which were refused."""

    matched: int
    changed: int
    unchanged: int
    refused: list[BulkRefusal]


# Changes one record: gets its id, and the values where the action has any. Returns False where there was nothing to
# change. Raises AppError.
Act: TypeAlias = Callable[..., Awaitable[object]]


def usual_acts(repository: TrashRepository[Any]) -> dict[str, Act]:
    """The actions of records that have no rules of their own."""

    def apply(tx: Transaction, record_id: int, values: Body) -> Awaitable[bool]:
        return repository.apply(tx, record_id, values.given())

    return {UPDATE: apply, REASSIGN: apply, TRASH: repository.trash, RESTORE: repository.restore}


async def change_many(
    request: CrmRequest,
    data: BulkChange,
    listing: Listing[Any],
    acts: Mapping[str, Act],
    *,
    permissions: Mapping[str, Permission] = PERMISSIONS,
    within: Callable[[Transaction], Awaitable[object]] | None = None,
) -> Response[BulkResult]:
    """The answer to a change of many records. `acts` do the actions; `within` looks at the filters first.

    Raises AppError INSUFFICIENT_PERMISSIONS, INVALID_REQUEST, NO_UPDATES, TOO_MANY_RECORDS, COUNT_CHANGED, or
    BULK_REFUSED with what would have been refused record by record.
    """
    actor: Actor = request.user
    action: str = data.action.value
    actor.require(permissions[action])
    _check(data, action)
    async with transaction(request) as tx:
        # One version can't be that of many records.
        tx.precondition = Precondition(())
        if within is not None:
            await within(tx)
        ids, matched = await _chosen(tx, data, listing)
        if matched > MOST_RECORDS:
            raise _too_many(matched)
        if data.expected not in {UNSET, matched}:
            raise AppError(Code.COUNT_CHANGED, data={"expected": data.expected, "matched": matched})
        values = [] if data.values is UNSET or isinstance(data.values, NoValues) else [data.values]

        async def act(record_id: int) -> bool:
            return await acts[action](tx, record_id, *values) is not False

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
    if action == UPDATE and not data.values.given():
        raise AppError(Code.NO_UPDATES)


async def _chosen(tx: Transaction, data: BulkChange, listing: Listing[Any]) -> tuple[list[int], int]:
    """The ids of the records, in the order in which they are locked, and how many there are."""
    if data.filter is not UNSET:
        return await listing.lock(tx, data.filter, MOST_RECORDS)
    ids = sorted(set(data.ids or ()))
    return ids, len(ids)


def _too_many(matched: int) -> AppError:
    text = f"These are {matched} records, and at most {MOST_RECORDS} can be changed at once: change them in parts"
    return AppError(Code.TOO_MANY_RECORDS, text, data={"max": MOST_RECORDS, "matched": matched})


async def _change(
    tx: Transaction, ids: list[int], act: Callable[[int], Awaitable[bool]], *, partial: bool
) -> BulkResult:
    if not partial:
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
        shown = fitting(refused)
        more = len(refused) - len(shown)
        raise AppError(Code.BULK_REFUSED, data={"refused": shown} | ({"more": more} if more else {}))
    return BulkResult(len(ids), changed, len(ids) - changed - len(refused), refused)
