"""A random walk on both sides of a connected calendar, during which everything goes wrong that can: requests and
answers are lost, workers are killed, tokens expire, and people change things while they are being synced.

Each thing has a number of its own in its title, by which it is known on both sides whatever else becomes of it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import re
import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

import psycopg

from app.admin.calendar_sync import queries
from app.admin.calendar_sync.syncing import CalendarSyncing
from app.admin.connections.opening import Calendars
from app.crypto.keys import Keys
from app.db.database import Database
from app.settings import Settings
from app.web.addresses import Addresses
from tests.callers import Caller
from tests.peers.unreliable import Trouble, Unreliable

KNOWN, PRIVATE, SERIES = "Meet", "Private", "Weekly"
# Somebody that the organization knows.
ATTENDEE = "office@engines.example"
ACTS = "make make rename rename describe move move day finish end".split()
ACTS_THERE = [*ACTS, "private", "series", "skip", "shift"]
# A process for each sync, so that one can be killed: it has loaded everything already when it begins.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__, *(f"app.calendars.{name}" for name in ("caldav", "google", "microsoft"))])


class Seen(NamedTuple):
    """What one side has."""

    title: str
    description: str
    starts_at: datetime
    minutes: int
    all_day: bool
    completed: bool

    @property
    def number(self) -> str:
        """What it is known by: an occurrence by its day, too."""
        found = re.search(r"#\d+", self.title)
        assert found is not None, self.title
        return found[0] + (f" {self.starts_at:%m-%d}" if self.title.startswith(SERIES) else "")


class Theirs(Protocol):
    """What a person does in a calendar program, and sees there."""

    def seen(self) -> dict[str, Seen]:
        """Everything in the calendar, by id: occurrences, too."""
        ...

    def make(self, title: str, starts_at: datetime, minutes: int, attendee: str | None) -> None: ...

    def change(self, remote_id: str, seen: Seen) -> None:
        """Make an entry be like this."""
        ...

    def drop(self, remote_id: str) -> None: ...

    def make_series(self, title: str, starts_at: datetime, minutes: int, attendee: str, count: int) -> None: ...

    def shift_series(self, remote_id: str, by: timedelta) -> None:
        """Move the series of an occurrence."""
        ...

    def skip(self, remote_id: str) -> None:
        """Delete one occurrence."""
        ...

    def forget(self) -> None:
        """All sync tokens expire."""
        ...


class Walk:
    """The walk. The connection is made before, through the proxy."""

    def __init__(
        self, settings: Settings, caller: Caller, theirs: Theirs, proxy: Unreliable, connection_id: int, seed: int
    ) -> None:
        self.settings = settings
        self.caller = caller
        self.theirs = theirs
        self.proxy = proxy
        self.connection_id = connection_id
        self.dice = random.Random(seed)
        self.began = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=1)
        self.numbers = 0
        self.changes = 0
        self.done: Counter[str] = Counter()
        # Numbers by what has become of them on purpose.
        self.made: set[str] = set()
        self.ended: set[str] = set()
        self.cancelled_here: set[str] = set()
        self.finished_here: set[str] = set()
        self._running: multiprocessing.process.BaseProcess | None = None

    def run(self, steps: int) -> None:
        """So many changes, with syncs between and during them; then quiet, and both sides are compared."""
        caller = self.caller
        caller.customer("Engines", email=ATTENDEE)
        while self.changes < steps:
            for _ in range(self.dice.randrange(6)):
                self._act()
            if self.dice.random() < 0.1:
                self.theirs.forget()
                self.done["tokens expired"] += 1
            self._sync(trouble=True)
            self._answer()
        for _ in range(10):
            self._sync(trouble=False)
            if not {"PUT", "POST", "PATCH", "DELETE"} & set(self.proxy.methods) and not self._answer():
                break
        self._compare()

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _act(self) -> None:
        if self.dice.random() < 0.5:
            self._act_here(self.dice.choice(ACTS))
        else:
            self._act_there(self.dice.choice(ACTS_THERE))

    def _act_here(self, act: str) -> None:
        mine = [each for each in self.here() if not each["title"].startswith(SERIES)]
        if act == "make" or not mine:
            title, starts_at, minutes = self._title(KNOWN), self._moment(), self.dice.choice([15, 30, 90])
            fields = {"title": title, "type": self.dice.choice(["meeting", "call", "task"]), "duration": minutes}
            self.caller.ok("POST", "/admin/activities", fields | {"due_date": starts_at.isoformat(), "all_day": False})
            self._note(f"here: {act}", made=title)
            return
        chosen = self.dice.choice(mine)
        changes: dict[str, dict[str, Any]] = {
            "rename": {"title": self._renamed(chosen["title"])},
            "describe": {"description": self.dice.choice([None, f"Said {self.dice.randrange(100)}"])},
            "move": {"due_date": self._moment().isoformat(), "all_day": False, "duration": 45},
            "day": {"due_date": self._moment().date().isoformat(), "all_day": True, "duration": None},
            "finish": {"status": self.dice.choice(["completed", "scheduled"])},
            "end": {"status": "cancelled"},
        }
        self.caller.ok("PATCH", f"/admin/activities/{chosen['id']}", changes[act])
        self._note(f"here: {act}", ended=chosen["title"] if act == "end" else None)
        if act == "end":
            self.cancelled_here.add(_number(chosen["title"]))
        elif act == "finish":
            self.finished_here.add(_number(chosen["title"]))

    def _act_there(self, act: str) -> None:
        present = {remote_id: seen for remote_id, seen in self.theirs.seen().items() if not _is(PRIVATE, seen)}
        single = [remote_id for remote_id, seen in present.items() if not _is(SERIES, seen)]
        occurrences = [remote_id for remote_id, seen in present.items() if _is(SERIES, seen)]
        minutes = self.dice.choice([15, 30, 90])
        if act == "private":
            self.theirs.make(self._title(PRIVATE), self._moment(), minutes, None)
        elif act == "series":
            self.theirs.make_series(self._title(SERIES), self._moment(), minutes, ATTENDEE, self.dice.randint(2, 4))
        elif act == "skip" and occurrences:
            self.theirs.skip(self.dice.choice(occurrences))
        elif act == "shift" and occurrences:
            self.theirs.shift_series(self.dice.choice(occurrences), timedelta(minutes=self.dice.randrange(15, 600)))
        elif act in {"make", "skip", "shift"} or not single:
            title = self._title(KNOWN)
            self.theirs.make(title, self._moment(), minutes, ATTENDEE)
            self._note("there: make", made=title)
            return
        else:
            self._change_there(act, self.dice.choice(single), present)
            return
        self._note(f"there: {act}")

    def _change_there(self, act: str, remote_id: str, present: dict[str, Seen]) -> None:
        seen, moment = present[remote_id], self._moment()
        match act:
            case "rename":
                seen = seen._replace(title=self._renamed(seen.title))
            case "describe":
                seen = seen._replace(description=self.dice.choice(["", f"Told {self.dice.randrange(100)}"]))
            case "move":
                seen = seen._replace(starts_at=moment, minutes=60, all_day=False)
            case "day":
                seen = seen._replace(starts_at=moment.replace(hour=0, minute=0), minutes=24 * 60, all_day=True)
            case "finish":
                seen = seen._replace(completed=not seen.completed)
        if act == "end":
            self.theirs.drop(remote_id)
        else:
            self.theirs.change(remote_id, seen)
        self._note(f"there: {act}", ended=seen.title if act == "end" else None)

    def _note(self, act: str, made: str | None = None, ended: str | None = None) -> None:
        self.done[act] += 1
        self.changes += 1
        if made is not None:
            self.made.add(_number(made))
        if ended is not None:
            self.ended.add(_number(ended))

    def _title(self, kind: str) -> str:
        self.numbers += 1
        return f"{kind} somebody #{self.numbers}"

    def _renamed(self, title: str) -> str:
        return f"{self.dice.choice(['Meet', 'Call', 'Ask', 'Show'])} {self.dice.randrange(100)} {_number(title)}"

    def _moment(self) -> datetime:
        return self.began + self.dice.randrange(50 * 24 * 60) * timedelta(minutes=1)

    # ── syncs ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _sync(self, *, trouble: bool) -> None:
        """A sync by a process of its own, as a worker does it."""
        self._sql("UPDATE calendar_connections SET next_sync_at = now(), claimed_until = NULL WHERE id = %s")
        self.proxy.calm()
        process = PROCESSES.Process(target=sync_now, args=(self.settings, self.connection_id))
        if trouble:
            happening = self.dice.choice([None, None, "unreached", "unanswered", "killed", "killed after", "meanwhile"])
            at = self.dice.randrange(8)
            self.proxy.before = self._at(at, happening, process.kill, before=True)
            self.proxy.after = self._at(at, happening, process.kill, before=False)
        process.start()
        process.join(120)
        assert process.exitcode in {0, -signal.SIGKILL}, "a sync ends, or is killed"

    def _at(self, at: int, happening: str | None, kill: Callable[[], None], *, before: bool) -> Any:
        def happen(number: int) -> Trouble | None:
            if number != at or happening is None or before == happening.endswith(("after", "unanswered")):
                return None
            self.done[f"in a sync: {happening}"] += 1
            match happening:
                case "unreached":
                    return Trouble.UNREACHED
                case "unanswered":
                    return Trouble.UNANSWERED
                case "meanwhile":
                    self._act()
                    return None
            kill()
            return Trouble.UNREACHED if before else Trouble.UNANSWERED

        return happen

    def _answer(self) -> bool:
        """Answer whether much should be cancelled here, if that is asked; returns whether it was."""
        (connection,) = self.caller.ok("GET", "/admin/me/connections")["data"]
        assert connection["status"] in {"active", "needs_confirmation"}, connection
        if connection["status"] == "active":
            return False
        path = f"/admin/me/connections/{self.connection_id}/confirm"
        self.caller.ok("POST", path, {"apply": self.dice.random() < 0.5})
        self.done["asked"] += 1
        return True

    # ── both sides ───────────────────────────────────────────────────────────────────────────────────────────────────

    def here(self) -> list[dict[str, Any]]:
        """The person's activities that are not cancelled."""
        found: list[dict[str, Any]] = []
        while True:
            query = {"status": "scheduled,overdue,completed", "page_size": 100, "page": len(found) // 100 + 1}
            page = self.caller.ok("GET", "/admin/me/activities", **query)
            found += page["data"]
            if len(found) >= page["total"]:
                return found

    def _compare(self) -> None:
        there = [seen for seen in self.theirs.seen().values() if not _is(PRIVATE, seen)]
        here = [
            Seen(
                each["title"],
                each["description"] or "",
                datetime.fromisoformat(each["due_date"]),
                24 * 60 if each["all_day"] else each["duration"] or 0,
                each["all_day"],
                each["status"] == "completed",
            )
            for each in self.here()
        ]
        only_here, only_there = Counter(here) - Counter(there), Counter(there) - Counter(here)
        # What was done before it ever was there, or is deleted there after it was done, stays done.
        only_here = Counter(
            each
            for each in only_here.elements()
            if not (each.completed and each.number in self.ended | self.finished_here)
        )
        assert not only_here, f"only here: {[*only_here]}; only there: {[*only_there]}"
        assert not only_there, f"only there: {[*only_there]}"
        numbers = Counter(each.number for each in here)
        assert [number for number, times in numbers.items() if times > 1] == [], "there twice"
        assert self.made - self.ended - set(numbers) == set(), "lost"
        assert self.cancelled_here & set(numbers) == set(), "come back"
        private = sum(_is(PRIVATE, seen) for seen in self.theirs.seen().values())
        assert self._sql("SELECT count(*) FROM calendar_entries WHERE connection_id = %s AND activity_id IS NULL") == [
            (private,)
        ]

    def _sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.settings.database_dsn) as connection:
            connection.execute("SET LOCAL ROLE crm_service")
            connection.execute(
                "SELECT set_config('crm.tenant', %s, true), set_config('crm.user', %s, true)",
                [self.caller.tenant, self.caller.user_id],
            )
            cursor = connection.execute(statement, [self.connection_id])
            return list(cursor.fetchall()) if cursor.description else []


def sync_now(settings: Settings, connection_id: int) -> None:
    """Sync a connection that is due, once."""

    async def run() -> None:
        async with Database(settings) as database:
            calendars = Calendars(database, settings, Keys(settings), Addresses(settings.webhook_networks))
            syncing = CalendarSyncing(database, calendars.open, 300)
            for claimed in await queries.claim(database, 100, 30):
                if claimed.id == connection_id:
                    await syncing.sync(claimed)

    asyncio.run(run())


def _is(kind: str, seen: Seen) -> bool:
    return seen.title.startswith(kind)


def _number(title: str) -> str:
    return title[title.index("#") :]
