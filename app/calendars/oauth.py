"""Tokens of OAuth 2.0: exchanged for a code, refreshed, revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import httpx2
from msgspec import Struct

from app.calendars.consent import Grant, Service
from app.calendars.errors import Away, CalendarError, ReconnectNeeded, Refused, Throttled
from app.calendars.http import pause, sent
from app.calendars.json_api import decoded
from app.web.http_client import http_client

# An access token is not used in its last minute: it could expire on its way.
MARGIN = timedelta(minutes=1)
LONGEST_TOKEN = 16_384
# What a server may call a consent that is no longer good, whatever it was withdrawn for.
WITHDRAWN = {"invalid_grant", "interaction_required", "login_required", "consent_required"}


class _Tokens(Struct):
    access_token: str
    expires_in: int = 3600
    refresh_token: str | None = None
    scope: str | None = None


class _Refusal(Struct):
    error: str = ""


async def exchange(service: Service, code: str, verifier: str, redirect_uri: str) -> Grant:
    """The tokens for a code that the login page has sent a person back with. Raises CalendarError."""
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "code_verifier": verifier}
    async with http_client(None) as client:
        tokens = await _ask(client, service, form)
    if tokens.scope is not None and not any(given.endswith(service.required) for given in tokens.scope.split()):
        raise Refused(f"{service.name} was not allowed to show and change the calendar: connect it again, and allow it")
    if not tokens.refresh_token:
        raise Refused(f"{service.name} gave no lasting consent: connect the calendar again")
    return _grant(tokens, tokens.refresh_token)


async def refresh(client: httpx2.AsyncClient, service: Service, grant: Grant) -> Grant:
    """New tokens. Raises ReconnectNeeded where the consent was withdrawn or has run out."""
    tokens = await _ask(client, service, {"grant_type": "refresh_token", "refresh_token": grant.refresh_token})
    # Microsoft's server gives another one each time, Google's keeps it.
    return _grant(tokens, tokens.refresh_token or grant.refresh_token)


async def revoke(service: Service, grant: Grant) -> None:
    """Give the consent back, where the server has a way. A consent that is gone already is fine. Raises Away."""
    if service.revoke_url is None:
        return
    async with http_client(None) as client:
        response = await sent(client, service.name, "POST", service.revoke_url, data={"token": grant.refresh_token})
    if response.status_code >= 500 or response.status_code == 429:
        raise Away(f"{service.name} did not take the consent back ({response.status_code})")


class Consent:
    """Credentials by a consent. New tokens are kept before they are used."""

    def __init__(
        self, client: httpx2.AsyncClient, service: Service, grant: Grant, keep: Callable[[Grant], Awaitable[None]]
    ) -> None:
        self._client, self._service, self._grant, self._keep = client, service, grant, keep
        self._one_at_a_time = asyncio.Lock()

    async def access_token(self, *, refused: str | None = None) -> str:
        """A token that should be accepted: another one than `refused`. Raises ReconnectNeeded."""
        async with self._one_at_a_time:
            grant = self._grant
            if grant.access_token == refused or datetime.now(UTC) >= grant.expires_at - MARGIN:
                self._grant = await refresh(self._client, self._service, grant)
                await self._keep(self._grant)
            return self._grant.access_token


def _grant(tokens: _Tokens, refresh_token: str) -> Grant:
    if max(len(tokens.access_token), len(refresh_token)) > LONGEST_TOKEN:
        raise Refused("The tokens are longer than this service keeps")
    lifetime = timedelta(seconds=min(max(tokens.expires_in, 0), 86_400))
    return Grant(refresh_token, tokens.access_token, datetime.now(UTC) + lifetime)


async def _ask(client: httpx2.AsyncClient, service: Service, form: dict[str, str]) -> _Tokens:
    client_itself = {"client_id": service.client_id, "client_secret": service.client_secret}
    response = await sent(client, service.name, "POST", service.token_url, data=form | client_itself)
    if response.status_code == 200:
        return decoded(response, _Tokens, service.name)
    raise _failure(response, service.name)


def _failure(response: httpx2.Response, name: str) -> CalendarError:
    status = response.status_code
    if status == 429:
        return Throttled(f"{name} asks for a pause", pause(response))
    if status >= 500:
        return Away(f"{name} could not be asked for access ({status})")
    try:
        error = decoded(response, _Refusal, name).error
    except Away:
        error = ""
    if error in WITHDRAWN:
        return ReconnectNeeded(f"{name} no longer accepts the consent: connect the calendar again")
    if error in {"temporarily_unavailable", "server_error"}:
        return Away(f"{name} could not be asked for access")
    # Such as a client's secret that has run out: the person can't mend it, and need not consent anew when it is mended.
    return Away(f"{name} does not accept this service: its administrator has to look at the client's id and secret")
