"""What the live stream says of each change, and to whom. Records are not in it: who may read one, reads it.

Where agents see their own records only, an agent hears of a record while it is the agent's own, and that it is removed
when a change made it somebody else's.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Select, Text, any_, bindparam, case, cast, false, func, null, or_, select, true
from sqlalchemy import literal_column as sql
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger

from app.events.feed import entry, seal
from app.events.types import TYPES
from app.models import UserReferences
from app.records.audit_values import AuditAction, ResourceType
from app.records.holders import below, holders, records_below
from app.records.resources import RESOURCES, Resource
from app.records.transaction import Transaction
from app.web.event_stream import event as event_block
from app.web.event_stream import id_line

# So much of the feed is read at once, and so many records that were hidden by a change of the one that they belong to.
AT_ONCE = 500
MOST_BELOW = 2000
LIVE = {resource.kind: resource for resource in RESOURCES if resource.live}
# After these nobody sees the record. A purge removes what was in the trash, and hidden, already.
REMOVALS = (AuditAction.DELETE, AuditAction.ERASE)
TOLD = (AuditAction.CREATE, AuditAction.UPDATE, AuditAction.RESTORE, AuditAction.MERGE, *REMOVALS)


class LiveEvent(Struct):
    """One change of one record. The type `<resource_type>.removed` says that you no longer see the record."""

    sequence: int
    type: str
    resource_type: ResourceType
    resource_id: int
    version: int | None
    user_id: int | str | None
    at: datetime


class Reload(Struct):
    """Events are missing: read again what you show. What happened after this sequence follows."""

    sequence: int


class Below(Struct, array_like=True):
    """A record that was people's own because the changed one was, and whose own it is now."""

    kind: str
    id: int
    version: int
    holders: list[str | None]


class Change(Struct, array_like=True):
    """An event, and what decides who hears of it. Where agents see their own records only, it has whose own the record
    is now, and whose it was before if the change may have hidden it from them.
    """

    event: LiveEvent
    is_removal: bool
    is_live: bool
    holders: list[str | None] | None = None
    held_before: list[str | None] | None = None
    below: list[Below] = []

    @property
    def lost_by(self) -> set[str]:
        """Whose own the record is no longer."""
        return {person for person in self.held_before or () if person is not None} - {*(self.holders or ())}


class Changes(Struct, array_like=True):
    """All that a tenant's people may hear of, from after one sequence up to another. `is_whole` is false if more was
    hidden from somebody than can be listed.
    """

    after: int
    until: int
    changes: list[Change]
    is_whole: bool = True


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _by_kind(make: Callable[[Resource], ColumnElement[Any]], kinds: Iterable[Resource], otherwise: Any) -> Any:
    return case(*((entry.resource_type == sql(f"'{kind.kind}'"), make(kind)) for kind in kinds), else_=otherwise)


def _of_record(resource: Resource, column: ColumnElement[Any]) -> Any:
    found = select(column).where(resource.table.c.id == entry.resource_id)
    return found.correlate_except(resource.table).scalar_subquery()


def _is_live(resource: Resource) -> ColumnElement[bool]:
    c = resource.table.c
    trashed = [c.deleted_at.is_(None)] if resource.has_trash else []
    return select(true()).where(c.id == entry.resource_id, *trashed).exists()


def _holders(resource: Resource) -> Any:
    return _of_record(resource, holders(resource, resource.table.c.__getitem__))


def _held_before(resource: Resource) -> ColumnElement[Any]:
    """Null where the change hides the record from nobody."""

    def before(name: str) -> ColumnElement[Any]:
        column = resource.table.c[name]
        in_log: ColumnElement[Any]
        if isinstance(column.type, UserReferences):
            each = func.jsonb_array_elements_text(entry.old_values.op("->")(sql(f"'{name}'"))).column_valued("each")
            in_log = func.array(select(each).scalar_subquery(), type_=ARRAY(Text))
            as_now = _of_record(resource, cast(column, ARRAY(Text)))
        else:
            in_log = entry.old_values.op("->>", return_type=Text())(sql(f"'{name}'"))
            as_now = _of_record(resource, cast(column, Text))
        return case((entry.old_values.has_key(sql(f"'{name}'")), in_log), else_=as_now)

    is_moved = or_(*(entry.old_values.has_key(sql(f"'{name}'")) for name in resource.owned_by))
    may_hide = or_(
        entry.action == sql(f"'{AuditAction.DELETE}'"), (entry.action == sql(f"'{AuditAction.UPDATE}'")) & is_moved
    )
    return case((may_hide, holders(resource, before)))


def _changes(*also: ColumnElement[Any]) -> Select[Any]:
    return (
        select(
            seal.sequence,
            TYPES[1],
            entry.resource_type,
            entry.resource_id,
            entry.version,
            entry.user_id,
            entry.created_at,
            entry.action,
            _by_kind(_is_live, LIVE.values(), false()),
            *also,
        )
        .where(
            seal.sequence > bindparam("after", type_=BigInteger),
            seal.sequence <= bindparam("until", type_=BigInteger),
            entry.tenant_id == seal.tenant_id,
            entry.id == seal.entry_id,
            entry.action == any_(bindparam("told", type_=ARRAY(Text))),
            entry.resource_type == any_(bindparam("kinds", type_=ARRAY(Text))),
        )
        .order_by(seal.sequence)
    )


# These are made when the first stream is open, since they take 3 MB.
@cache
def _for_all() -> Select[Any]:
    return _changes()


