"""A person's phone: another program that reads and writes the calendar of a CalDAV server, by no code of ours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import httpx
from icalendar import Calendar, Event

from app.calendars.adapters import caldav
from app.calendars.entries import Adapter, Password
from app.web.addresses import Addresses

T = TypeVar("T")
LOCAL = ["127.0.0.0/8"]
LIST = '<propfind xmlns="DAV:"><prop><getetag/></prop></propfind>'
HREF = re.compile(r"<href>([^<]*\.ics)</href>")


class Phone:
    """What a person sees and does there. Events are whole iCalendar texts, or their lines without what is around."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self.url, self.username, self.password = url, username, password
        self._client = httpx.Client(base_url=url, auth=(username, password), timeout=60)

    def put(self, name: str, event: str) -> None:
        """Write an event, whatever was there."""
        text = event if event.startswith("BEGIN:VCALENDAR") else of(event)
        self._client.put(name, content=text.replace("\n", "\r\n").encode()).raise_for_status()

    def change(self, name: str, old: str, new: str) -> None:
        """Replace a part of an event's text."""
        text = self.text(name)
        assert re.search(old, text), text
        self.put(name, re.sub(old, lambda _: new, text, count=1))

    def delete(self, name: str) -> None:
        """Delete an event."""
        self._client.delete(name).raise_for_status()

    def text(self, name: str) -> str:
        """An event's text, without the folding of its lines."""
        text = self._client.get(name).raise_for_status().text
        return text.replace("\r\n", "\n").replace("\n ", "")

    def names(self) -> list[str]:
        """What there is."""
        listed = self._client.request("PROPFIND", "", headers={"Depth": "1"}, content=LIST).raise_for_status()
        return [unquote(href.rpartition("/")[2]) for href in HREF.findall(listed.text)]

    def event(self, name: str) -> Event:
        """An event, taken apart."""
        (event,) = Calendar.from_ical(self.text(name)).walk("VEVENT")
        assert isinstance(event, Event)
        return event

    def events(self) -> dict[str, Event]:
        """All there is, by its titles."""
        found = [self.event(name) for name in self.names()]
        return {str(event["SUMMARY"]): event for event in found}

    def close(self) -> None:
        """Hang up."""
        self._client.close()


def of(event: str) -> str:
    """The text of a calendar with an event in it, from the event's lines."""
    lines = event.strip("\n")
    if not lines.startswith("BEGIN:"):
        lines = f"BEGIN:VEVENT\nDTSTAMP:20260101T000000Z\n{lines}\nEND:VEVENT"
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//A phone//EN\n{lines}\nEND:VCALENDAR\n"


def served(
    url: str,
    work: Callable[[Adapter], Awaitable[T]],
    *,
    login: tuple[str, str] = ("ada@example.com", "secret"),
    zone: str = "Europe/Berlin",
) -> T:
    """What comes of some work with our adapter."""

    async def run() -> T:
        async with caldav(url, Password(*login), Addresses(LOCAL), ZoneInfo(zone)) as adapter:
            return await work(adapter)

    return asyncio.run(run())
