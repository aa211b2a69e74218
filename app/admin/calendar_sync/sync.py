"""One sync of a connected calendar: what changed there is taken over here, and what changed here is written there.

No transaction is open while the calendar's server is waited for. What is taken over is kept in the same transaction as
how far the calendar is read; what is written there is noted before and after. So it does not matter when a worker dies.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from app.admin.activities import service as activities
from app.admin.activities.queries import ACTIVITIES
from app.admin.activities.schemas import ActivityCreate, ActivityStatus, ActivityType
from app.admin.calendar_sync import queries, reconcile
from app.admin.calendar_sync.queries import Activity, Claimed, Connection
from app.admin.calendar_sync.reconcile import OURS, SHARED, Incoming, Link, Local, Matched, Merge, Party, Write
from app.admin.notes import service as notes
from app.admin.notes.schemas import NoteCreate
from app.admin.notifications.queries import Reader, reader_of
from app.calendars.entries import Adapter, Changes, Draft, Entry, EntryStatus, Field, Window
from app.calendars.errors import Gone, Outdated, Refused, TokenExpired
from app.db.database import Database, Origin
from app.mail.texts import Say
from app.records.calendar import Zone
from app.records.repository import NotLiveError
from app.records.transaction import Transaction, writing
from app.web.errors import AppError, Code
from app.web.fields import Refused as RefusedText
from app.web.text import name, normalized

DAYS_BACK, DAYS_AHEAD, DAYS_OF_SERIES = 30, 400, 90
# All of it is read anew: occurrences of series come in, and whatever a token has not told.
WHOLE_AFTER = timedelta(days=1)
# Changes of activities in one transaction, and writes that are planned in one.
CHANGES_AT_ONCE, WRITES_AT_ONCE = 100, 20
# Missing entries that are looked for one by one.
MOST_LOOKED_FOR = 50
LONGEST_REMOTE, LONGEST_KEY, LONGEST_TOKEN = 1500, 64, 65_536
# Errors of a moment: everything else would be the same next time.
PASSING = {Code.SERVICE_UNAVAILABLE}

# Opens the calendar of a connection, for texts and times as its person has them.
Open = Callable[[Claimed, Connection, ZoneInfo], AbstractAsyncContextManager[Adapter]]


class Superseded(Exception):
    """The connection is not this worker's any more: it was deleted or stopped, or another worker has it."""


class Asked(Exception):
    """So much has vanished at once that the person was asked first."""

    def __init__(self, vanished: int) -> None:
        super().__init__(vanished)
        self.vanished = vanished


