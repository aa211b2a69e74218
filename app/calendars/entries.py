"""Calendars as the rest of the service sees them: entries, what changed among them, and what can be done to them.

An adapter knows a protocol, and nothing of records. Whoever calls it knows what is to be done, and no protocol. No
adapter compares clocks: what was changed is known by tokens and etags alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from zoneinfo import ZoneInfo

from msgspec import Struct

from app.web.fields import Refused as FieldRefused
from app.web.text import CONTROL, WHITE_SPACE, is_visible, normalized

# More entries than these in a window are refused.
MOST_ENTRIES = 5000
LONGEST_TITLE, LONGEST_DESCRIPTION = 255, 10_000
DONE = "✓ "
UNTITLED = "(No title)"


class Times(Struct, frozen=True):
    """From when to when, in UTC. Whole days begin and end at midnight UTC, as records store them; the end is the first
    moment after it.
    """

    starts_at: datetime
    ends_at: datetime
    all_day: bool


class EntryStatus(StrEnum):
    """Whether it takes place."""

    CONFIRMED = "confirmed"
    TENTATIVE = "tentative"
    CANCELLED = "cancelled"


class Entry(Struct, frozen=True, kw_only=True):
    """What a calendar has at a time: an entry of its own, or an occurrence of a series.

    Texts are plain, without control characters, and no longer than a record can store.
    """

    # What the server calls it. That of an occurrence is the series' and the occurrence's together.
    remote_id: str
    # Names this state of it, for a conditional write. None where the server has not said it: the next changes do.
    etag: str | None
    uid: str
    # Without the mark of what is done.
    title: str
    description: str | None
    times: Times
    status: EntryStatus
    # Whether it takes the person's time. What the person declined does not.
    busy: bool
    completed: bool
    # Who else takes part or invites: folded email addresses.
    attendees: tuple[str, ...] = ()
    # The id of the series that this is an occurrence of. Occurrences are read, and never written.
    series: str | None = None
    # What we wrote with it (`Draft.key`). A copy that somebody made there has it too: the entry is ours whose
    # `remote_id` is known, or else the first one. Occurrences have none.
    key: str | None = None


class Field(StrEnum):
    """What an update can write."""

    TITLE = "title"
    DESCRIPTION = "description"
    TIMES = "times"
    BUSY = "busy"
    COMPLETED = "completed"
    REMIND_AT = "remind_at"


class Draft(Struct, frozen=True, kw_only=True):
    """An entry as it should be there."""

    # Says in every calendar which record it is; at most 64 letters, digits and `-`.
    key: str
    # A UUID, always the same for the same key.
    uid: str
    title: str
    description: str | None
    times: Times
    # The IANA time zone whose clocks it goes by. Whole days go by none.
    zone: str
    busy: bool
    completed: bool
    remind_at: datetime | None

    def reminder_minutes(self) -> int | None:
        """How many minutes before it begins the reminder comes. A whole day begins at midnight by the zone's clocks."""
        if self.remind_at is None:
            return None
        starts_at = self.times.starts_at
        if self.times.all_day:
            starts_at = starts_at.replace(tzinfo=ZoneInfo(self.zone))
        return max(int((starts_at - self.remind_at).total_seconds() // 60), 0)


class Window(Struct, frozen=True):
    """What of a calendar is of interest: what lies in these times. Of a series, only what is before `series_until`."""

    since: datetime
    until: datetime
    series_until: datetime

    def has(self, times: Times, series: str | None) -> bool:
        """Whether something with these times is in it."""
        until = self.until if series is None else self.series_until
        return times.starts_at < until and (times.ends_at > self.since or times.starts_at >= self.since)


class Changes(Struct, frozen=True, kw_only=True):
    """What is different from where a token was given; or, if `complete`, everything in the window.

    A difference has what changed, also outside the window. A complete list does not have what has moved out of the
    window: before something missing is taken for deleted, `Adapter.get` knows.
    """

    entries: tuple[Entry, ...]
    # Ids of entries, or of series with all their occurrences.
    removed: frozenset[str] = frozenset()
    # Ids of entries or series of which `entries` has all that is left in the window.
    whole: frozenset[str] = frozenset()
    # Where to go on. None where the server has no such thing: then each reading is complete.
    token: str | None
    complete: bool

    def without(self, remote_id: str, series: str | None) -> bool:
        """Whether they say that what was known by these ids is there no more."""
        if any(entry.remote_id == remote_id for entry in self.entries):
            return False
        return self.complete or not (self.removed | self.whole).isdisjoint({remote_id, series})


class Account(Struct, frozen=True):
    """Whose calendar it is, and which."""

    name: str
    # What the server calls the calendar: its address or its id. An adapter is opened with it.
    calendar: str
    calendar_name: str


class Adapter(Protocol):
    """A calendar on a server. Every method raises CalendarError: see app/calendars/errors.py for its kinds."""

    async def check(self) -> Account:
        """Find the calendar, and make sure that it can be read and written."""
        ...

    async def changes(self, token: str | None, window: Window) -> Changes:
        """What changed since a token, or without one everything in the window. All pages of it. Raises TokenExpired,
        and Refused where it is more than MOST_ENTRIES.
        """
        ...

    async def get(self, remote_id: str) -> Entry | None:
        """The entry as it is now, or None where there is none."""
        ...

    async def create(self, draft: Draft) -> Entry:
        """Write a new entry: the answer is what is there now. Raises Outdated where one with this key is there already,
        such as after an answer that was lost: the next changes have it.
        """
        ...

    async def update(self, remote_id: str, etag: str | None, draft: Draft, fields: Collection[Field]) -> Entry:
        """Write these fields of the draft, and leave alone whatever else the entry has. Raises Outdated where it has
        another etag by now, and Gone. Without an etag it writes over what is there.
        """
        ...

    async def delete(self, remote_id: str, etag: str | None) -> None:
        """Delete the entry. One that is gone already is fine. Raises Outdated where it has another etag by now."""
        ...


class Credentials(Protocol):
    """What lets an adapter in where somebody has consented (OAuth 2.0)."""

    async def access_token(self, *, refused: str | None = None) -> str:
        """A token that should be accepted: another one than `refused`. Raises ReconnectNeeded."""
        ...


class Password(Struct, frozen=True):
    """What lets an adapter in with a password."""

    username: str
    password: str


def marked(title: str, *, completed: bool) -> str:
    """A title as calendars show it: what is done has a mark."""
    return DONE + title if completed else title


def read_title(text: str) -> tuple[str, bool]:
    """A calendar's title as a record can store it, and whether it had the mark of what is done."""
    title = _storable(CONTROL.sub(" ", text)).strip(WHITE_SPACE)
    mark = DONE.rstrip()
    if completed := title.startswith(mark):
        title = title[len(mark) :].lstrip(WHITE_SPACE)
    title = title[:LONGEST_TITLE].rstrip(WHITE_SPACE)
    return title if is_visible(title) else UNTITLED, completed


def read_description(text: str) -> str | None:
    """A calendar's description as a record can store it."""
    return _storable(text.replace("\r\n", "\n").replace("\0", "")).strip(WHITE_SPACE)[:LONGEST_DESCRIPTION] or None


def _storable(text: str) -> str:
    """Without surrogates, in normal form C, and without any marks if a letter has too many."""
    text = text.encode("utf-8", "replace").decode()
    try:
        return normalized(text)
    except FieldRefused:
        return "".join(letter for letter in text if not unicodedata.combining(letter))
