"""WebDAV (RFC 4918): requests with XML in them, and answers about many resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape

import httpx2
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from app.calendars.entries import Password
from app.calendars.errors import Away, CalendarError, Gone, Outdated, ReconnectNeeded, Refused, Throttled
from app.calendars.http import pause, sent

SERVER = "The calendar's server"
MOST_REDIRECTS = 5
# More resources than these in one answer are not read.
MOST_RESOURCES = 50_000
# Each of these only reads, and is asked elsewhere if the server says so.
READING = {"PROPFIND", "REPORT", "GET"}
SPACES = {"D": "DAV:", "C": "urn:ietf:params:xml:ns:caldav", "S": "http://calendarserver.org/ns/"}
XMLNS = " ".join(f'xmlns:{prefix}="{space}"' for prefix, space in SPACES.items())


class Resource(NamedTuple):
    """What an answer says of a resource: its URL, the status, and those of its properties that it has."""

    url: str
    status: int
    properties: Mapping[str, Element]

    def text(self, name: str) -> str | None:
        """The text of a property, such as `D:getetag`."""
        found = self.properties.get(name)
        return None if found is None or found.text is None else found.text.strip() or None

    def hrefs(self, name: str) -> list[str]:
        """The URLs in a property."""
        return [url for each in self.references(name) if (url := join(self.url, each)) is not None]

    def references(self, name: str) -> list[str]:
        """The references in a property, as they are: an address of a person, for example."""
        found = self.properties.get(name)
        return [] if found is None else [each.text.strip() for each in found.iter(tag("D:href")) if each.text]

    def has(self, name: str, child: str) -> bool:
        """Whether a property has this element in it."""
        found = self.properties.get(name)
        return found is not None and found.find(f".//{tag(child)}") is not None


class Answer(NamedTuple):
    """What a server answers about many resources, with a token where it was asked for one."""

    url: str
    resources: list[Resource]
    token: str | None


class WebDav:
    """A server, as this person."""

    def __init__(self, client: httpx2.AsyncClient, password: Password) -> None:
        self._client = client
        self._auth = httpx2.BasicAuth(password.username, password.password)

    async def properties(self, url: str, names: Iterable[str], *, depth: int = 0) -> Answer:
        """These properties of a resource, and with a depth of 1 of those in it."""
        wanted = "".join(f"<{name}/>" for name in names)
        body = f"<D:propfind {XMLNS}><D:prop>{wanted}</D:prop></D:propfind>"
        return await self._many("PROPFIND", url, body, depth)

    async def report(self, url: str, body: str, *, depth: int = 1) -> Answer:
        """What a report says. The body is XML, with the prefixes of SPACES."""
        return await self._many("REPORT", url, body, depth)

    async def send(
        self, method: str, url: str, *, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """The answer, if it is a success. Raises CalendarError."""
        for _ in range(MOST_REDIRECTS):
            response = await self._sent(method, url, content, headers)
            if response.is_success:
                return response
            elsewhere = join(url, response.headers.get("location"))
            if not response.is_redirect or elsewhere is None or method not in READING:
                break
            url = elsewhere
        raise _failure(response)

    async def _sent(
        self, method: str, url: str, content: bytes | None, headers: Mapping[str, str] | None
    ) -> httpx2.Response:
        try:
            return await sent(
                self._client, SERVER, method, url, content=content, headers=dict(headers or {}), auth=self._auth
            )
        except (httpx2.InvalidURL, ValueError):
            raise Refused("The calendar's address is not valid") from None

    async def _many(self, method: str, url: str, body: str, depth: int) -> Answer:
        headers = {"Depth": str(depth), "Content-Type": "application/xml; charset=utf-8"}
        response = await self.send(
            method, url, content=f'<?xml version="1.0" encoding="utf-8"?>{body}'.encode(), headers=headers
        )
        url = str(response.url)
        if response.status_code != 207:
            raise Refused(f"{SERVER} does not answer as a calendar does")
        try:
            root = fromstring(response.content, forbid_dtd=True)
        except (ParseError, DefusedXmlException, ValueError, LookupError):
            raise Away(f"{SERVER} gives an answer that is not understood") from None
        given = root.findall(tag("D:response"))
        if len(given) > MOST_RESOURCES:
            raise Refused(f"The calendar has more than {MOST_RESOURCES:,} entries")
        token = root.findtext(tag("D:sync-token"))
        return Answer(url, [found for each in given for found in _resources(url, each)], token and token.strip())


def element(name: str, text: str) -> str:
    """XML of an element with this text."""
    return f"<{name}>{escape(text)}</{name}>"


def tag(name: str) -> str:
    """A name with a prefix as the parser knows it."""
    prefix, _, local = name.partition(":")
    return f"{{{SPACES[prefix]}}}{local}"


def join(base: str, href: str | None) -> str | None:
    """Where a reference leads to, None where to nothing. From HTTPS it never leads to HTTP, although some servers
    behind a proxy say so: the password would go in clear.
    """
    try:
        found = urlsplit(urljoin(base, (href or "").strip()))
        if not href or found.scheme not in {"https", "http"} or not found.hostname:
            return None
        return found._replace(scheme="https" if urlsplit(base).scheme == "https" else found.scheme).geturl()
    except ValueError:
        return None


def path_of(url: str) -> str:
    """The path of a URL, in which servers escape one thing or another."""
    return unquote(urlsplit(url).path)


def _resources(base: str, response: Element) -> Iterable[Resource]:
    known = {f"{{{space}}}": f"{prefix}:" for prefix, space in SPACES.items()}
    whole = _status(response.findtext(tag("D:status")))
    properties = {}
    for each in response.findall(tag("D:propstat")):
        if _status(each.findtext(tag("D:status"))) == 200:
            for found in each.findall(f"{tag('D:prop')}/*"):
                space, closing, local = found.tag.rpartition("}")
                properties[known.get(space + closing, "") + local] = found
    for href in response.findall(tag("D:href")):
        if (url := join(base, href.text)) is not None:
            yield Resource(url, whole or 200, properties)


def _status(line: str | None) -> int:
    """The number of a line such as `HTTP/1.1 404 Not Found`, 0 where there is none."""
    words = (line or "").split()
    return int(words[1]) if len(words) > 1 and words[1].isdecimal() and len(words[1]) == 3 else 0


def _failure(response: httpx2.Response) -> CalendarError:
    status = response.status_code
    if status in {429, 503} and (status == 429 or pause(response) is not None):
        return Throttled(f"{SERVER} asks for a pause", pause(response))
    said = f"{SERVER} answers {status}"
    match status:
        case 401:
            return ReconnectNeeded(f"{SERVER} does not accept the user name and password")
        case 404 | 410:
            return Gone(said)
        case 412:
            return Outdated(said)
        case 403 | 409 if b"no-uid-conflict" in response.content:
            return Outdated(f"{SERVER} has this entry already")
        case 408 | 423 | 425:
            return Away(said)
    return Away(said) if status >= 500 and status not in {501, 505, 507} else Refused(said)