class Sync:
    """One sync of one connection."""

    def __init__(self, database: Database, open_calendar: Open, claimed: Claimed, turns: asyncio.Semaphore) -> None:
        self._database = database
        self._open = open_calendar
        self._claimed = claimed
        # Of the worker's syncs: so many transactions at a time.
        self._turns = turns
        self._actor = claimed.actor
        self._operation = uuid.uuid4()
        self._namespace = uuid.uuid5(uuid.NAMESPACE_OID, f"crm/{claimed.tenant_id}")
        # What could not be done although the calendar answers, for the person to read.
        self.problem: str | None = None
        # Whether something changed meanwhile, so that the next sync should come soon.
        self.again = False
        # How many syncs before this one have failed in a row.
        self.failures = 0
        # What was tried in this sync, and did not succeed: by entry, or by activity.
        self._left: set[tuple[str, int]] = set()
        self._reader: Reader
        self._connection: Connection

    async def run(self) -> None:
        """Raises CalendarError, AppError, Superseded or Asked. What is done so far is done."""
        async with self._transaction(begins=True) as tx:
            self._reader = await reader_of(tx)
        now = datetime.now(UTC)
        window = Window(
            now - timedelta(days=DAYS_BACK),
            now + timedelta(days=DAYS_AHEAD),
            now + timedelta(days=DAYS_OF_SERIES),
        )
        async with self._open(self._claimed, self._connection, self._reader.zone) as adapter:
            changes = await self._read(adapter, window, now)
            changes = await self._with_missing(adapter, changes, window)
            await self._take_in(changes, window)
            await self._write_out(adapter, window)

    @asynccontextmanager
    async def _transaction(self, *, begins: bool = False) -> AsyncIterator[Transaction]:
        """A transaction of the person's, if this worker still has the connection. Raises Superseded."""
        origin = Origin(operation_id=self._operation, via="calendar")
        given = {"connection": self._claimed.id, "claims": self._claimed.claims, "operation": self._operation}
        async with self._turns, writing(self._database, self._actor, origin) as tx:
            statement = queries.BEGIN if begins else queries.LOCK
            row = (await tx.connection.execute(statement, given)).one_or_none()
            if row is None:
                raise Superseded
            if begins:
                self._connection = Connection(*row)
                self.failures = self._connection.failures
            yield tx

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _read(self, adapter: Adapter, window: Window, now: datetime) -> Changes:
        connection = self._connection
        is_old = connection.listed_at is None or connection.listed_at < now - WHOLE_AFTER
        try:
            return _storable(await adapter.changes(None if is_old else connection.sync_token, window))
        except TokenExpired:
            return _storable(await adapter.changes(None, window))

    async def _with_missing(self, adapter: Adapter, changes: Changes, window: Window) -> Changes:
        """The changes, with what only seems to be gone because it is outside of the window now."""
        async with self._transaction() as tx:
            links = await queries.links(tx, self._connection.id)
        matched = reconcile.match(changes, links, window)
        gone = [link for link in matched.vanished if link.series is None and link.mine is not None]
        found = []
        present = {entry.remote_id for entry in changes.entries}
        for link in gone[:MOST_LOOKED_FOR]:
            if link.remote_id is None or link.remote_id in present:
                continue
            entry = await adapter.get(link.remote_id)
            if entry is not None and entry.status is not EntryStatus.CANCELLED:
                found.append(entry)
        return replace(changes, entries=(*changes.entries, *found)) if found else changes

    # ── what changed there ───────────────────────────────────────────────────────────────────────────────────────────

    async def _take_in(self, changes: Changes, window: Window) -> None:
        """Take over what changed there, part by part. Raises Asked, before anything of it is done."""
        given = {"connection": self._connection.id}
        decided = self._connection.decision is not None
        more, vanished = True, 0
        while more:
            async with self._transaction() as tx:
                links = await queries.links(tx, self._connection.id)
                matched = reconcile.match(changes, links, window)
                vanished = 0 if decided else reconcile.asks(matched.vanished, links)
                if vanished:
                    await tx.connection.execute(queries.ASK, given | {"vanished": vanished})
                else:
                    more = await self._apply(tx, await self._incoming(tx, matched, changes, window))
                    if not more:
                        await self._read_up_to(tx, changes, window)
            if vanished:
                raise Asked(vanished)
            # The rest of what it has begun with.
            decided = True

    async def _incoming(self, tx: Transaction, matched: Matched, changes: Changes, window: Window) -> Incoming:
        """What follows from changes there, by what is known here."""
        connection_id = self._connection.id
        parties = await queries.parties(tx, matched.others)
        return reconcile.incoming(
            matched,
            changes,
            window,
            unlinked={
                reconcile.key_base(self._namespace, local.activity_id): local
                for local in await queries.unlinked(tx, connection_id, window)
            },
            elsewhere=await queries.elsewhere(tx, connection_id, matched.others),
            parties=parties,
            met=await queries.met(tx, connection_id, matched.others, parties),
            taken=await queries.taken(tx, connection_id),
        )

    async def _read_up_to(self, tx: Transaction, changes: Changes, window: Window) -> None:
        """Keep that all of these changes are taken over."""
        given = {"connection": self._connection.id}
        await tx.connection.execute(queries.NOT_WRITTEN, given)
        await tx.connection.execute(queries.FORGET, given | {"since": window.since})
        await tx.connection.execute(queries.READ_UP_TO, given | {"token": changes.token, "complete": changes.complete})

    async def _apply(self, tx: Transaction, found: Incoming) -> bool:
        """Do what follows from changes there, as much as fits into one transaction; returns whether there is more."""
        connection_id = self._connection.id
        await queries.remove(tx, queries.FREE, connection_id, found.free)
        busy = [queries.row_taken(remote_id, now) for remote_id, now in found.busy.items() if _fits(remote_id)]
        await queries.write(tx, queries.ADD, connection_id, busy)
        done = 0
        kept: list[Link] = []
        for merge in found.merges:
            if not (merge.taken or merge.lost):
                kept.append(_seen(merge, merge.here))
            elif done < CHANGES_AT_ONCE and (here := await self._take(tx, merge)) is not None:
                kept.append(_seen(merge, here))
                done += 1
        more = len(kept) < len(found.merges)
        before = {merge.link.id: merge.link for merge in found.merges}
        await queries.write(
            tx, queries.KEEP, connection_id, [queries.row_of(link) for link in kept if link != before[link.id]]
        )
        dropped = []
        for link in found.vanished:
            if done >= CHANGES_AT_ONCE:
                more = True
                break
            if await self._cancel(tx, link):
                dropped.append(link.id)
                done += 1
            else:
                more = True
        await queries.remove(tx, queries.DROP, connection_id, dropped)
        added = [_adopted(local, entry) for local, entry in found.adopted]
        for activity_id, entry in found.joined:
            kind_and_activity = (await queries.contents(tx, [activity_id])).get(activity_id)
            if kind_and_activity is not None:
                added.append(_new_link(activity_id, entry, kind_and_activity[1].content.digests))
        for entry, party in found.made:
            if done >= CHANGES_AT_ONCE:
                more = True
                break
            done += 1
            made = await self._make(tx, entry, party)
            if made is not None:
                added.append(made)
        rows = [queries.row_of(link) for link in added if _fits(link.remote_id)]
        await queries.write(tx, queries.ADD, connection_id, rows)
        return more

    async def _take(self, tx: Transaction, merge: Merge) -> list[str] | None:
        """Change an activity as its entry was, and note what else was changed there; returns what both have agreed on
        then. None where somebody has changed the activity at the same moment.
        """
        link, here = merge.link, list(merge.here)
        assert link.local is not None, "only what belongs there changes"  # noqa: S101
        assert link.mine is not None, "only what belongs there changes"  # noqa: S101
        now = link.mine
        try:
            async with tx.savepoint():
                row = await ACTIVITIES.get_for_update(tx, link.activity_id)
                if row["version"] != link.local.version:
                    return None
                values = _values(merge.entry, merge.taken, _activity(row))
                stored = await activities.prepare_change(tx, row, values, Zone(tx), late=True)
                await ACTIVITIES.update(tx, row, stored)
                if merge.lost:
                    note = NoteCreate(content=self._told(merge), activity_id=link.activity_id)
                    await notes.create(tx, note)
                now = _activity({**row, **stored}).content.digests
        except NotLiveError:
            return None
        except AppError as error:
            self._settle(error)
        for place, field in enumerate(OURS):
            if field in merge.taken or (field is Field.REMIND_AT and Field.TIMES in merge.taken):
                here[place] = now[place]
        return here

    async def _cancel(self, tx: Transaction, link: Link) -> bool:
        """Cancel an activity whose entry was deleted, unless it is done, or to be written again; returns whether that
        is settled.
        """
        if link.local is None or link.mine is None or not link.local.is_open:
            return True
        if self._connection.decision == "write_again":
            return True
        try:
            async with tx.savepoint():
                row = await ACTIVITIES.get_for_update(tx, link.activity_id)
                if row["version"] != link.local.version:
                    return False
                values = {"status": ActivityStatus.CANCELLED.value}
                await ACTIVITIES.update(tx, row, await activities.prepare_change(tx, row, values, Zone(tx), late=True))
        except NotLiveError:
            return False
        except AppError as error:
            self._settle(error)
        return True

    async def _make(self, tx: Transaction, entry: Entry, party: Party) -> Link | None:
        """A meeting with somebody that we know."""
        times = entry.times
        minutes = _minutes(entry)
        ended = times.ends_at <= datetime.now(UTC)
        done = entry.completed or ended
        data = ActivityCreate(
            title=_title(entry) or Say(self._reader.locale)("entry.meeting"),
            type=ActivityType.MEETING,
            description=_description(entry),
            due_date=times.starts_at,
            all_day=times.all_day,
            duration=None if times.all_day else minutes,
            customer_id=party.customer_id,
            contact_id=party.contact_id,
            # What is over has taken place.
            status=ActivityStatus.COMPLETED if done else ActivityStatus.SCHEDULED,
            completed_at=times.ends_at if ended else None,
        )
        try:
            async with tx.savepoint():
                made = await activities.create(tx, data)
        except AppError as error:
            self._settle(error)
            return None
        (found,) = (await ACTIVITIES.read_live(tx, [made.id])).values()
        return _new_link(made.id, entry, _activity(found).content.digests)

    def _settle(self, error: AppError) -> None:
        """Go on without what was refused, and tell the person. Raises what may succeed next time."""
        if error.code in PASSING:
            raise error
        self.problem = error.message

    def _told(self, merge: Merge) -> str:
        """What was changed there while it was changed here, too: the note that stays of it."""
        say, entry, (locale, zone) = Say(self._reader.locale), merge.entry, self._reader
        times = entry.times
        if times.all_day:
            when = locale.day(times.starts_at.date())
        else:
            when = f"{locale.moment(times.starts_at, zone)} - {locale.moment(times.ends_at, zone)}"
        values = {
            Field.TITLE: entry.title,
            Field.DESCRIPTION: entry.description or "-",
            Field.TIMES: when,
            Field.COMPLETED: say("calendar.done" if entry.completed else "calendar.not_done"),
        }
        lines = [f"{say(f'calendar.{field}')}: {normalized(values[field])}" for field in SHARED if field in merge.lost]
        return "\n".join([say("calendar.both", calendar=self._connection.calendar_name), "", *lines])

    # ── what changed here ────────────────────────────────────────────────────────────────────────────────────────────

    async def _write_out(self, adapter: Adapter, window: Window) -> None:
        """Write there what changed here, part by part. Each part is noted before."""
        while True:
            async with self._transaction() as tx:
                planned = await self._plan(tx, window)
            if not planned:
                return
            for link, draft, fields in planned:
                await self._write(adapter, link, draft, fields)

    async def _plan(self, tx: Transaction, window: Window) -> list[tuple[Link, Draft | None, frozenset[Field]]]:
        """The next entries to be written, and how they should be; without a draft they are to be deleted."""
        connection_id = self._connection.id
        writes = reconcile.outgoing(
            await queries.links(tx, connection_id), await queries.unlinked(tx, connection_id, window)
        )
        # What was never written there need not be deleted.
        forgotten = [w.link.id for w in writes if w.link is not None and not w.fields and w.link.remote_id is None]
        await queries.remove(tx, queries.DROP, connection_id, forgotten)
        writes = [w for w in writes if _which(w) not in self._left and (w.fields or (w.link and w.link.remote_id))]
        writes = writes[:WRITES_AT_ONCE]
        wanted = [w.local.activity_id for w in writes if w.local is not None and w.fields]
        found = await queries.contents(tx, wanted)
        new: list[Link] = []
        changed: list[Link] = []
        for write in writes:
            if not write.fields or write.local is None or write.local.activity_id not in found:
                continue
            marks = reconcile.marks(found[write.local.activity_id][1].content, write.fields)
            if write.link is None:
                new.append(self._unwritten(write.local, found[write.local.activity_id][1], marks))
            else:
                changed.append(replace(write.link, sent=marks, is_kept=False))
        await queries.write(tx, queries.ADD, connection_id, [queries.row_of(link) for link in new])
        await queries.write(tx, queries.KEEP, connection_id, [queries.row_of(link) for link in changed])
        links = {link.activity_id: link for link in changed}
        if new:
            made = {link.activity_id for link in new}
            links |= {
                link.activity_id: link for link in await queries.links(tx, connection_id) if link.activity_id in made
            }
        planned: list[tuple[Link, Draft | None, frozenset[Field]]] = []
        for write in writes:
            if not write.fields and write.link is not None:
                planned.append((write.link, None, write.fields))
            elif write.local is not None and (link := links.get(write.local.activity_id)) is not None:
                kind, activity = found[write.local.activity_id]
                planned.append((link, self._draft(link, kind, activity), write.fields))
        return planned

    def _unwritten(self, local: Local, activity: Activity, marks: list[str]) -> Link:
        """An activity that is about to be written there for the first time."""
        key = f"{reconcile.key_base(self._namespace, local.activity_id)}-{secrets.token_hex(4)}"
        return Link(
            id=0,
            activity_id=local.activity_id,
            remote_id=None,
            key=key,
            series=None,
            uid=reconcile.uid_of(key),
            etag=None,
            here=None,
            there=None,
            sent=marks,
            is_kept=False,
            times=activity.content.times,
            local=local,
        )

    def _draft(self, link: Link, kind: str, activity: Activity) -> Draft:
        content = activity.content
        key = link.key or reconcile.key_base(self._namespace, link.activity_id)
        return Draft(
            key=key,
            uid=link.uid or reconcile.uid_of(key),
            title=content.title,
            description=content.description,
            times=reconcile.times_there(content, None if link.remote_id is None else link.times),
            zone=self._reader.zone.key,
            busy=kind in queries.BUSY and not content.times.all_day,
            completed=content.completed,
            remind_at=activity.remind_at if activity.status == "scheduled" else None,
        )

    async def _write(self, adapter: Adapter, link: Link, draft: Draft | None, fields: frozenset[Field]) -> None:
        """Write one entry, and note what is there then."""
        try:
            if draft is None:
                assert link.remote_id is not None, "what was never written is not deleted"  # noqa: S101
                await adapter.delete(link.remote_id, link.etag)
                after = None
            else:
                if link.remote_id is None:
                    entry = await adapter.create(draft)
                else:
                    entry = await adapter.update(link.remote_id, link.etag, draft, fields)
                if not _fits(entry.remote_id):
                    raise Refused("The calendar's server gives entries names that are too long")
                after = _written(link, entry)
        except (Outdated, Gone):
            # It was changed there meanwhile: the next sync knows how.
            self.again = True
            self._left.add(("entry", link.id))
            return
        except Refused as error:
            self.problem = str(error)
            self._left.add(("entry", link.id))
            after = replace(link, is_kept=True) if draft is None else _refused(link)
        async with self._transaction() as tx:
            if after is None:
                await queries.remove(tx, queries.DROP, self._connection.id, [link.id])
            else:
                await queries.write(tx, queries.KEEP, self._connection.id, [queries.row_of(after)])


