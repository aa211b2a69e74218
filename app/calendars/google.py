"""Google Calendar, by its API (version 3): the person's own calendar."""

from __future__ import annotations

import hashlib
from base64 import b32hexencode
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from msgspec import Struct, field

from app.calendars.consent import Grant, Service
from app.calendars.entries import (
    MOST_ENTRIES,
    Account,
    Adapter,
    Changes,
    Draft,
    Entry,
    EntryStatus,
    Field,
    Times,
    Window,
    marked,
    read_description,
    read_title,
)
from app.calendars.errors import Away, Gone, Outdated, Refused, TokenExpired
from app.calendars.json_api import JsonApi
from app.calendars.oauth import Consent
from app.calendars.texts import retitled, without_html
from app.web.email import fold_email
from app.web.http_client import http_client

EVENTS = "calendars/primary/events"
PAGE, MOST_PAGES = 250, 500
# Birthdays and places of work are no entries.
KINDS = ["default", "focusTime", "fromGmail", "outOfOffice"]
# Our own properties, which other people's copies of the entry have not.
KEY, COMPLETED = "crmKey", "crmCompleted"
# Minutes before an entry; Google takes four weeks at most.
LONGEST_REMINDER = 40_320
# Ids of deleted entries can't be used again: so often an entry may be deleted before we know that we made it.
MOST_LIVES = 5


class _Time(Struct, rename="camel"):
    date: str | None = None
    date_time: str | None = None


class _Person(Struct, rename="camel"):
    email: str = ""
    own: bool = field(default=False, name="self")
    resource: bool = False
    response_status: str = ""


class _Properties(Struct):
    private: dict[str, str] = field(default_factory=dict)


class _Event(Struct, rename="camel"):
    id: str
    status: str = "confirmed"
    etag: str | None = None
    uid: str = field(default="", name="iCalUID")
    summary: str = ""
    description: str = ""
    start: _Time | None = None
    end: _Time | None = None
    recurring_event_id: str | None = None
    transparency: str = "opaque"
    attendees: list[_Person] = field(default_factory=list)
    organizer: _Person | None = None
    extended_properties: _Properties = field(default_factory=_Properties)


class _Page(Struct, rename="camel"):
    summary: str = ""
    access_role: str = ""
    items: list[_Event] = field(default_factory=list)
    next_page_token: str | None = None
    next_sync_token: str | None = None


class _User(Struct):
    email: str = ""


class _Nothing(Struct):
    pass


@asynccontextmanager
async def opened(service: Service, grant: Grant, keep: Callable[[Grant], Awaitable[None]]) -> AsyncIterator[Adapter]:
    """The calendar of whoever gave this consent."""
    async with http_client(None) as client:
        credentials = Consent(client, service, grant, keep)
        yield GoogleCalendar(JsonApi(client, credentials, service.name, service.api_url), service)


