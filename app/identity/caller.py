"""Where a request came from: for events, for sessions, and for the limits of guessing."""

from __future__ import annotations

from typing import Any

from litestar import Request
from msgspec import Struct

from app.locales import Locale
from app.web.proxies import rate_limit_key
from app.web.text import CONTROL

LONGEST_AGENT = 255


class Caller(Struct, frozen=True):
    """Where a request came from. `network` is an IPv4 address or an IPv6 network of 64 bits."""

    network: str = "local"
    address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None
    locale: Locale = Locale.ENGLISH


# Whoever runs a command.
OPERATOR = Caller()


def caller_of(request: Request[Any, Any, Any]) -> Caller:
    """Where this request came from."""
    address = request.client.host if request.client else None
    agent = CONTROL.sub(" ", request.headers.get("user-agent") or "").strip()
    return Caller(
        network=rate_limit_key(address) if address else "local",
        address=address,
        user_agent=agent[:LONGEST_AGENT] or None,
        request_id=request.scope["state"].get("request_id"),
        locale=_locale(request.headers.get("accept-language") or ""),
    )


def _locale(languages: str) -> Locale:
    """The first of these languages that mails are written in."""
    for part in languages[:LONGEST_AGENT].split(","):
        wanted = part.split(";")[0].strip().lower()[:2]
        if wanted in set(Locale):
            return Locale(wanted)
    return Locale.ENGLISH
