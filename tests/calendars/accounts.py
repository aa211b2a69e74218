"""Accounts at Google and Microsoft, as the local servers have them, and what a person does with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from app.calendars import adapters
from app.calendars.consent import Grant, Service, login_page, new_verifier, service_at
from app.calendars.entries import Adapter, Draft, Times, Window
from app.settings import Settings, load_settings
from tests.peers.consent import CLIENT_ID, CLIENT_SECRET, Guarded
from tests.peers.google_calendar import Google
from tests.peers.graph import Graph

T = TypeVar("T")

REDIRECT_URI = "https://crm.example.com/public/connections/callback"
KEY = "7c9e6679-7425-40de-944b-e07fc1f90ae7-1"
# From the first of May on. Series, until the first of September.
WINDOW = Window(datetime(2026, 5, 1, tzinfo=UTC), datetime(2027, 7, 1, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC))


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def settings_for(peer: Guarded) -> Settings:
    """Those of an operator whose providers are this server."""
    if isinstance(peer, Google):
        more = {"GOOGLE_CLIENT_ID": CLIENT_ID, "GOOGLE_CLIENT_SECRET": CLIENT_SECRET, "GOOGLE_BASE_URL": peer.url}
    else:
        more = {
            "MICROSOFT_CLIENT_ID": CLIENT_ID,
            "MICROSOFT_CLIENT_SECRET": CLIENT_SECRET,
            "MICROSOFT_LOGIN_URL": peer.url,
            "MICROSOFT_GRAPH_URL": peer.url,
        }
    return load_settings({"JWT_SECRET": "x" * 32, **more})


class Account:
    """Somebody's new account, to which this service has a consent."""

    def __init__(self, peer: Google | Graph) -> None:
        peer.clear()
        peer.redirect_uris.add(REDIRECT_URI)
        self.peer = peer
        self.provider = "google" if isinstance(peer, Google) else "microsoft"
        found = service_at(self.provider, settings_for(peer))
        assert found is not None
        self.service: Service = found
        self.grant: Grant = asyncio.run(self.consent())
        self.kept: list[Grant] = []

    async def consent(self, **other: str) -> Grant:
        """The way that a person goes, from the login page to tokens. `other` is given in place of what is right."""
        verifier = new_verifier()
        page = login_page(self.service, REDIRECT_URI, "a-state", verifier)
        back = await asyncio.to_thread(self.peer.consented, page)
        assert back["state"] == "a-state"
        right = {"code": back["code"], "verifier": verifier, "redirect_uri": REDIRECT_URI}
        return await adapters.exchange(self.service, **right | other)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Adapter]:
        """The adapter, with the newest tokens."""

        async def keep(grant: Grant) -> None:
            self.kept.append(grant)
            self.grant = grant

        async with adapters.consented(self.service, self.grant, keep) as adapter:
            yield adapter

    def run(self, act: Callable[[Adapter], Awaitable[T]]) -> T:
        """What an adapter answers."""

        async def opened() -> T:
            async with self.opened() as adapter:
                return await act(adapter)

        return asyncio.run(opened())


def draft(**more: Any) -> Draft:
    given: dict[str, Any] = {
        "key": KEY,
        "uid": "0d1c2f3e-1111-5222-8333-444455556666",
        "title": "Call Marie",
        "description": "About the shielding.\nBring the plan.",
        "times": Times(utc(2026, 6, 1, 8), utc(2026, 6, 1, 8, 30), all_day=False),
        "zone": "Europe/Berlin",
        "busy": True,
        "completed": False,
        "remind_at": None,
    }
    return Draft(**given | more)
