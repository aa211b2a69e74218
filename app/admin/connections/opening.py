"""Opening a connected calendar: what lets the service in is decrypted here, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from zoneinfo import ZoneInfo

import msgspec

from app.admin.calendar_sync.queries import Claimed, Connection
from app.admin.connections.queries import KEEP_SECRET
from app.calendars import adapters
from app.calendars.adapters import CalendarProvider
from app.calendars.consent import Grant, Service, service_at
from app.calendars.entries import Adapter, Password
from app.calendars.errors import Away
from app.crypto.keys import Keys
from app.db.database import Database, Origin
from app.settings import Settings
from app.web.addresses import Addresses

# The name of the column that holds secrets, for their encryption.
SECRET = "calendar_connections.secret"  # noqa: S105 -- a name


class Calendars:
    """Opens calendars of connections."""

    def __init__(self, database: Database, settings: Settings, keys: Keys, addresses: Addresses) -> None:
        self._database = database
        self._settings = settings
        self._keys = keys
        self._addresses = addresses

    @asynccontextmanager
    async def open(self, claimed: Claimed, connection: Connection, zone: ZoneInfo) -> AsyncIterator[Adapter]:
        """The calendar of a connection. Raises UnreadableError, and CalendarError."""
        secret = self._keys.decrypt(connection.secret, SECRET, claimed.tenant_id, connection.id)
        if connection.provider == CalendarProvider.CALDAV:
            password = msgspec.json.decode(secret, type=Password)
            async with adapters.caldav(connection.calendar, password, self._addresses, zone) as adapter:
                yield adapter
            return
        service = service_of(connection.provider, self._settings)
        keep = partial(self._keep, claimed)
        async with adapters.consented(service, msgspec.json.decode(secret, type=Grant), keep) as adapter:
            yield adapter

    async def _keep(self, claimed: Claimed, grant: Grant) -> None:
        """Store new tokens, which may be the only good ones: unless the person has consented anew meanwhile."""
        encrypted = self._keys.encrypt(written(grant), SECRET, claimed.tenant_id, claimed.id)
        kept = {"connection_id": claimed.id, "of_claims": claimed.claims, "encrypted": encrypted}
        async with self._database.writer(claimed.actor, Origin(via="calendar")) as session:
            await session.execute(KEEP_SECRET, kept)


def service_of(provider: str, settings: Settings) -> Service:
    """The service of a connection. Raises Away where the operator has taken it away: when it is there again, nobody
    has to consent anew.
    """
    service = service_at(provider, settings)
    if service is None:
        raise Away("This service is not registered there at the moment: its administrator knows why")
    return service


def written(secret: Grant | Password) -> str:
    """What is encrypted."""
    return msgspec.json.encode(secret).decode()
