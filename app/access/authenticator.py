"""Authentication: a valid token, within the rate limits."""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection
from litestar.types import Scope

from app.access.actor import Actor
from app.access.tokens import Bearer, TokenVerifier
from app.settings import Settings
from app.web.errors import AppError
from app.web.limits import ConcurrencyLimiter, RateLimiter
from app.web.proxies import rate_limit_key


class Authenticator:
    """Verifies tokens, and counts the requests of each person and the failures of each address, in one worker."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = TokenVerifier(settings)
        self.requests = RateLimiter(settings.rate_limit_per_minute)
        self._open = ConcurrencyLimiter(settings.open_requests_per_person)
        self.failures = RateLimiter(settings.auth_failures_per_minute)

    def authenticate(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Actor:
        """Who sends this request. Raises AppError 401, 429, 403 and 400.

        The limit of failures replaces a 401 only: a valid token always works, also from an address with many failures.
        """
        try:
            return self._tokens.actor(connection.headers, lambda bearer: self._admit(bearer, connection.scope))
        except AppError as refusal:
            if refusal.status == 401:
                self.failures.acquire(rate_limit_key(connection.client.host) if connection.client else None)
            raise

    def _admit(self, bearer: Bearer, scope: Scope) -> None:
        self.requests.acquire(bearer.identity)
        self._open.acquire(bearer.identity, scope)