@cache
def _for_owners() -> Select[Any]:
    owned = [resource for resource in LIVE.values() if resource.owned]
    return _changes(_by_kind(_holders, owned, null()), _by_kind(_held_before, owned, null()))


@cache
def _below() -> dict[str, list[tuple[str, Select[Any]]]]:
    """Of each kind, the kinds below it, and what finds them."""
    return {kind: [(path.child.kind, records_below(path)) for path in below(top)] for kind, top in LIVE.items()}


async def read(tx: Transaction, after: int, until: int, *, own_only: bool) -> Changes:
    """The changes of this part of the feed, read as somebody who sees all records. `until` is at most AT_ONCE further,
    and not beyond the newest. `own_only` says that agents see their own records only.
    """
    given = {"after": after, "until": until, "told": TOLD, "kinds": [*LIVE]}
    found = Changes(after, until, [])
    for row in await tx.connection.execute(_for_owners() if own_only else _for_all(), given):
        sequence, type_, kind, record_id, version, user_id, at, action, is_live, *held = row
        event = LiveEvent(sequence, type_, ResourceType(kind), record_id, version, user_id, at)
        change = Change(event, action in REMOVALS, is_live, *held)
        if change.is_removal or is_live or change.held_before:
            found.changes.append(change)
    await _add_below(tx, found)
    return found


async def _add_below(tx: Transaction, found: Changes) -> None:
    """What records that are no longer somebody's own hid with them. What goes into the trash has events of its own."""
    lost = defaultdict(list)
    for change in found.changes:
        if change.lost_by and not change.is_removal:
            lost[change.event.resource_type, change.event.resource_id].append(change)
    for parent, paths in _below().items() if lost else ():
        ids = sorted(record_id for kind, record_id in lost if kind == parent)
        for kind, statement in paths if ids else ():
            rows = (await tx.connection.execute(statement, {"ids": ids, "most": MOST_BELOW + 1})).all()
            found.is_whole = found.is_whole and len(rows) <= MOST_BELOW
            for above, record_id, version, held in rows[:MOST_BELOW]:
                for change in lost[ResourceType(parent), above]:
                    change.below.append(Below(kind, record_id, version, held))


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Line(NamedTuple):
    """What a stream sends for an event; its id is added where it is the last one of its sequence."""

    sequence: int
    text: bytes


class Told:
    """Some changes as streams send them, encoded once for all who hear the same."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._everybody: bytes | None = None
        self._common: list[Line] = []
        self._own: dict[str, list[Line]] | None = None
        self._of_others: bytes | None = None

    @property
    def until(self) -> int:
        """The last sequence that this is about."""
        return self._changes.until

    def beyond(self, sequence: int) -> Told:
        """The part of this that comes after a sequence."""
        if sequence <= self._changes.after:
            return self
        first = bisect_right(self._changes.changes, sequence, key=lambda change: change.event.sequence)
        return Told(replace(self._changes, after=sequence, changes=self._changes.changes[first:]))

    def to_everybody(self) -> bytes:
        """For who sees all records."""
        if self._everybody is None:
            changes = self._changes.changes
            self._everybody = _joined([_line(change) for change in changes if change.is_removal or change.is_live])
        return self._everybody

    def to_owner(self, person: str) -> bytes:
        """For who sees their own records only, and what is nobody's."""
        if not self._changes.is_whole:
            return reload_event(self.until)
        if self._own is None:
            self._own = defaultdict(list)
            for change in self._changes.changes:
                self._divide(change, self._own)
            self._of_others = _joined(self._common)
        own = self._own.get(person)
        if own is None:
            return self._of_others or b""
        return _joined(sorted([*self._common, *own], key=itemgetter(0)))

    def _divide(self, change: Change, own: dict[str, list[Line]]) -> None:
        """Who hears what of a change. The record itself comes last: only then has all of it arrived."""
        event = change.event
        if not LIVE[event.resource_type].owned:
            if change.is_removal or change.is_live:
                self._common.append(_line(change))
            return
        if change.is_removal and change.held_before is None:
            # An erasure leaves nothing that says whose it was. Who erased it is for those who see all.
            self._common.append(_removed(replace(event, version=None, user_id=None)))
            return
        for person in change.lost_by:
            for record in change.below:
                if person not in record.holders:
                    of_record = {"resource_type": ResourceType(record.kind), "resource_id": record.id}
                    own[person].append(_removed(replace(event, **of_record, version=record.version)))
        held = {person for person in change.holders or () if person is not None}
        hearing = held if change.is_live and not change.is_removal else set()
        for person in hearing:
            own[person].append(_line(change))
        for person in {person for person in change.held_before or () if person is not None} - hearing:
            own[person].append(_removed(event))


def _line(change: Change) -> Line:
    if change.is_removal:
        return _removed(change.event)
    return Line(change.event.sequence, event_block(change.event.type, change.event))


def _removed(event: LiveEvent) -> Line:
    event = replace(event, type=f"{event.resource_type}.removed")
    return Line(event.sequence, event_block(event.type, event))


def _joined(lines: list[Line]) -> bytes:
    """The lines in order. Of several with one sequence only the last has it as id: who hears a part of them and comes
    back gets them all again.
    """
    parts: list[bytes] = []
    for number, line in enumerate(lines, 1):
        if number == len(lines) or lines[number].sequence != line.sequence:
            parts.append(id_line(line.sequence))
        parts.append(line.text)
    return b"".join(parts)


def reload_event(sequence: int) -> bytes:
    """Tells a client to read again what it shows."""
    return id_line(sequence) + event_block("reload", Reload(sequence))
