"""A calendar in memory, which does what app/calendars/entries.py says of a server, and fails as a test wants it to."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import count
from typing import Any

from msgspec.structs import replace

from app.calendars.entries import Account, Adapter, Changes, Draft, Entry, EntryStatus, Field, Times, Window
from app.calendars.errors import Away, CalendarError, Gone, Outdated, TokenExpired

# What this server keeps of a description.
LONGEST_DESCRIPTION = 40


class MemoryCalendar:
    """The server and, by `put`, `edit` and `drop`, what a person does with a phone."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        # The id of each change, in order: a token is a place in it.
        self.log: list[str] = []
        self.oldest = 0
        # What the next requests fail with: before anything is done, or after it, so that the answer is lost.
        self.before: list[CalendarError | None] = []
        self.after: list[CalendarError | None] = []
        self.requests: list[str] = []
        self._numbers: Iterator[int] = count(1)

    # ── a person's hand ──────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, title: str, starts_at: datetime, ends_at: datetime, **more: Any) -> str:
        """A new entry."""
        number = next(self._numbers)
        all_day = more.pop("all_day", False)
        entry = Entry(
            **{
                "remote_id": f"r{number}",
                "etag": f"t{number}",
                "uid": f"u{number}",
                "title": title,
                "description": None,
                "times": Times(starts_at, ends_at, all_day),
                "status": EntryStatus.CONFIRMED,
                "busy": True,
                "completed": False,
                **more,
            }
        )
        self._keep(entry)
        return entry.remote_id

    def edit(self, remote_id: str, **more: Any) -> None:
        """Change an entry."""
        self._keep(replace(self.entries[remote_id], etag=f"t{next(self._numbers)}", **more))

    def drop(self, remote_id: str) -> None:
        """Delete an entry."""
        del self.entries[remote_id]
        self.log.append(remote_id)

    def expire(self) -> None:
        """Forget where everybody was."""
        self.oldest = len(self.log) + 1
        self.log.append("")

    def _keep(self, entry: Entry) -> None:
        description = entry.description and entry.description[:LONGEST_DESCRIPTION]
        self.entries[entry.remote_id] = replace(entry, description=description)
        self.log.append(entry.remote_id)

    # ── the adapter ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, request: str) -> None:
        self.requests.append(request)
        if self.before and (error := self.before.pop(0)) is not None:
            raise error

    def _end(self) -> None:
        if self.after and (error := self.after.pop(0)) is not None:
            raise error

    async def check(self) -> Account:
        return Account("ada@example.com", "memory", "Work")

    async def changes(self, token: str | None, window: Window) -> Changes:
        self._begin("changes" if token else "list")
        now = str(len(self.log))
        if token is None:
            inside = tuple(each for each in self.entries.values() if window.has(each.times, each.series))
            return Changes(entries=inside, token=now, complete=True)
        if int(token) < self.oldest:
            raise TokenExpired("Too long ago")
        changed = dict.fromkeys(self.log[int(token) :])
        present = tuple(self.entries[each] for each in changed if each in self.entries)
        removed = frozenset(each for each in changed if each not in self.entries)
        return Changes(entries=present, removed=removed, token=now, complete=False)

    async def get(self, remote_id: str) -> Entry | None:
        self._begin("get")
        return self.entries.get(remote_id)

    async def create(self, draft: Draft) -> Entry:
        self._begin("create")
        if any(each.key == draft.key for each in self.entries.values()):
            raise Outdated("It is there already")
        remote_id = self.put(
            draft.title,
            draft.times.starts_at,
            draft.times.ends_at,
            all_day=draft.times.all_day,
            description=draft.description,
            uid=draft.uid,
            key=draft.key,
            busy=draft.busy,
            completed=draft.completed,
        )
        self._end()
        return self.entries[remote_id]

    async def update(self, remote_id: str, etag: str | None, draft: Draft, fields: Collection[Field]) -> Entry:
        self._begin("update")
        self._expect(remote_id, etag)
        written = {name.value: getattr(draft, name.value) for name in fields if name is not Field.REMIND_AT}
        self.edit(remote_id, **written)
        self._end()
        return self.entries[remote_id]

    async def delete(self, remote_id: str, etag: str | None) -> None:
        self._begin("delete")
        if remote_id not in self.entries:
            return
        self._expect(remote_id, etag)
        self.drop(remote_id)
        self._end()

    def _expect(self, remote_id: str, etag: str | None) -> None:
        if remote_id not in self.entries:
            raise Gone("It is gone")
        if etag is not None and self.entries[remote_id].etag != etag:
            raise Outdated("It has changed")

    @asynccontextmanager
    async def open(self, *_: object) -> Any:
        """As `Calendars.open`."""
        adapter: Adapter = self
        yield adapter


LOST = Away("The answer was lost")
