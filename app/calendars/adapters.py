"""Which adapter speaks with which kind of server. Each is loaded when a calendar of its kind is first opened."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from app.calendars.consent import Grant, Service
from app.calendars.entries import Adapter, Password
from app.web.addresses import Addresses


class CalendarProvider(StrEnum):
    """Who runs a calendar, or what it speaks."""

    CALDAV = "caldav"
    GOOGLE = "google"
    MICROSOFT = "microsoft"


@asynccontextmanager
async def caldav(url: str, password: Password, addresses: Addresses, zone: ZoneInfo) -> AsyncIterator[Adapter]:
    """A calendar of a CalDAV server, by its address. To find one (`check`), the account's address will do. `zone` says
    what clocks times go by that have no time zone.
    """
    async with (await _module("caldav")).opened(url, password, addresses, zone) as adapter:
        yield adapter


@asynccontextmanager
async def consented(service: Service, grant: Grant, keep: Callable[[Grant], Awaitable[None]]) -> AsyncIterator[Adapter]:
    """The calendar at Google or Microsoft of whoever gave this consent. `keep` stores new tokens, which may be the only
    ones that are still good.
    """
    async with (await _module(service.provider)).opened(service, grant, keep) as adapter:
        yield adapter


async def exchange(service: Service, code: str, verifier: str, redirect_uri: str) -> Grant:
    """The tokens for a code that the login page has sent a person back with. Raises CalendarError."""
    grant: Grant = await (await _module("oauth")).exchange(service, code, verifier, redirect_uri)
    return grant


async def revoke(service: Service, grant: Grant) -> None:
    """Give the consent back, where the server has a way. Raises Away."""
    await (await _module("oauth")).revoke(service, grant)


async def _module(name: str) -> Any:
    """The libraries take a second to load: not in the event loop."""
    return await asyncio.to_thread(importlib.import_module, f"app.calendars.{name}")
