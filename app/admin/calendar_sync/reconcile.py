"""What has to happen so that a calendar and a person's activities are the same again. It only computes: it reads and
writes nothing, and knows no clock.

For each entry that is an activity, both sides' digests are kept from when they last agreed. What differs from them was
changed since, on that side. So it does not matter if a server keeps a text in another form than it was given.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from app.calendars.entries import Changes, Entry, EntryStatus, Field, Times, Window

# What both sides have. Of reminders only ours are written: theirs are the person's own matter.
SHARED = (Field.TITLE, Field.DESCRIPTION, Field.TIMES, Field.COMPLETED)
OURS = (*SHARED, Field.REMIND_AT)
# If more entries than these vanish at once, or half of four or more, the person is asked.
MOST_VANISHING, FEW = 20, 4
DIGEST_BYTES = 12
UUID_LENGTH = 36
# The server does not say what it has in this field.
UNKNOWN = ""
DAY = timedelta(days=1)

Digests = Sequence[str]


class Content(Struct, frozen=True):
    """What an activity, or an entry, has in the fields that are kept the same."""

    title: str
    description: str | None
    times: Times
    completed: bool
    remind_at: object = None

    @property
    def digests(self) -> list[str]:
        """A digest for each of OURS, of what is the same however it is written."""
        times = self.times
        values = (
            " ".join(self.title.split()),
            "\n".join(line.rstrip() for line in (self.description or "").splitlines()).strip(),
            # Calendars know no parts of a second.
            (times.all_day, times.starts_at.replace(microsecond=0), times.ends_at.replace(microsecond=0)),
            self.completed,
            self.remind_at,
        )
        return [blake2b(repr(value).encode(), digest_size=DIGEST_BYTES).hexdigest() for value in values]


def content_of(entry: Entry) -> Content:
    """What the entry has."""
    return Content(entry.title, entry.description, entry.times, entry.completed)


class Local(Struct, frozen=True):
    """An activity of the person's."""

    activity_id: int
    version: int
    # Of what it has. None where it does not belong into a calendar: it is cancelled, in the trash or somebody else's.
    digests: Digests | None
    # Whether it is still to be done.
    is_open: bool


class Link(Struct, frozen=True):
    """An entry that is an activity, as it is kept."""

    id: int
    activity_id: int
    remote_id: str | None
    key: str | None
    series: str | None
    uid: str | None
    etag: str | None
    here: Digests | None
    there: Digests | None
    sent: Digests | None
    is_kept: bool
    # When it is there.
    times: Times
    # Null of one that is gone for good, or that the person does not see any more.
    local: Local | None

    @property
    def mine(self) -> Digests | None:
        """Of what the activity has, if it belongs into the calendar."""
        return None if self.local is None else self.local.digests

    @property
    def one(self) -> str | int:
        """The same for all occurrences of a series: what a person deletes at once."""
        return self.series or self.id


class Taken(NamedTuple):
    """A time that nothing is known of but that it is taken."""

    times: Times
    series: str | None


class Party(NamedTuple):
    """Whose address takes part in an entry."""

    customer_id: int
    contact_id: int | None


class Matched(NamedTuple):
    """The entries by what they are: known ones, those that are there no more, and all others."""

    pairs: list[tuple[Link, Entry]]
    vanished: list[Link]
    others: list[Entry]


class Merge(NamedTuple):
    """What becomes of a known entry: the fields that change here, those that were changed there in vain, and what both
    sides have agreed on, before the former are changed.
    """

    link: Link
    entry: Entry
    taken: frozenset[Field]
    lost: frozenset[Field]
    here: list[str]
    there: list[str]


class Incoming(NamedTuple):
    """What follows from changes there."""

    merges: list[Merge]
    vanished: list[Link]
    # Activities that are in the calendar already: of an earlier connection, in another calendar of this person's, or a
    # meeting of the same time, title and customer.
    adopted: list[tuple[Local, Entry]]
    joined: list[tuple[int, Entry]]
    # Meetings with people that we know.
    made: list[tuple[Entry, Party]]
    # By id: times that are taken now, and those that are no more.
    busy: dict[str, Taken]
    free: list[str]


