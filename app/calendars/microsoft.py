"""Microsoft 365 and Outlook.com, by Microsoft Graph (version 1.0): the person's default calendar."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar
from urllib.parse import quote
from zoneinfo import ZoneInfo

from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON
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
from app.timezones import TIMEZONES
from app.web.email import fold_email
from app.web.http_client import http_client

T = TypeVar("T")

PAGE, MOST_PAGES = 100, 500
# Ids stay when an event is moved; times are told in UTC, and texts without HTML where the API can do it.
PREFER = ", ".join(
    ('IdType="ImmutableId"', 'outlook.timezone="UTC"', 'outlook.body-content-type="text"', f"odata.maxpagesize={PAGE}")
)
# Outlook's categories are the person's own: who is invited does not see them.
COMPLETED = "✓"
FREE = {"free", "workingElsewhere", "unknown"}
HALF_A_DAY = timedelta(hours=12)
# To write one of these, one must know what is there.
TEXTS = {Field.TITLE, Field.COMPLETED, Field.DESCRIPTION}


class _Time(Struct, rename="camel"):
    date_time: str
    time_zone: str = "UTC"


class _Body(Struct, rename="camel"):
    content_type: str = "text"
    content: str = ""


class _Address(Struct):
    address: str | None = None


class _Person(Struct, rename="camel"):
    email_address: _Address = field(default_factory=_Address)
    type: str = "required"


class _Response(Struct):
    response: str = "none"


class _Event(Struct, rename="camel"):
    id: str
    etag: str | None = field(default=None, name="@odata.etag")
    removed: Any = field(default=None, name="@removed")
    uid: str | None = field(default=None, name="iCalUId")
    type: str | None = "singleInstance"
    subject: str | None = None
    body: _Body | None = None
    start: _Time | None = None
    end: _Time | None = None
    is_all_day: bool | None = False
    is_cancelled: bool | None = False
    is_organizer: bool | None = True
    is_online_meeting: bool | None = False
    show_as: str | None = "busy"
    series_master_id: str | None = None
    transaction_id: str | None = None
    response_status: _Response | None = None
    original_start_time_zone: str | None = None
    categories: list[str] | None = None
    attendees: list[_Person] | None = None
    organizer: _Person | None = None


class _Page(Struct):
    value: list[_Event] = field(default_factory=list)
    next: str | None = field(default=None, name="@odata.nextLink")
    delta: str | None = field(default=None, name="@odata.deltaLink")


class _Calendar(Struct, rename="camel"):
    id: str
    name: str | None = None
    can_edit: bool = True
    owner: _Address | None = None


class _Nothing(Struct):
    pass


@asynccontextmanager
async def opened(service: Service, grant: Grant, keep: Callable[[Grant], Awaitable[None]]) -> AsyncIterator[Adapter]:
    """The default calendar of whoever gave this consent: the API tells the changes of no other."""
    async with http_client(None) as client:
        credentials = Consent(client, service, grant, keep)
        yield MicrosoftCalendar(JsonApi(client, credentials, service.name, service.api_url))


class MicrosoftCalendar:
    """A calendar at Microsoft, of somebody who has consented."""

    def __init__(self, api: JsonApi) -> None:
        self._api = api
        self._own: str | None = None

    async def check(self) -> Account:
        """Find the calendar, and make sure that it can be read and written."""
        calendar = await self._calendar()
        if not calendar.can_edit:
            raise Refused(f"{self._api.name}: this calendar can only be read")
        owner = (calendar.owner and calendar.owner.address) or ""
        return Account(owner, calendar.id, read_title(calendar.name or "")[0])

    async def changes(self, token: str | None, window: Window) -> Changes:
        """What changed since a token, or without one everything in the window.

        Of a series that changed, the API tells no occurrence that is gone: so all of those that are left are read.
        """
        entries: dict[str, Entry] = {}
        missing: set[str] = set()
        series: set[str] = set()
        page: _Page | None = None
        async for page in self._pages(token, window):
            for event in page.value:
                if event.removed is not None:
                    missing.add(event.id)
                    entries.pop(event.id, None)
                elif event.type == "singleInstance":
                    missing.discard(event.id)
                    entries[event.id] = await self._entry(event)
                else:
                    series.add(event.series_master_id or event.id)
            if len(entries) + len(missing) > MOST_ENTRIES:
                raise Refused(f"The calendar has more than {MOST_ENTRIES} entries in the time that is looked at")
        assert page is not None, "a list has a page"  # noqa: S101
        removed: set[str] = set()
        whole: set[str] = set()
        for master in sorted(series - missing):
            try:
                occurrences = await self._occurrences(master, window)
            except Gone:
                removed.add(master)
                continue
            whole.add(master)
            entries |= {entry.remote_id: entry for entry in occurrences}
            if len(entries) > MOST_ENTRIES:
                raise Refused(f"The calendar has more than {MOST_ENTRIES} entries in the time that is looked at")
        if token is not None:
            # What is outside of the token's window is told as if it were deleted.
            for remote_id in missing:
                if (entry := await self.get(remote_id)) is None:
                    removed.add(remote_id)
                else:
                    entries[remote_id] = entry
        return Changes(
            entries=tuple(entry for entry in entries.values() if token or window.has(entry.times, entry.series)),
            removed=frozenset(removed),
            whole=frozenset(whole),
            token=page.delta and page.delta.removeprefix(f"{self._api.url}/"),
            complete=token is None,
        )

    async def get(self, remote_id: str) -> Entry | None:
        """The entry as it is now, or None where there is none."""
        try:
            event = await self._event(remote_id)
        except Gone:
            return None
        # A series is no entry.
        return None if event.type == "seriesMaster" else await self._entry(event)

    async def create(self, draft: Draft) -> Entry:
        """Write a new entry. Where one was made with this key, the API makes no other and shows that one."""
        body = {
            "subject": marked(draft.title, completed=draft.completed),
            "body": _body(draft),
            **_times(draft),
            "showAs": _shown_as(draft),
            "transactionId": draft.key,
            **(_reminder(draft) if draft.remind_at is not None else {}),
        }
        entry = await self._entry(await self._ask("POST", "me/events", _Event, body=body))
        made = (entry.title, entry.times, entry.busy, entry.completed, _words(entry.description))
        asked = (read_title(draft.title)[0], _whole_seconds(draft.times), draft.busy, draft.completed)
        if made != (*asked, _words(draft.description)):
            raise Outdated("There is an entry with this key already")
        return entry

    async def update(self, remote_id: str, etag: str | None, draft: Draft, fields: Collection[Field]) -> Entry:
        """Write these fields, and leave alone whatever else the entry has."""
        body: dict[str, Any] = {}
        if TEXTS & set(fields):
            now = await self._event(remote_id)
            if etag is not None and now.etag != etag:
                raise Outdated("The entry was changed")
            body |= await self._title(draft, fields, now)
            # How to join an online meeting stands in its description, and there alone.
            if Field.DESCRIPTION in fields and not now.is_online_meeting:
                body["body"] = _body(draft)
            if not body and TEXTS.issuperset(fields):
                return await self._entry(now)
        if Field.TIMES in fields:
            body |= _times(draft)
        if Field.BUSY in fields:
            body["showAs"] = _shown_as(draft)
        if Field.REMIND_AT in fields:
            body |= _reminder(draft)
        return await self._entry(await self._ask("PATCH", _url(remote_id), _Event, etag=etag, body=body))

    async def delete(self, remote_id: str, etag: str | None) -> None:
        """Delete the entry. Who is invited hears of it."""
        with suppress(Gone):
            await self._ask("DELETE", _url(remote_id), _Nothing, etag=etag)

    async def _ask(self, method: str, url: str, kind: type[T], *, etag: str | None = None, **more: Any) -> T:
        headers = {"Prefer": PREFER} | ({} if etag is None else {"If-Match": etag})
        return await self._api.ask(method, url, kind, headers=headers, **more)

    async def _pages(self, token: str | None, window: Window) -> AsyncIterator[_Page]:
        asked: dict[str, str] | None = None
        url = token or "me/calendarView/delta"
        if token is None:
            asked = {"startDateTime": _written(window.since), "endDateTime": _written(window.until)}
        try:
            async for page in self._all(url, asked):
                yield page
        except Gone:
            if token is None:
                raise Refused(f"{self._api.name} has no calendar for this account") from None
            raise TokenExpired(f"{self._api.name} no longer knows where we were") from None

    async def _all(self, url: str, asked: dict[str, str] | None) -> AsyncIterator[_Page]:
        for _ in range(MOST_PAGES):
            page = await self._ask("GET", url, _Page, params=asked)
            for link in (page.next, page.delta):
                # The token goes to nobody else.
                if link is not None and not link.startswith(f"{self._api.url}/"):
                    raise Away(f"{self._api.name} names another place than its own")
            yield page
            if page.next is None:
                return
            url, asked = page.next, None
        raise Away(f"{self._api.name} gives pages without an end")

    async def _occurrences(self, master: str, window: Window) -> list[Entry]:
        asked = {"startDateTime": _written(window.since), "endDateTime": _written(window.series_until)}
        found = [event async for page in self._all(f"{_url(master)}/instances", asked) for event in page.value]
        return [await self._entry(event) for event in found]

    async def _event(self, remote_id: str) -> _Event:
        return await self._ask("GET", _url(remote_id), _Event)

    async def _calendar(self) -> _Calendar:
        return await self._ask("GET", "me/calendar", _Calendar)

    async def _title(self, draft: Draft, fields: Collection[Field], now: _Event) -> dict[str, Any]:
        """The title, and whether it is done: by a mark in the title, or where others would see that, as a category."""
        entry = await self._entry(now)
        invited = bool(entry.attendees)
        completed = draft.completed if Field.COMPLETED in fields else entry.completed
        title = draft.title if Field.TITLE in fields else None
        body: dict[str, Any] = {}
        subject = retitled(now.subject or "", title, completed=completed, invited=invited)
        if subject != now.subject:
            body["subject"] = subject
        had = now.categories or []
        categories = [category for category in had if category != COMPLETED]
        if completed and invited:
            categories.append(COMPLETED)
        if len(categories) != len(had):
            body["categories"] = categories
        return body

    async def _entry(self, event: _Event) -> Entry:
        title, has_mark = read_title(event.subject or "")
        body = event.body or _Body()
        # The lines of HTML are not those that are read.
        text = without_html(" ".join(body.content.splitlines())) if body.content_type == "html" else body.content
        response = event.response_status.response if event.response_status else "none"
        status = EntryStatus.CONFIRMED
        if event.is_cancelled:
            status = EntryStatus.CANCELLED
        elif event.show_as == "tentative" or response == "tentativelyAccepted":
            status = EntryStatus.TENTATIVE
        return Entry(
            remote_id=event.id,
            etag=event.etag,
            uid=event.uid or "",
            title=title,
            description=read_description(text),
            times=_times_of(event),
            status=status,
            busy=event.show_as not in FREE and response != "declined",
            completed=has_mark or COMPLETED in (event.categories or []),
            attendees=await self._others(event),
            series=event.series_master_id,
            key=event.transaction_id,
        )

    async def _others(self, event: _Event) -> tuple[str, ...]:
        """Who else takes part or invites. Rooms do not count."""
        people = [person for person in event.attendees or [] if person.type != "resource"]
        if not event.is_organizer and event.organizer is not None:
            people.append(event.organizer)
        found = dict.fromkeys(
            fold_email(person.email_address.address) for person in people if person.email_address.address
        )
        if found and self._own is None:
            owner = (await self._calendar()).owner
            self._own = fold_email((owner and owner.address) or "")
        return tuple(address for address in found if address != self._own)


def _url(remote_id: str) -> str:
    return f"me/events/{quote(remote_id, safe='')}"


def _body(draft: Draft) -> dict[str, str]:
    return {"contentType": "text", "content": draft.description or ""}


def _shown_as(draft: Draft) -> str:
    return "busy" if draft.busy else "free"


def _reminder(draft: Draft) -> dict[str, Any]:
    if (minutes := draft.reminder_minutes()) is None:
        return {"isReminderOn": False}
    return {"isReminderOn": True, "reminderMinutesBeforeStart": minutes}


def _times(draft: Draft) -> dict[str, Any]:
    """By the clocks of the person's zone: whole days too, which begin at its midnight."""
    times, zone = draft.times, ZoneInfo(draft.zone)
    name = windows_name(draft.zone)
    moments = [times.starts_at, times.ends_at]
    if not times.all_day:
        local = [moment.astimezone(zone) for moment in moments]
        if name is None or any(moment.fold for moment in local) or not _shows(name, local):
            # By these clocks it can't be said: an hour that comes twice has one name.
            name, local = None, moments
        moments = local
    start, end = ({"dateTime": f"{moment:%Y-%m-%dT%H:%M:%S}", "timeZone": name or "UTC"} for moment in moments)
    return {"isAllDay": times.all_day, "start": start, "end": end}


