"""Authentication: a valid token, within the rate limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from litestar.connection import ASGIConnection
from litestar.datastructures import Headers
from msgspec.structs import replace
from prometheus_client import Counter

from app.access.access_tokens import REVOKED, AccessTokens, is_access_token
from app.access.actor import AI_CLIENTS, Actor
from app.access.memberships import Memberships
from app.access.permissions import Permission, Role
from app.access.tokens import Bearer, RefusedTokenError, TokenVerifier, bearer_token
from app.settings import Settings
from app.web.errors import AppError, Code
from app.web.limits import ConcurrencyLimiter, RateLimiter
from app.web.proxies import rate_limit_key

# Those of INVALID_TOKEN that show a wrong setting or clock. All other refusals are counted under their code, in small
# letters.
REASONS = ("signature", "expired", "early")
REFUSED = Counter("crm_tokens_refused", "Requests refused for their token, by the reason", ["reason"])

FOR_AI_CLIENTS = f"This token is for AI clients under {AI_CLIENTS} only: log in and do it yourself"


class Authenticator:
    """Verifies tokens, and counts the requests of each person and the failures of each address, in one worker."""

    def __init__(
        self,
        settings: Settings,
        memberships: Memberships,
        access_tokens: AccessTokens,
        join: Callable[[Actor], Awaitable[None]],
    ) -> None:
        self._tokens = TokenVerifier(settings)
        self._access_tokens = access_tokens
        self._memberships = memberships
        # Lets an invitation to the email of a person's token become that person's.
        self._join = join
        for reason in REASONS:
            REFUSED.labels(reason)  # from the start, so that a monitor sees its first one
        self.requests = RateLimiter(settings.rate_limit_per_minute)
        self._open = ConcurrencyLimiter(settings.open_requests_per_person)
        self.failures = RateLimiter(settings.auth_failures_per_minute)

    async def authenticate(self, connection: ASGIConnection[Any, Any, Any, Any], *, ai_clients: bool = False) -> Actor:
        """Who sends this request, with the role that counts. Raises AppError 401, 503, 429, 403 and 400. What was
        issued to an AI client gets in with `ai_clients` only.

        The limit of failures replaces a 401 only: a valid token always works, also from an address with many failures.
        """
        try:
            bearer = await self._bearer(connection.headers)
            await self._memberships.fresh()
            # Before the person's requests are counted: whoever has a stolen token can't use them up.
            self._refuse_revoked(bearer, connection.headers)
        except AppError as refusal:
            if refusal.status == 401:
                # Also where the limit hides the 401.
                reason = refusal.reason if isinstance(refusal, RefusedTokenError) else refusal.code.name.lower()
                connection.scope["state"]["refused_token"] = reason
                REFUSED.labels(reason).inc()
                self.failures.acquire(_address(connection))
            raise
        self.requests.acquire(bearer.identity)
        self._open.acquire(bearer.identity, connection.scope)
        actor = self._tokens.person(bearer, connection.headers)
        if actor.is_ai_client and not ai_clients:
            raise AppError(Code.INSUFFICIENT_PERMISSIONS, FOR_AI_CLIENTS)
        if actor.access_token is None and self._memberships.expects(actor):
            # The database decides what it means for somebody who is a member already. And what runs for a person, such
            # as jobs, knows the id only.
            await self._join(actor)
            await self._memberships.catch_up()
        return self._memberships.narrowed(actor)

    @contextmanager
    def guessing(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Iterator[None]:
        """For addresses that need no token: what is none of ours inside (404) is a failure, as a wrong token is."""
        try:
            yield
        except AppError as refusal:
            if refusal.code is Code.NOT_FOUND:
                self.failures.acquire(_address(connection))
            raise

    async def check_again(self, actor: Actor, permission: Permission) -> Actor:
        """Who was let in some time ago, with the role that counts now. Raises AppError as if the request came now."""
        if actor.access_token is not None:
            known = await self._access_tokens.find(actor.access_token.hash)
            actor = replace(actor, token_role=Role(known.claims["role"]))
        await self._memberships.fresh()
        self._memberships.refuse_revoked(actor.tenant_id, actor.user_id, actor.email, actor.issued_at)
        narrowed = self._memberships.narrowed(actor)
        narrowed.require(permission)
        return narrowed

    async def _bearer(self, headers: Headers) -> Bearer:
        token = bearer_token(headers)
        if is_access_token(token):
            return await self._access_tokens.bearer(token)
        return self._tokens.bearer(token)

    def _refuse_revoked(self, bearer: Bearer, headers: Headers) -> None:
        try:
            tenant_id = bearer.tenant(headers)
        except AppError:  # it is refused later, in its place
            return
        self._memberships.refuse_revoked(tenant_id, bearer.user_id, bearer.email, bearer.issued_at)
        if bearer.access_token is not None and self._memberships.is_shut_out(tenant_id, bearer.user_id, bearer.email):
            raise AppError(Code.TOKEN_REVOKED, REVOKED)


def _address(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    return rate_limit_key(connection.client.host) if connection.client else None