def _which(write: Write) -> tuple[str, int]:
    if write.link is not None:
        return "entry", write.link.id
    assert write.local is not None, "a new entry is an activity's"  # noqa: S101
    return "activity", write.local.activity_id


# ── from one side to the other ───────────────────────────────────────────────────────────────────────────────────────


def _activity(row: Any) -> Activity:
    return Activity(*(row[field] for field in Activity._fields))


def _values(entry: Entry, fields: frozenset[Field], before: Activity) -> dict[str, Any]:
    """What these fields of an entry are in the record of an activity."""
    values: dict[str, Any] = {}
    times = entry.times
    # A record needs a title.
    if Field.TITLE in fields and (title := _title(entry)) is not None:
        values["title"] = title
    if Field.DESCRIPTION in fields:
        values["description"] = _description(entry)
    if Field.COMPLETED in fields:
        status = ActivityStatus.COMPLETED if entry.completed else ActivityStatus.SCHEDULED
        values["status"] = status.value
    if Field.TIMES in fields:
        values |= {"due_date": times.starts_at, "all_day": times.all_day}
        if not times.all_day and _minutes(entry) != (before.duration or 0):
            values["duration"] = _minutes(entry)
        if before.remind_at is not None:
            # It stays as long before as it was.
            values["remind_at"] = before.remind_at + (times.starts_at - before.due_date)
    return values


