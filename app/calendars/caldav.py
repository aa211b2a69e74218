"""CalDAV (RFC 4791, RFC 6578): Nextcloud, iCloud, Fastmail, Radicale, and whatever else speaks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urljoin, urlsplit
from zoneinfo import ZoneInfo

from app.calendars import vevents
from app.calendars.entries import MOST_ENTRIES, Account, Changes, Draft, Entry, Field, Password, Window
from app.calendars.errors import (
    Away,
    CalendarError,
    Gone,
    Outdated,
    ReconnectNeeded,
    Refused,
    Throttled,
    TokenExpired,
    TooLarge,
)
from app.calendars.vevents import SEPARATOR, Unreadable
from app.calendars.webdav import SERVER, XMLNS, Answer, Resource, WebDav, element, path_of, tag
from app.web.addresses import Addresses
from app.web.email import fold_email
from app.web.http_client import http_client

WELL_KNOWN = "/.well-known/caldav"
# Texts are asked for so many at a time: an answer is read whole.
AT_ONCE = 50
# Of a difference that a server gives in parts.
MOST_PARTS = 100
LONGEST_NAME = 1000
DAY = timedelta(days=1)
YEAR = timedelta(days=366)
NOWHERE = Window(datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC))
# What our tokens begin with: the rest is the server's, which says what changed since then, or only whether.
BY_SYNC, BY_CTAG = "sync:", "ctag:"
OF_CALENDAR = (
    *("D:resourcetype", "D:displayname", "D:current-user-privilege-set", "D:current-user-principal"),
    "C:supported-calendar-component-set",
)
OF_PRINCIPAL = ("C:calendar-home-set", "C:calendar-user-address-set", "C:schedule-inbox-URL")
# With one of these a person may write. A server that says nothing of rights finds out when something is written.
WRITING = ("D:write", "D:write-content", "D:all")
ICALENDAR = {"Content-Type": "text/calendar; charset=utf-8"}


@asynccontextmanager
async def opened(url: str, password: Password, addresses: Addresses, zone: ZoneInfo) -> AsyncIterator[CalDav]:
    """See app/calendars/adapters.py."""
    async with http_client(addresses, {"User-Agent": "crm-service"}) as client:
        yield CalDav(WebDav(client, password), url, password.username, zone)


class CalDav:
    """A calendar on a CalDAV server: an `Adapter`."""

    def __init__(self, server: WebDav, url: str, username: str, zone: ZoneInfo) -> None:
        self._server = server
        self._url = url
        self._username = username
        self._zone = zone
        self._mine: frozenset[str] | None = None

    async def check(self) -> Account:
        """See `Adapter`. It is the calendar at the address, or the account's default one, or its first."""
        found = await self._find()
        if not _is_writable(found):
            raise Refused("The calendar can't be written by this person")
        self._url = _folder(found.url)
        name = found.text("D:displayname") or path_of(self._url).rstrip("/").rpartition("/")[2]
        return Account(self._username, self._url, name)

    async def changes(self, token: str | None, window: Window) -> Changes:
        """See `Adapter`."""
        if token is not None and token.startswith(BY_SYNC):
            return await self._difference(token.removeprefix(BY_SYNC), window)
        # Asked for before the entries: what changes in between comes again with the next difference.
        state = await self._state()
        if token is not None and token == state:
            return Changes(entries=(), token=token, complete=False)
        return await self._everything(state, window)

    async def get(self, remote_id: str) -> Entry | None:
        """See `Adapter`."""
        name, _, occurrence = remote_id.partition(SEPARATOR)
        try:
            data, etag = await self._text(name)
        except Gone:
            return None
        around = _around(occurrence)
        try:
            found = await self._read(data, name, etag, around)
        except Unreadable:
            raise Refused("The entry is not understood") from None
        return next((entry for entry in found if entry.remote_id == remote_id), None)

    async def create(self, draft: Draft) -> Entry:
        """See `Adapter`."""
        return await self._put(f"{draft.uid}.ics", vevents.created(draft), {"If-None-Match": "*"})

    async def update(self, remote_id: str, etag: str | None, draft: Draft, fields: Collection[Field]) -> Entry:
        """See `Adapter`."""
        _require_single(remote_id)
        data, present = await self._text(remote_id)
        if etag is not None and present is not None and present != etag:
            raise Outdated("The entry was changed meanwhile")
        try:
            data = await asyncio.to_thread(vevents.updated, data, draft, fields, await self._mine_in(data))
        except Unreadable:
            raise Refused("The entry is not understood") from None
        condition = present or etag
        return await self._put(remote_id, data, {"If-Match": condition} if condition else {})

    async def delete(self, remote_id: str, etag: str | None) -> None:
        """See `Adapter`."""
        _require_single(remote_id)
        try:
            await self._server.send("DELETE", self._address(remote_id), headers={"If-Match": etag} if etag else {})
        except Gone:
            return
        except Outdated:
            # Some servers say so of what is not there.
            if await self.get(remote_id) is not None:
                raise

    async def _find(self) -> Resource:
        """The calendar."""
        failed: CalendarError = Refused("There is no calendar at this address")
        for url in (self._url, urljoin(self._url, WELL_KNOWN), urljoin(self._url, "/")):
            try:
                for resource in (await self._server.properties(url, OF_CALENDAR)).resources[:1]:
                    if resource.has("D:resourcetype", "C:calendar"):
                        return resource
                    for principal in resource.hrefs("D:current-user-principal")[:1]:
                        if (found := await self._find_of(principal)) is not None:
                            return found
            except (ReconnectNeeded, Throttled, Away):
                raise
            except CalendarError as error:
                # There may still be one where a client looks next.
                failed = error if not isinstance(error, Gone) else failed
        raise failed

    async def _find_of(self, principal: str) -> Resource | None:
        """The calendar of a person to whom a server says which is the default, or the first that will do."""
        about = (await self._server.properties(principal, OF_PRINCIPAL)).resources
        calendars: list[Resource] = []
        for home in [url for each in about for url in each.hrefs("C:calendar-home-set")][:5]:
            listed = await self._server.properties(home, OF_CALENDAR, depth=1)
            calendars += [each for each in listed.resources if _is_of_events(each) and _is_writable(each)]
        for inbox in [url for each in about for url in each.hrefs("C:schedule-inbox-URL")][:1]:
            try:
                said = (await self._server.properties(inbox, ["C:schedule-default-calendar-URL"])).resources
            except (Gone, Refused):
                break
            defaults = {path_of(_folder(url)) for each in said for url in each.hrefs("C:schedule-default-calendar-URL")}
            calendars.sort(key=lambda each: path_of(_folder(each.url)) not in defaults)
        return calendars[0] if calendars else None

    async def _state(self) -> str | None:
        """A token for what the calendar is now."""
        for resource in (await self._server.properties(self._url, ["D:sync-token", "S:getctag"])).resources[:1]:
            if token := resource.text("D:sync-token"):
                return BY_SYNC + token
            if ctag := resource.text("S:getctag"):
                return BY_CTAG + ctag
        return None

    async def _everything(self, token: str | None, window: Window) -> Changes:
        # A day more at each end: servers may take times without a time zone for other moments than this does.
        between = f'start="{_stamp(window.since - DAY)}" end="{_stamp(window.until + DAY)}"'
        listed = await self._server.report(
            self._url,
            f"<C:calendar-query {XMLNS}><D:prop><D:getetag/></D:prop>"
            f'<C:filter><C:comp-filter name="VCALENDAR"><C:comp-filter name="VEVENT"><C:time-range {between}/>'
            "</C:comp-filter></C:comp-filter></C:filter></C:calendar-query>",
        )
        names = self._names(each for each in listed.resources if each.status == 200)
        entries, _, _ = await self._entries(names, window)
        inside = tuple(entry for entry in entries if window.has(entry.times, entry.series))
        return Changes(entries=_bounded(inside), token=token, complete=True)

    async def _difference(self, since: str, window: Window) -> Changes:
        changed: dict[str, bool] = {}
        for _ in range(MOST_PARTS):
            part = await self._part(since)
            for resource in part.resources:
                for name in self._names([resource]):
                    changed[name] = resource.status != 404
            partial = any(each.status == 507 for each in part.resources)
            if part.token is None or (partial and part.token == since) or len(changed) > MOST_ENTRIES:
                break
            since = part.token
            if not partial:
                present = [name for name, is_there in changed.items() if is_there]
                entries, whole, missing = await self._entries(present, window)
                removed = {name for name, is_there in changed.items() if not is_there} | missing
                return Changes(
                    entries=_bounded(entries),
                    removed=frozenset(removed),
                    whole=frozenset(whole),
                    token=BY_SYNC + since,
                    complete=False,
                )
        raise TokenExpired("What changed is too much for a difference")

    async def _part(self, since: str) -> Answer:
        try:
            return await self._server.report(
                self._url,
                f"<D:sync-collection {XMLNS}>{element('D:sync-token', since)}<D:sync-level>1</D:sync-level>"
                "<D:prop><D:getetag/><D:resourcetype/></D:prop></D:sync-collection>",
                depth=0,
            )
        except (Refused, Gone, Outdated) as error:
            # Servers say it in different ways. If something else is wrong, reading everything will tell.
            raise TokenExpired(str(error)) from None

    async def _entries(self, names: Sequence[str], window: Window) -> tuple[tuple[Entry, ...], set[str], set[str]]:
        """The entries of these texts, the names of those that were read, and of those that are not there."""
        if len(names) > MOST_ENTRIES:
            raise _too_many()
        entries: list[Entry] = []
        read: set[str] = set()
        missing: set[str] = set()
        for begin in range(0, len(names), AT_ONCE):
            for name, resource in await self._texts(names[begin : begin + AT_ONCE]):
                data, etag = resource.text("C:calendar-data"), resource.text("D:getetag")
                if resource.status == 404:
                    missing.add(name)
                elif data is not None:
                    try:
                        entries += await self._read(data.encode(), name, etag, window)
                    except Unreadable:
                        # It is left alone: what was known of it stays.
                        continue
                    read.add(name)
        return tuple(entries), read, missing

    async def _texts(self, names: Sequence[str]) -> list[tuple[str, Resource]]:
        hrefs = "".join(element("D:href", urlsplit(self._address(name)).path) for name in names)
        try:
            answer = await self._server.report(
                self._url,
                f"<C:calendar-multiget {XMLNS}><D:prop><D:getetag/><C:calendar-data/></D:prop>{hrefs}"
                "</C:calendar-multiget>",
            )
        except TooLarge:
            if len(names) == 1:
                return []
            middle = len(names) // 2
            return await self._texts(names[:middle]) + await self._texts(names[middle:])
        return [(name, each) for each in answer.resources for name in self._names([each]) if name in names]

    async def _read(self, data: bytes, name: str, etag: str | None, window: Window) -> list[Entry]:
        mine = await self._mine_in(data)
        return await asyncio.to_thread(vevents.read, data, name, etag, window, self._zone, mine)

    async def _mine_in(self, data: bytes) -> frozenset[str]:
        """The person's own addresses, where a text has addresses at all."""
        return await self._addresses() if b"ATTENDEE" in data or b"ORGANIZER" in data else frozenset()

    async def _addresses(self) -> frozenset[str]:
        """The person's own addresses, folded."""
        if self._mine is None:
            found = {self._username}
            try:
                calendar = (await self._server.properties(self._url, ["D:current-user-principal"])).resources
                for principal in [url for each in calendar for url in each.hrefs("D:current-user-principal")][:1]:
                    about = (await self._server.properties(principal, OF_PRINCIPAL)).resources
                    found |= {url for each in about for url in each.references("C:calendar-user-address-set")}
            except (Gone, Refused):
                pass
            self._mine = frozenset(fold_email(each.removeprefix("mailto:")) for each in found if "@" in each)
        return self._mine

    async def _text(self, name: str) -> tuple[bytes, str | None]:
        response = await self._server.send("GET", self._address(name))
        return response.content, response.headers.get("etag")

    async def _put(self, name: str, data: bytes, condition: dict[str, str]) -> Entry:
        response = await self._server.send("PUT", self._address(name), content=data, headers={**ICALENDAR, **condition})
        etag = response.headers.get("etag")
        if etag is None:
            # The server has changed something in it.
            data, etag = await self._text(name)
        try:
            (entry,) = await self._read(data, name, etag, NOWHERE)
        except (Unreadable, ValueError):
            raise Refused(f"{SERVER} has made something else of the entry") from None
        return entry

    def _names(self, resources: Iterable[Resource]) -> list[str]:
        """What these are called in this calendar, without what is no entry of it."""
        home = path_of(self._url)
        found = []
        for each in resources:
            name = path_of(each.url).removeprefix(home)
            is_entry = name and "/" not in name and SEPARATOR not in name and len(name) <= LONGEST_NAME
            if is_entry and not each.has("D:resourcetype", "D:collection"):
                found.append(name)
        return found

    def _address(self, name: str) -> str:
        return self._url + quote(name, safe="@:!$&'()*+,;=")