class GoogleCalendar:
    """A calendar at Google, of somebody who has consented."""

    def __init__(self, api: JsonApi, service: Service) -> None:
        self._api, self._service = api, service

    async def check(self) -> Account:
        """Find the calendar, and make sure that it can be read and written."""
        page = await self._api.ask("GET", EVENTS, _Page, params={"singleEvents": "true", "maxResults": "1"})
        if page.access_role not in {"owner", "writer"}:
            raise Refused(f"{self._api.name}: this calendar can only be read")
        assert self._service.user_url, "Google has one"  # noqa: S101
        user = await self._api.ask("GET", self._service.user_url, _User)
        # The calendar's own id is the address: `primary` is another one with each token.
        return Account(user.email, user.email, read_title(page.summary)[0])

    async def changes(self, token: str | None, window: Window) -> Changes:
        """What changed since a token, or without one everything in the window."""
        asked: dict[str, str | list[str]] = {"singleEvents": "true", "maxResults": str(PAGE), "eventTypes": KINDS}
        if token is None:
            asked |= {"timeMin": _written(window.since), "timeMax": _written(window.until)}
        else:
            asked["syncToken"] = token
        entries: dict[str, Entry] = {}
        removed: set[str] = set()
        for _ in range(MOST_PAGES):
            try:
                page = await self._api.ask("GET", EVENTS, _Page, params=asked)
            except Gone:
                if token is None:
                    raise Refused(f"{self._api.name} has no such calendar") from None
                raise TokenExpired(f"{self._api.name} no longer knows where we were") from None
            for event in page.items:
                if (entry := _entry(event)) is None:
                    removed.add(event.id)
                    entries.pop(event.id, None)
                elif token is not None or window.has(entry.times, entry.series):
                    entries[event.id] = entry
                    removed.discard(event.id)
            if len(entries) + len(removed) > MOST_ENTRIES:
                raise Refused(f"The calendar has more than {MOST_ENTRIES} entries in the time that is looked at")
            if page.next_page_token is None:
                return Changes(
                    entries=tuple(entries.values()),
                    removed=frozenset(removed),
                    token=page.next_sync_token,
                    complete=token is None,
                )
            asked["pageToken"] = page.next_page_token
        raise Away(f"{self._api.name} gives pages without an end")

    async def get(self, remote_id: str) -> Entry | None:
        """The entry as it is now, or None where there is none."""
        try:
            return _entry(await self._event(remote_id))
        except Gone:
            return None

    async def create(self, draft: Draft) -> Entry:
        """Write a new entry. Its id follows from the key, so that it can't be there twice."""
        body = {
            "summary": marked(draft.title, completed=draft.completed),
            "description": draft.description or "",
            **_times(draft),
            "transparency": _transparency(draft),
            "extendedProperties": {"private": {KEY: draft.key}},
            **(_reminders(draft) if draft.remind_at is not None else {}),
        }
        for life in range(MOST_LIVES):
            event_id = _id_of(draft.key, life)
            try:
                return _known(await self._api.ask("POST", EVENTS, _Event, body={"id": event_id, **body}))
            except Outdated:
                there = await self._api.ask("GET", _url(event_id), _Event)
                if there.status != "cancelled":
                    raise Outdated("There is an entry with this key already") from None
        raise Refused(f"{self._api.name} keeps too many deleted entries with this key")

    async def update(self, remote_id: str, etag: str | None, draft: Draft, fields: Collection[Field]) -> Entry:
        """Write these fields, and leave alone whatever else the entry has."""
        body: dict[str, Any] = {}
        if {Field.TITLE, Field.COMPLETED} & set(fields):
            now = await self._event(remote_id)
            if etag is not None and now.etag != etag:
                raise Outdated("The entry was changed")
            body |= _title(draft, fields, now)
            if not body and set(fields) <= {Field.TITLE, Field.COMPLETED}:
                return _known(now)
        if Field.DESCRIPTION in fields:
            body["description"] = draft.description or ""
        if Field.TIMES in fields:
            body |= _times(draft)
        if Field.BUSY in fields:
            body["transparency"] = _transparency(draft)
        if Field.REMIND_AT in fields:
            body |= _reminders(draft)
        # Who is invited hears of another time, and of nothing else.
        told = {"sendUpdates": "all" if Field.TIMES in fields else "none"}
        return _known(await self._api.ask("PATCH", _url(remote_id), _Event, params=told, headers=_if(etag), body=body))

    async def delete(self, remote_id: str, etag: str | None) -> None:
        """Delete the entry. Who is invited hears of it."""
        try:
            await self._api.ask("DELETE", _url(remote_id), _Nothing, params={"sendUpdates": "all"}, headers=_if(etag))
        except Gone:
            return
        except Outdated:
            # What is deleted has another etag, too.
            if await self.get(remote_id) is not None:
                raise

    async def _event(self, remote_id: str) -> _Event:
        event = await self._api.ask("GET", _url(remote_id), _Event)
        if event.status == "cancelled":
            raise Gone("The entry was deleted")
        return event


def _url(remote_id: str) -> str:
    return f"{EVENTS}/{quote(remote_id, safe='')}"