class Write(NamedTuple):
    """What is to be written there: to a known entry, or a new one for an activity. No fields: it is to be deleted."""

    link: Link | None
    local: Local | None
    fields: frozenset[Field]


# ── which entry is which ─────────────────────────────────────────────────────────────────────────────────────────────


def key_base(namespace: uuid.UUID, activity_id: int) -> str:
    """What the keys of an activity begin with, in every calendar. A new entry gets a new key: some servers never take
    one again that was deleted.
    """
    return str(uuid.uuid5(namespace, str(activity_id)))


def uid_of(key: str) -> str:
    """The uid of the entry with this key."""
    return str(uuid.uuid5(uuid.UUID(key[:UUID_LENGTH]), key))


def missing(changes: Changes, links: Iterable[Link], window: Window) -> list[Link]:
    """Those that are there no more, or may only be outside of the window by now."""
    present = {entry.remote_id for entry in changes.entries}
    named = changes.removed | changes.whole
    return [
        link
        for link in links
        if link.remote_id is not None
        and link.remote_id not in present
        and (
            not named.isdisjoint({link.remote_id, link.series})
            or (changes.complete and window.has(link.times, link.series))
        )
    ]


def match(changes: Changes, links: Sequence[Link], window: Window) -> Matched:
    """Which entries are known. One that was deleted and made again, as some programs move entries, is the same."""
    by_id = {link.remote_id: link for link in links if link.remote_id is not None}
    known = [(by_id[entry.remote_id], entry) for entry in changes.entries if entry.remote_id in by_id]
    pairs = [(link, entry) for link, entry in known if entry.status is not EntryStatus.CANCELLED]
    cancelled = [link for link, entry in known if entry.status is EntryStatus.CANCELLED]
    vanished = {link.id: link for link in (*cancelled, *missing(changes, links, window))}
    lost = [link for link in links if link.remote_id is None or link.id in vanished]
    by_key: dict[str | None, Link] = {link.key: link for link in lost if link.key is not None}
    by_uid: dict[str | None, Link] = {link.uid: link for link in lost if link.uid is not None and link.series is None}
    by_series: dict[str | None, Link] = {link.remote_id: link for link in vanished.values()}
    others = []
    for entry in changes.entries:
        if entry.remote_id in by_id or entry.status is EntryStatus.CANCELLED:
            continue
        found = by_key.get(entry.key) if entry.key is not None else None
        if found is None:
            # An entry that has become a series is its first occurrence.
            found = by_uid.get(entry.uid) if entry.series is None else by_series.get(entry.series)
        if found is None:
            others.append(entry)
            continue
        pairs.append((found, entry))
        vanished.pop(found.id, None)
        by_key.pop(found.key, None)
        by_uid.pop(found.uid, None)
        by_series.pop(found.remote_id, None)
    return Matched(pairs, list(vanished.values()), others)


def asks(vanished: Collection[Link], links: Iterable[Link]) -> int:
    """How many vanished, if these are so many that the person is asked first; else 0."""
    at_stake = {link.one for link in links if link.remote_id is not None and link.mine is not None}
    gone = {link.one for link in vanished if link.mine is not None}
    is_half = len(at_stake) >= FEW and 2 * len(gone) >= len(at_stake)
    return len(gone) if len(gone) > MOST_VANISHING or is_half else 0


# ── what comes from there ────────────────────────────────────────────────────────────────────────────────────────────