def _shows(windows_name: str, moments: list[datetime]) -> bool:
    """Whether this zone's clocks show these moments so."""
    zone = ZoneInfo(WINDOWS_TO_OLSON[windows_name])
    return all(moment.astimezone(zone).utcoffset() == moment.utcoffset() for moment in moments)


@cache
def _windows_names() -> tuple[dict[str, str], dict[bytes, str]]:
    """What Windows calls time zones: by their names elsewhere, and by the rule of their clocks."""
    by_name = {known: name for name, known in reversed(WINDOWS_TO_OLSON.items())}
    return by_name, {_rule(known): name for known, name in by_name.items()}


def windows_name(zone: str) -> str | None:
    """What Windows calls a time zone, or one with the same rule; None where it knows none."""
    by_name, by_rule = _windows_names()
    return by_name.get(zone) or by_rule.get(_rule(zone))


def _rule(zone: str) -> bytes:
    """How clocks go there from now on: the last line of the zone's file (RFC 9636, 3.3)."""
    return files("tzdata").joinpath("zoneinfo", *zone.split("/")).read_bytes().rsplit(b"\n", 2)[-2]


def _whole_seconds(times: Times) -> Times:
    return Times(times.starts_at.replace(microsecond=0), times.ends_at.replace(microsecond=0), times.all_day)


