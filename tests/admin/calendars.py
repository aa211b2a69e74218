"""A connected calendar, for tests of its sync."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from app.admin.calendar_sync import queries
from app.admin.calendar_sync.sync import Open
from app.admin.calendar_sync.syncing import CalendarSyncing
from app.db.database import Database
from app.settings import Settings
from tests.callers import Caller

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PATH = "/admin/me/connections"


class Connected:
    """A connection of a person's, and what can be done with it. What its calendar is, `open_calendar` says."""

    def __init__(self, settings: Settings, caller: Caller, open_calendar: Open, calendar: str = "memory") -> None:
        self.settings = settings
        self.caller = caller
        self.open = open_calendar
        caller.ok("GET", "/admin/me")
        with psycopg.connect(settings.database_dsn) as connection:
            self._enter(connection)
            row = connection.execute(
                "INSERT INTO calendar_connections (tenant_id, user_id, provider, account, calendar, calendar_name,"
                " secret) VALUES (%s, %s, 'caldav', 'ada@example.com', %s, 'Work', '') RETURNING id",
                [caller.tenant, caller.user_id, calendar],
            ).fetchone()
        assert row is not None
        self.id = int(row[0])

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
                syncing = CalendarSyncing(database, self.open, 300)
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
