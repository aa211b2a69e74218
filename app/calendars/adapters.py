"""Which adapter speaks with which kind of server. Each is loaded when a calendar of its kind is first opened."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

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


async def _module(name: str) -> Any:
    """The libraries take a second to load: not in the event loop."""
    return await asyncio.to_thread(importlib.import_module, f"app.calendars.{name}")
