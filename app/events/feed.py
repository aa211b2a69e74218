"""The change feed: a tenant's sealed audit entries, oldest first, with the records that they are about.

The seals number the entries of each tenant without gaps, in an order that never changes. A reader that keeps the last
number it has seen misses nothing and sees nothing twice.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from msgspec import Struct
from sqlalchemy import ARRAY, Select, Text, and_, any_, bindparam, func, literal_column, or_, select, type_coerce
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import BigInteger

from app.events.types import TYPES, actions_behind
from app.models import AuditCut, AuditEntry, AuditSeal
from app.records.audit_values import Difference, ResourceType, Values, differences, present, with_stage_name
from app.records.repository import Repository
from app.records.transaction import Transaction
from app.web.errors import AppError, Code

Kept = TypeVar("Kept")

# So many events, and their records, are in memory at a time: a note has up to 80 KB.
AT_ONCE = 50
# One statement looks at so many entries at most, so that a filter that matches few of them keeps within its time.
LOOKED_AT = 20_000
# After this time, what was found so far is a part.
LOOKED_SECONDS = 1.0

entry = AuditEntry.__table__.c
seal = AuditSeal.__table__.c
cut = AuditCut.__table__.c


class Event(Struct):
    """One change of one record. `types` are all that it is called, the most special first, which is `type`; `record` is
    the record as it is when the event is read, as its list shows it, and null if it is in the trash or gone.
    """

    sequence: int
    type: str
    types: list[str]
    at: datetime
    resource_type: ResourceType
    resource_id: int
    version: int | None
    user_id: int | str | None
    user_name: str | None
    request_id: str | None
    changes: dict[str, Difference]
    record: Any


class Selection(NamedTuple):
    """Which events are wanted: of any of these types, and of any of these kinds of record. None means all."""

    types: Sequence[str] | None = None
    kinds: Sequence[str] | None = None


class Part(NamedTuple):
    """Some events in order, or else the sequence up to which there is none; whether there may be more of them; and the
    newest sequence of the tenant.
    """

    events: list[Any]
    none_until: int
    has_more: bool
    newest: int


_newest = func.greatest(
    func.coalesce(select(func.max(seal.sequence)).scalar_subquery(), literal_column("0")),
    func.coalesce(select(cut.sequence).scalar_subquery(), literal_column("0")),
)
# Of what retention deletes, a part may be there still.
_cut_at = func.coalesce(select(cut.sequence).scalar_subquery(), literal_column("0"))
NEWEST: Select[Any] = select(_newest)
BEGINNING: Select[Any] = select(_cut_at)
ENDS: Select[Any] = select(_newest, _cut_at)
_types, _actions, _kinds = (bindparam(name, type_=ARRAY(Text)) for name in ("types", "actions", "kinds"))
_EVENTS: Select[Any] = select(
    seal.sequence,
    TYPES,
    entry.created_at,
    entry.resource_type,
    entry.resource_id,
    entry.version,
    entry.user_id,
    entry.user_name,
    entry.request_id,
    type_coerce(with_stage_name(entry.old_values), JSONB),
    type_coerce(with_stage_name(entry.new_values), JSONB),
).where(entry.tenant_id == seal.tenant_id, entry.id == seal.entry_id)
EVENTS = (
    _EVENTS.where(
        seal.sequence > bindparam("after", type_=BigInteger),
        seal.sequence <= bindparam("until", type_=BigInteger),
        or_(_kinds.is_(None), entry.resource_type == any_(_kinds)),
        # The first condition follows from the second, and takes less time.
        or_(_types.is_(None), and_(entry.action == any_(_actions), TYPES.overlap(_types))),
    )
    .order_by(seal.sequence)
    .limit(bindparam("most", type_=BigInteger))
)
THESE = _EVENTS.where(seal.sequence == any_(bindparam("sequences", type_=ARRAY(BigInteger))))


async def newest(tx: Transaction) -> int:
    """The newest sequence of the tenant; 0 if nothing is sealed yet."""
    return int((await tx.connection.execute(NEWEST)).scalar_one())


async def beginning(tx: Transaction) -> int:
    """The last event of the tenant that retention has deleted; 0 if there is none."""
    return int((await tx.connection.execute(BEGINNING)).scalar_one())


async def require_kept(tx: Transaction, after: int) -> None:
    """Raise AppError HISTORY_CUT if retention has deleted events after this sequence, unless it is 0: the beginning."""
    _check_kept(after, await beginning(tx))


async def read(
    tx: Transaction,
    after: int,
    most: int,
    selection: Selection,
    shown: Mapping[str, Repository[Any]],
    keep: Callable[[Event], Kept],
) -> Part:
    """The first events after this sequence; not all if it takes long to find them. `shown` has the repository of each
    kind of record.

    `keep` gets each event as it is read, so that never all of them are held. Raises AppError HISTORY_CUT if retention
    has deleted events that this reader has not seen.
    """
    ends = time.monotonic() + LOOKED_SECONDS
    last, cut_at = (await tx.connection.execute(ENDS)).one()
    _check_kept(after, cut_at)
    kept: list[Kept] = []
    given = {
        "kinds": selection.kinds,
        "types": selection.types,
        "actions": None if selection.types is None else actions_behind(selection.types),
    }
    while after < last:
        wanted = min(AT_ONCE, most - len(kept) + 1)
        until = min(last, after + LOOKED_AT)
        rows = await tx.connection.execute(EVENTS, given | {"after": after, "until": until, "most": wanted})
        events = [_event(*row) for row in rows]
        after = events[-1].sequence if len(events) == wanted else until
        has_more = len(kept) + len(events) > most
        events = events[: most - len(kept)]
        await _add_records(tx, events, shown)
        kept.extend(map(keep, events))
        if has_more:
            return Part(kept, 0, has_more, last)
        if time.monotonic() > ends:
            break
    return Part(kept, after, after < last, last)


async def read_these(
    tx: Transaction, sequences: Sequence[int], shown: Mapping[str, Repository[Any]]
) -> dict[int, Event]:
    """The events with these sequences; those are missing that retention has deleted."""
    events = [_event(*row) for row in await tx.connection.execute(THESE, {"sequences": sequences})]
    await _add_records(tx, events, shown)
    return {event.sequence: event for event in events}


def _check_kept(after: int, cut_at: int) -> None:
    if 0 < after < cut_at:
        raise AppError(Code.HISTORY_CUT, f"Events up to {cut_at} were deleted by retention: begin anew, after {cut_at}")


def _event(
    sequence: int,
    types: list[str],
    at: datetime,
    kind: str,
    record_id: int,
    version: int | None,
    user_id: int | str | None,
    user_name: str | None,
    request_id: str | None,
    old: Values,
    new: Values,
) -> Event:
    return Event(
        sequence=sequence,
        type=types[0],
        types=types,
        at=at,
        resource_type=ResourceType(kind),
        resource_id=record_id,
        version=version,
        user_id=user_id,
        user_name=user_name,
        request_id=request_id,
        changes=differences(old and present(old), new and present(new)),
        record=None,
    )


async def _add_records(tx: Transaction, events: Sequence[Event], shown: Mapping[str, Repository[Any]]) -> None:
    """Put the live records into the events, with one statement for each kind."""
    ids: dict[str, set[int]] = defaultdict(set)
    for event in events:
        ids[event.resource_type].add(event.resource_id)
    live = {
        kind: await shown[kind].get_live(tx, sorted(of_kind)) for kind, of_kind in sorted(ids.items()) if kind in shown
    }
    for event in events:
        event.record = live.get(event.resource_type, {}).get(event.resource_id)