def _is_of_events(resource: Resource) -> bool:
    """Whether it is a calendar that takes events: one that does not say takes all."""
    if not resource.has("D:resourcetype", "C:calendar"):
        return False
    said = resource.properties.get("C:supported-calendar-component-set")
    kinds = [] if said is None else [each.get("name", "") for each in said.iter(tag("C:comp"))]
    return not kinds or "VEVENT" in kinds


def _is_writable(resource: Resource) -> bool:
    if "D:current-user-privilege-set" not in resource.properties:
        return True
    return any(resource.has("D:current-user-privilege-set", name) for name in WRITING)


def _folder(url: str) -> str:
    return url if url.endswith("/") else f"{url}/"


def _stamp(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _around(occurrence: str) -> Window:
    """Where an occurrence may be that is called so: somebody may have moved it by a year."""
    try:
        day = datetime.strptime(occurrence[:8], "%Y%m%d").replace(tzinfo=UTC)
        return Window(day - YEAR, day + YEAR, day + YEAR)
    except (ValueError, OverflowError):
        return NOWHERE


def _require_single(remote_id: str) -> None:
    if SEPARATOR in remote_id:
        raise Refused("An occurrence of a series is only changed in its own calendar")


def _bounded(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    if len(entries) > MOST_ENTRIES:
        raise _too_many()
    return entries


def _too_many() -> Refused:
    return Refused(f"The calendar has more than {MOST_ENTRIES:,} entries")
