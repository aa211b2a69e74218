"""Who may call a route. Each route has one of these guards, so that it can be read there."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from msgspec import Struct

from app.access.permissions import Guard, Role
from app.access.tenants import is_tenant_id
from app.access.tokens import TokenVerifier, bearer_token
from app.identity.caller import OPERATOR
from app.identity.database import Database
from app.identity.sessions.queries import AUTHENTICATE
from app.settings import Settings
from app.web.errors import AppError, Code
from app.web.limits import RateLimiter
from app.web.proxies import rate_limit_key

ELSEWHERE = "This session works in another organization: name this one in the header X-Organization-Id of a refresh"


class Person(Struct, frozen=True):
    """Who asks, with the role in the organization that the request is about."""

    user_id: UUID
    session_id: UUID
    email: str
    name: str
    role: Role
    tenant_id: str


class Rule(StrEnum):
    """Who may call a route."""

    ANYBODY = "anybody"
    # Whoever is logged in.
    PERSON = "person"
    # The admins of the organization in the path, in a session that works there. Who is no member finds none there.
    ADMIN = "admin"


class Authenticator:
    """Knows the tokens that were issued here, and counts requests and failures in one worker."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._tokens = TokenVerifier(settings)
        self._database = database
        self._requests = RateLimiter(settings.rate_limit_per_minute)
        self._failures = RateLimiter(settings.auth_failures_per_minute)

    async def authenticate(self, connection: ASGIConnection[Any, Any, Any, Any], organization_id: str | None) -> Person:
        """Who asks. The session is still open, and the person still a member of the organization.

        Raises AppError 401, 403, 404 and 429.
        """
        try:
            claims = self._tokens.bearer(bearer_token(connection.headers)).claims
            here = str(claims.get("tenant_id"))
            person, role = await self._find(claims, organization_id or here)
        except AppError as refusal:
            if refusal.status == 401:
                self._failures.acquire(rate_limit_key(connection.client.host) if connection.client else None)
            raise
        self._requests.acquire(person[0])
        if role is None:
            if organization_id is not None:
                raise AppError(Code.ORGANIZATION_NOT_FOUND)
            raise AppError(Code.ORGANIZATION_FORBIDDEN, "You are not a member of this organization any more")
        if organization_id not in {None, here}:
            raise AppError(Code.ORGANIZATION_FORBIDDEN, ELSEWHERE)
        return Person(*person, role=Role(role), tenant_id=here)

    async def _find(self, claims: Any, organization_id: str) -> tuple[tuple[UUID, UUID, str, str], str | None]:
        try:
            jti = UUID(str(claims.get("jti")))
        except ValueError:
            raise AppError(Code.INVALID_TOKEN, "This token was not issued here: log in") from None
        async with self._database.transaction(OPERATOR) as tx:
            row = (await tx.execute(AUTHENTICATE, {"jti": jti, "in_organization": organization_id})).first()
        if row is None:
            raise AppError(Code.INVALID_TOKEN, "The session has ended: log in again")
        *person, role = row
        return tuple(person), role


class Allows(Guard):
    """A route's guard."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.needs_token = rule is not Rule.ANYBODY

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:  # noqa: ARG002 -- Litestar's form
        """Put the person into the scope. Raises AppError as `authenticate`, and INSUFFICIENT_PERMISSIONS."""
        if self.rule is Rule.ANYBODY:
            return
        organization_id = connection.path_params.get("organization_id") if self.rule is Rule.ADMIN else None
        if organization_id is not None and not is_tenant_id(organization_id):
            raise AppError(Code.ORGANIZATION_NOT_FOUND)
        person = await connection.app.state.authenticator.authenticate(connection, organization_id)
        connection.scope["user"] = person
        if self.rule is Rule.ADMIN and person.role is not Role.ADMIN:
            raise AppError(Code.INSUFFICIENT_PERMISSIONS)
