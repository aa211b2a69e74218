"""Requests to APIs that speak JSON, and what their failures mean for a calendar."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar

import httpx2
import msgspec

from app.calendars.entries import Credentials
from app.calendars.errors import (
    Away,
    CalendarError,
    Gone,
    Outdated,
    ReconnectNeeded,
    Refused,
    Throttled,
    TokenExpired,
)
from app.calendars.http import pause, sent

T = TypeVar("T")

CODE = re.compile(r"[A-Za-z0-9_.]{1,64}")
# What the APIs call their limits, those that are told as 403 too.
LIMITS = {"ratelimitexceeded", "userratelimitexceeded", "quotaexceeded", "dailylimitexceeded"} | {
    *("calendarusagelimitsexceeded", "activitylimitreached", "throttledrequest", "applicationthrottled"),
}
UNKNOWN_TOKEN = {"fullsyncrequired", "updatedmintoolongago", "syncstatenotfound", "syncstateinvalid", "resyncrequired"}
NOT_ALLOWED = {"insufficientpermissions", "access_token_scope_insufficient"}


def decoded(response: httpx2.Response, kind: type[T], name: str) -> T:
    """The answer's content. Raises Away."""
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Away(f"{name} gives an answer that is not understood") from None


class JsonApi:
    """An API that lets in whoever has a token."""

    def __init__(self, client: httpx2.AsyncClient, credentials: Credentials, name: str, url: str) -> None:
        self._client, self._credentials, self.name, self.url = client, credentials, name, url

    async def ask(
        self,
        method: str,
        url: str,
        kind: type[T],
        *,
        params: Mapping[str, str | list[str]] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> T:
        """What the API answers, below its address or at another one that gets the token too. A token that is refused is
        renewed once. Raises CalendarError.
        """
        content = None if body is None else msgspec.json.encode(body)
        json = {} if body is None else {"Content-Type": "application/json"}
        refused = None
        while True:
            token = await self._credentials.access_token(refused=refused)
            response = await sent(
                self._client,
                self.name,
                method,
                url if url.startswith(("https://", "http://")) else f"{self.url}/{url}",
                params=params,
                content=content,
                headers={**(headers or {}), **json, "Accept": "application/json", "Authorization": f"Bearer {token}"},
            )
            if response.status_code != 401 or refused is not None:
                break
            refused = token
        if not response.is_success:
            raise self._failure(response)
        return decoded(response, kind, self.name) if response.content else msgspec.convert({}, kind)

    def _failure(self, response: httpx2.Response) -> CalendarError:
        status = response.status_code
        said = _codes(response)
        codes = {code.lower().removeprefix("error") for code in said}
        about = f"{self.name} answers {status}" + "".join(f", {code}" for code in said[:1])
        kind: type[CalendarError]
        match status:
            case 401:
                kind, about = ReconnectNeeded, f"{self.name} no longer lets this service in: connect the calendar again"
            case 403 if codes & NOT_ALLOWED:
                kind, about = ReconnectNeeded, f"{self.name} is not allowed to show and change the calendar"
            case 429 | 509:
                return Throttled(f"{self.name} asks for a pause", pause(response))
            case 403 if codes & LIMITS:
                return Throttled(f"{self.name} asks for a pause", pause(response))
            case 400 | 410 if codes & UNKNOWN_TOKEN:
                kind = TokenExpired
            case 404 | 410:
                kind = Gone
            case 409 | 412:
                kind = Outdated
            case 503 if (seconds := pause(response)) is not None:
                return Throttled(f"{self.name} is not available at the moment", seconds)
            case _:
                kind = Away if status >= 500 or status in {408, 423} else Refused
        return kind(about)


def _codes(response: httpx2.Response) -> list[str]:
    """What an error is called, from the outside to the inside. The texts beside it are for developers."""
    found: list[str] = []
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        waiting = [msgspec.json.decode(response.content)]
        while waiting:
            node = waiting.pop(0)
            if isinstance(node, list):
                waiting += node[:10]
            elif isinstance(node, dict):
                found += [code for name in ("reason", "code") if isinstance(code := node.get(name), str)]
                waiting += [node[name] for name in ("error", "errors", "innerError", "innererror") if name in node]
    return [code for code in found if CODE.fullmatch(code)][:20]