def _written(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z"


def _words(text: str | None) -> list[str]:
    """Of a text, what its way through Exchange leaves as it is."""
    return (text or "").split()


def _times_of(event: _Event) -> Times:
    if event.start is None:
        raise Away("An entry has no time")
    try:
        starts_at, ends_at = _moment(event.start), _moment(event.end or event.start)
        if event.is_all_day:
            zone = event.original_start_time_zone or "UTC"
            return Times(_day(starts_at, zone), _day(ends_at, zone), all_day=True)
        return Times(starts_at, ends_at, all_day=False)
    except (ValueError, OverflowError):
        raise Away("An entry has times that are not understood") from None


def _moment(time: _Time) -> datetime:
    if time.time_zone != "UTC":
        raise ValueError("not the zone that was asked for")
    return datetime.fromisoformat(time.date_time[:26]).replace(tzinfo=UTC)


def _day(moment: datetime, zone: str) -> datetime:
    """The midnight of a whole day, which may be told as the moment of a midnight elsewhere."""
    if moment.time() == time():
        return moment
    known = WINDOWS_TO_OLSON.get(zone, zone)
    local = moment.astimezone(ZoneInfo(known)) if known in TIMEZONES else moment + HALF_A_DAY
    return datetime(local.year, local.month, local.day, tzinfo=UTC)
