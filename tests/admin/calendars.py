"""A connected calendar, for tests of its sync."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from app.admin.calendar_sync import queries
from app.admin.calendar_sync.sync import Open
from app.admin.calendar_sync.syncing import CalendarSyncing
from app.db.database import Database
from app.settings import Settings
from tests.callers import Caller
from tests.peers.memory_calendar import MemoryCalendar

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PATH = "/admin/me/connections"


Opener = Callable[[Database], Open]


class Connected:
    """A connection of a person's, and what can be done with it. How its calendar is opened, `opener` says."""

    def __init__(self, settings: Settings, caller: Caller, opener: Opener, connection_id: int = 0) -> None:
        self.settings = settings
        self.caller = caller
        self.opener = opener
        self.id = connection_id

    @classmethod
    def to_memory(cls, settings: Settings, caller: Caller, calendar: MemoryCalendar, name: str = "memory") -> Connected:
        """A calendar in memory."""
        connected = cls(settings, caller, lambda _: calendar.open)
        caller.ok("GET", "/admin/me/connections")
        ((connected.id,),) = connected.sql(
            "INSERT INTO calendar_connections (tenant_id, user_id, provider, account, calendar, calendar_name,"
            " secret) VALUES (%s, %s, 'caldav', 'ada@example.com', %s, 'Work', '') RETURNING id",
            *(caller.tenant, caller.user_id, name),
        )
        return connected

    def _enter(self, connection: psycopg.Connection) -> None:
        connection.execute("SET LOCAL ROLE crm_service")
        connection.execute(
            "SELECT set_config('crm.tenant', %s, true), set_config('crm.user', %s, true)",
            [self.caller.tenant, self.caller.user_id],
        )

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Execute as this person."""
        with psycopg.connect(self.settings.database_dsn) as connection:
            self._enter(connection)
            cursor = connection.execute(statement, list(parameters))
            return list(cursor.fetchall()) if cursor.description else []

    def sync(self) -> dict[str, Any]:
        """Sync it now, as a worker does; answers the connection then."""
        self.run()
        return self.shown()

    def run(self) -> None:
        """Sync it now, if it is to be synced at all."""
        self.sql(
            "UPDATE calendar_connections SET claimed_until = NULL,"
            " next_sync_at = CASE WHEN id = %s THEN now() ELSE now() + interval '1 day' END",
            self.id,
        )

        async def run() -> None:
            async with Database(self.settings) as database:
                syncing = CalendarSyncing(database, self.opener(database), 300.0)
                for claimed in await queries.claim(database, 100, 30):
                    if claimed.id == self.id:
                        await syncing.sync(claimed)

        asyncio.run(run())

    def shown(self) -> dict[str, Any]:
        """The connection as its person sees it."""
        (found,) = [each for each in self.caller.ok("GET", PATH)["data"] if each["id"] == self.id]
        return dict(found)

    def activity(self, title: str = "Call Ada", **fields: Any) -> dict[str, Any]:
        """A new activity of this person's: a meeting tomorrow at noon, unless the fields say otherwise."""
        values = {"title": title, "type": "meeting", "due_date": NOON.isoformat(), "duration": 60} | fields
        made: dict[str, Any] = self.caller.ok("POST", "/admin/activities", values)
        return made

    def activities(self) -> list[dict[str, Any]]:
        """This person's activities that are not cancelled, by id."""
        found = self.caller.ok("GET", "/admin/me/activities", status="scheduled,overdue,completed", page_size=100)[
            "data"
        ]
        return sorted(found, key=lambda each: int(each["id"]))