def incoming(
    matched: Matched,
    changes: Changes,
    window: Window,
    *,
    unlinked: Mapping[str, Local],
    elsewhere: Mapping[tuple[str, object], int],
    parties: Mapping[str, Party],
    met: Mapping[tuple[object, ...], int],
    taken: Mapping[str, Taken],
) -> Incoming:
    """What follows from changes there. `unlinked` are open activities without an entry, by the beginning of their keys;
    `elsewhere` those with one in another calendar of this person's, by `occasion`; `parties` are people by address,
    `met` their meetings that are in no entry, by `meeting`, and `taken` the times that are known to be taken, by id.
    """
    adopted, joined, made = [], [], []
    busy: dict[str, Taken] = {}
    waiting, known_elsewhere, known_meetings = dict(unlinked), dict(elsewhere), dict(met)
    for entry in matched.others:
        if not window.has(entry.times, entry.series):
            continue
        ours = waiting.pop(entry.key[:UUID_LENGTH], None) if entry.key is not None else None
        party = next((parties[each] for each in entry.attendees if each in parties), None)
        same = known_elsewhere.pop(occasion(entry), None) if ours is None else None
        if ours is None and same is None and party is not None and entry.key is None:
            same = known_meetings.pop(_met(entry, party), None)
        if ours is not None:
            adopted.append((ours, entry))
        elif same is not None:
            joined.append((same, entry))
        elif party is not None and entry.key is None:
            made.append((entry, party))
        elif entry.busy:
            busy[entry.remote_id] = Taken(entry.times, entry.series)
    known = {entry.remote_id for entry in changes.entries}
    free = [
        remote_id
        for remote_id, before in taken.items()
        if remote_id not in busy and (remote_id in known or changes.without(remote_id, before.series))
    ]
    return Incoming(
        merges=[merge(link, entry) for link, entry in matched.pairs],
        vanished=matched.vanished,
        adopted=adopted,
        joined=joined,
        made=made,
        busy={remote_id: now for remote_id, now in busy.items() if taken.get(remote_id) != now},
        free=free,
    )


def occasion(entry: Entry) -> tuple[str, object]:
    """What tells that entries of several calendars are one: an invitation has the same uid in all of them."""
    return (entry.uid, None) if entry.series is None else (entry.uid, entry.times.starts_at)


def meeting(title: str, starts_at: datetime, all_day: bool, customer_id: int | None) -> tuple[object, ...]:
    """What tells that a meeting is an entry's: of a calendar that is connected anew, or typed by hand on both sides."""
    return " ".join(title.split()), starts_at, all_day, customer_id


def _met(entry: Entry, party: Party) -> tuple[object, ...]:
    return meeting(entry.title, entry.times.starts_at, entry.times.all_day, party.customer_id)


def merge(link: Link, entry: Entry) -> Merge:
    """Field by field: what only one side has changed is taken from it; what both have, from here."""
    there = content_of(entry).digests
    mine = link.mine
    if mine is None:
        # It is deleted there, unless somebody made it again here.
        return Merge(link, entry, frozenset(), frozenset(), [*(link.here or there)], [*(link.there or there)])
    here = [*(link.here or link.sent or there)]
    before = [*(link.there or link.sent or there)]
    taken: set[Field] = set()
    lost: set[Field] = set()
    for place, name in enumerate(SHARED):
        if link.sent is not None and there[place] == link.sent[place]:
            # Our own write, whose answer was lost.
            here[place] = before[place] = there[place]
        changed_here, changed_there = mine[place] != here[place], there[place] != before[place]
        if mine[place] == there[place]:
            here[place] = mine[place]
        elif changed_there:
            (lost if changed_here else taken).add(name)
    return Merge(link, entry, frozenset(taken), frozenset(lost), here, there)


# ── what goes there ──────────────────────────────────────────────────────────────────────────────────────────────────


def outgoing(links: Iterable[Link], unlinked: Iterable[Local]) -> list[Write]:
    """What is to be written there. Occurrences of a series are never written."""
    known = (write for link in links if (write := _write(link)) is not None)
    new = (Write(None, local, frozenset(OURS)) for local in unlinked)
    return list(chain(known, new))


def _write(link: Link) -> Write | None:
    mine, here = link.mine, link.here
    if link.series is not None:
        return None
    if mine is None:
        return None if link.is_kept else Write(link, link.local, frozenset())
    if link.remote_id is None and here != mine:
        return Write(link, link.local, frozenset(OURS))
    changed = [name for place, name in enumerate(OURS) if here is None or mine[place] != here[place]]
    return Write(link, link.local, frozenset(changed)) if changed and link.remote_id is not None else None


def times_there(content: Content, before: Times | None) -> Times:
    """When the activity is there. A record has one whole day: what has several there keeps its length."""
    times = content.times
    if before is None or not (times.all_day and before.all_day):
        return times
    return replace(times, ends_at=times.starts_at + max(before.ends_at - before.starts_at, DAY))


def marks(content: Content, fields: Collection[Field]) -> list[str]:
    """The digests of what is written: of these fields only."""
    return [each if name in fields else UNKNOWN for name, each in zip(OURS, content.digests, strict=True)]
