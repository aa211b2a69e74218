"""Consent by OAuth 2.0 with PKCE (RFC 6749, RFC 7636): what a person is sent to Google or Microsoft with, and what
comes back. The requests to their servers are in oauth.py.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Literal
from urllib.parse import quote, urlencode

from msgspec import Struct, field

from app.settings import Settings

VERIFIER_BYTES = 48

GOOGLE_LOGIN, GOOGLE_TOKENS = "https://accounts.google.com", "https://oauth2.googleapis.com"
GOOGLE_API, GOOGLE_USERS = "https://www.googleapis.com", "https://openidconnect.googleapis.com"
GOOGLE_EVENTS = "https://www.googleapis.com/auth/calendar.events"


class Service(Struct, frozen=True):
    """An authorization server with the API that it guards, and the client that the operator has registered there."""

    provider: Literal["google", "microsoft"]
    # As people know it.
    name: str
    client_id: str
    client_secret: str
    login_url: str
    token_url: str
    # Microsoft's server has none for a single consent.
    revoke_url: str | None
    api_url: str
    # Who has consented. Microsoft's calendars say so themselves.
    user_url: str | None
    scope: str
    # Of `scope`, what nothing works without. People may leave out parts at Google.
    required: str
    # What the login page is asked for besides.
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Service({self.provider!r})"


class Grant(Struct, frozen=True):
    """What a person has consented to: the tokens, which are secrets."""

    refresh_token: str
    access_token: str
    # By the clock of this service.
    expires_at: datetime

    def __repr__(self) -> str:
        return "Grant(…)"


def service_at(provider: str, settings: Settings) -> Service | None:
    """The service of this name, or None where the operator has registered no client there."""
    if provider == "google" and settings.google_client_id:
        return _google(settings)
    if provider == "microsoft" and settings.microsoft_client_id:
        return _microsoft(settings)
    return None


def _google(settings: Settings) -> Service:
    # One address for all of them is a gateway of the operator's own.
    login, tokens, api, users = (
        settings.google_base_url.rstrip("/") or url for url in (GOOGLE_LOGIN, GOOGLE_TOKENS, GOOGLE_API, GOOGLE_USERS)
    )
    return Service(
        "google",
        "Google Calendar",
        settings.google_client_id,
        settings.google_client_secret,
        f"{login}/o/oauth2/v2/auth",
        f"{tokens}/token",
        f"{tokens}/revoke",
        f"{api}/calendar/v3",
        f"{users}/v1/userinfo",
        f"openid email {GOOGLE_EVENTS}",
        GOOGLE_EVENTS,
        # Without a question there is no refresh token for somebody who has consented before.
        {"access_type": "offline", "prompt": "consent"},
    )


def _microsoft(settings: Settings) -> Service:
    login = f"{settings.microsoft_login_url.rstrip('/')}/{quote(settings.microsoft_tenant, safe='')}/oauth2/v2.0"
    graph = settings.microsoft_graph_url.rstrip("/")
    return Service(
        "microsoft",
        "Microsoft 365",
        settings.microsoft_client_id,
        settings.microsoft_client_secret,
        f"{login}/authorize",
        f"{login}/token",
        None,
        f"{graph}/v1.0",
        None,
        # Clouds of their own have scopes of their own.
        f"offline_access {graph}/Calendars.ReadWrite",
        "Calendars.ReadWrite",
        {"response_mode": "query", "prompt": "select_account"},
    )


def new_verifier() -> str:
    """A secret that only whoever asked for a code can exchange it with."""
    return secrets.token_urlsafe(VERIFIER_BYTES)


def login_page(service: Service, redirect_uri: str, state: str, verifier: str) -> str:
    """Where a person consents. The page sends them to `redirect_uri`, with a code and this state."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    parameters = {
        "response_type": "code",
        "client_id": service.client_id,
        "redirect_uri": redirect_uri,
        "scope": service.scope,
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **service.parameters,
    }
    return f"{service.login_url}?{urlencode(parameters)}"