def _id_of(key: str, life: int) -> str:
    return b32hexencode(hashlib.sha256(f"{key}\0{life}".encode()).digest()).decode().rstrip("=").lower()


def _if(etag: str | None) -> dict[str, str]:
    return {} if etag is None else {"If-Match": etag}


def _title(draft: Draft, fields: Collection[Field], now: _Event) -> dict[str, Any]:
    """The title, and whether it is done: by a mark in it, or where others would see that, in a property of our own."""
    invited = bool(_others(now))
    completed = draft.completed if Field.COMPLETED in fields else _known(now).completed
    title = draft.title if Field.TITLE in fields else None
    body: dict[str, Any] = {}
    summary = retitled(now.summary, title, completed=completed, invited=invited)
    if summary != now.summary:
        body["summary"] = summary
    noted = "true" if completed and invited else None
    if noted != now.extended_properties.private.get(COMPLETED):
        body["extendedProperties"] = {"private": {COMPLETED: noted}}
    return body


def _times(draft: Draft) -> dict[str, Any]:
    """Both kinds of times are named: what is not named stays."""
    times = draft.times
    if times.all_day:
        return {
            name: {"date": moment.date().isoformat(), "dateTime": None, "timeZone": None}
            for name, moment in (("start", times.starts_at), ("end", times.ends_at))
        }
    zone = ZoneInfo(draft.zone)
    return {
        name: {"date": None, "dateTime": moment.astimezone(zone).isoformat(timespec="seconds"), "timeZone": draft.zone}
        for name, moment in (("start", times.starts_at), ("end", times.ends_at))
    }


def _transparency(draft: Draft) -> str:
    return "opaque" if draft.busy else "transparent"


def _reminders(draft: Draft) -> dict[str, Any]:
    if (minutes := draft.reminder_minutes()) is None:
        return {"reminders": {"useDefault": True, "overrides": []}}
    reminder = {"method": "popup", "minutes": min(minutes, LONGEST_REMINDER)}
    return {"reminders": {"useDefault": False, "overrides": [reminder]}}


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _known(event: _Event) -> Entry:
    if (entry := _entry(event)) is None:
        raise Gone("The entry was deleted")
    return entry


def _entry(event: _Event) -> Entry | None:
    """The entry, or None where it was deleted."""
    if event.status == "cancelled":
        return None
    title, has_mark = read_title(event.summary)
    declined = any(person.own and person.response_status == "declined" for person in event.attendees)
    return Entry(
        remote_id=event.id,
        etag=event.etag,
        uid=event.uid,
        title=title,
        description=read_description(without_html(event.description)),
        times=_times_of(event),
        status=EntryStatus.TENTATIVE if event.status == "tentative" else EntryStatus.CONFIRMED,
        busy=event.transparency != "transparent" and not declined,
        completed=has_mark or COMPLETED in event.extended_properties.private,
        attendees=_others(event),
        series=event.recurring_event_id,
        key=event.extended_properties.private.get(KEY),
    )


def _others(event: _Event) -> tuple[str, ...]:
    """Who else takes part or invites. Rooms do not count."""
    people = [*event.attendees, *([event.organizer] if event.organizer else [])]
    return tuple(
        dict.fromkeys(
            fold_email(person.email) for person in people if person.email and not (person.own or person.resource)
        )
    )


def _times_of(event: _Event) -> Times:
    try:
        start, end = event.start or _Time(), event.end or _Time()
        if start.date is not None:
            return Times(_midnight(start.date), _midnight(end.date or start.date), all_day=True)
        return Times(_moment(start.date_time or ""), _moment(end.date_time or start.date_time or ""), all_day=False)
    except (ValueError, OverflowError):
        raise Away("An entry has times that are not understood") from None


def _midnight(day: str) -> datetime:
    parsed = date.fromisoformat(day)
    return datetime(parsed.year, parsed.month, parsed.day, tzinfo=UTC)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("without an offset")
    return moment.astimezone(UTC)