def _title(entry: Entry) -> str | None:
    """The title as a record has it; None where there is nothing to read."""
    try:
        return name(" ".join(entry.title.split()))[:255].rstrip() or None
    except RefusedText:
        return None


def _description(entry: Entry) -> str | None:
    try:
        return normalized(entry.description or "")[:10_000] or None
    except RefusedText:
        return None


def _minutes(entry: Entry) -> int:
    return round((entry.times.ends_at - entry.times.starts_at) / timedelta(minutes=1))


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _fits(name: str | None, most: int = LONGEST_REMOTE) -> bool:
    """Whether what a server calls something can be kept."""
    return name is None or ("\0" not in name and len(name.encode()) <= most)


def _storable(changes: Changes) -> Changes:
    """The changes without what can't be kept: one entry that makes no sense stops no other."""
    entries = tuple(
        entry
        for entry in changes.entries
        if _fits(entry.remote_id) and _fits(entry.series) and entry.times.starts_at <= entry.times.ends_at
    )
    return replace(changes, entries=entries, token=changes.token if _fits(changes.token, LONGEST_TOKEN) else None)


def _of_entry(entry: Entry) -> dict[str, Any]:
    """What is kept of an entry."""
    return {
        "remote_id": entry.remote_id,
        "series": entry.series,
        "uid": entry.uid if _fits(entry.uid) else None,
        # Without one, the next write is not bound to a state.
        "etag": entry.etag if _fits(entry.etag) else None,
        "times": entry.times,
        "sent": None,
    }


