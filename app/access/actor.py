"""The person behind a request."""

from __future__ import annotations

import math

from msgspec import Struct

from app.access.permissions import PERMISSIONS, Permission, Role, Scope
from app.web.errors import AppError, Code
from app.web.structs import present_user

# Where AI clients come in: a token for an address that ends so is for nothing else.
AI_CLIENTS = "/admin/mcp"


class AccessToken(Struct, frozen=True):
    """What an access token is known by: what it is good for is read again and again."""

    id: int
    scope: Scope
    hash: bytes


class Actor(Struct, frozen=True, kw_only=True):
    """The person behind a request, as a verified token describes them. `role` is the one that counts: an organization
    may have narrowed the token's.
    """

    user_id: str
    tenant_id: str
    role: Role
    roles: tuple[str, ...] = ()
    name: str | None = None
    email: str | None = None
    token_permissions: tuple[str, ...] = ()
    # None for who is here without a token, as a job is.
    token_role: Role | None = None
    # When the token was issued, in seconds since 1970, if it says so.
    issued_at: float | None = None
    # When the token expires, in seconds since 1970.
    expires_at: float = math.inf
    # Whom the token is for, if it says so.
    audiences: tuple[str, ...] = ()
    # The access token with which a program asks as this person.
    access_token: AccessToken | None = None

    @property
    def reference(self) -> int | str:
        """The user id as clients see it."""
        return present_user(self.user_id)

    @property
    def is_ai_client(self) -> bool:
        """Whether the token was issued to an AI client, to which the person logged in by OAuth."""
        return any(audience.endswith(AI_CLIENTS) for audience in self.audiences)

    @property
    def is_program(self) -> bool:
        """Whether a program asks in the person's place."""
        return self.access_token is not None or self.is_ai_client

    def can(self, permission: Permission) -> bool:
        """Whether the role has this permission."""
        return permission in PERMISSIONS[self.role]

    def require(self, permission: Permission) -> None:
        """Raises AppError INSUFFICIENT_PERMISSIONS."""
        if not self.can(permission):
            raise AppError(Code.INSUFFICIENT_PERMISSIONS)