def _seen(merge: Merge, here: list[str]) -> Link:
    """A link, once what changed there is taken over."""
    return replace(merge.link, here=here, there=merge.there, **_of_entry(merge.entry))


def _new_link(activity_id: int, entry: Entry, here: list[str]) -> Link:
    """The link of an entry that was not known; both sides agree as they are."""
    there = reconcile.content_of(entry).digests
    link = Link(0, activity_id, None, None, None, None, None, here, there, None, False, entry.times, None)
    return replace(link, **_of_entry(entry))


def _adopted(local: Local, entry: Entry) -> Link:
    """The link of an entry that is an activity already. Where they differ, the entry is written anew."""
    link = _new_link(local.activity_id, entry, reconcile.content_of(entry).digests)
    return replace(link, key=entry.key if _fits(entry.key, LONGEST_KEY) else None)


def _written(link: Link, entry: Entry) -> Link:
    """A link, once the server has said what is there now."""
    there, sent = reconcile.content_of(entry).digests, link.sent or []
    before = link.here or sent
    here = [now or then for now, then in zip(sent, before, strict=True)]
    return replace(link, here=here, there=there, **_of_entry(entry))


def _refused(link: Link) -> Link:
    """A link whose change the server does not take: it is not tried again until it is changed again here."""
    sent = link.sent or []
    before = link.here or sent
    return replace(link, here=[now or then for now, then in zip(sent, before, strict=True)], sent=None)
