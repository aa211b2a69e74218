"""Roles, their permissions, and the guard of routes."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from app.web.errors import AppError, Code


class Role(StrEnum):
    """The roles, from the least to the most powerful."""

    AGENT = "agent"
    MANAGER = "manager"
    ADMIN = "admin"


class Permission(StrEnum):
    """What a route can require."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    MANAGE_ALL = "manage_all"
    MANAGE_OWN = "manage_own"
    CONFIGURE = "configure"
    AUDIT = "audit"


P = Permission
PERMISSIONS: dict[Role, tuple[Permission, ...]] = {
    Role.ADMIN: (P.READ, P.WRITE, P.DELETE, P.MANAGE_ALL, P.CONFIGURE, P.AUDIT),
    Role.MANAGER: (P.READ, P.WRITE, P.DELETE, P.MANAGE_ALL),
    # Agents change only what is their own.
    Role.AGENT: (P.READ, P.WRITE, P.MANAGE_OWN),
}
RANK = {role: rank for rank, role in enumerate(Role)}


# The key, in the scope's state of a request inside a batch, of the actor who sent the batch.
SENDER = "sender"
# The key, in the scope's state, of what the request's route requires.
REQUIRED = "required"


class Requires:
    """A route's guard: requires a valid token whose role has this permission.

    Each route has its own guard, so that it can be read on the route, and OPTIONS needs no token.
    """

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        """Put the actor into the scope. Raises AppError 401, 503, 429, 403, or 400 ORGANIZATION_REQUIRED."""
        # A request inside a batch comes with the person whose token was verified for the batch.
        actor = connection.scope["state"].get(SENDER) or await connection.app.state.authenticator.authenticate(
            connection
        )
        connection.scope["user"] = actor
        connection.scope["state"][REQUIRED] = self.permission
        if self.permission not in PERMISSIONS[actor.role]:
            raise AppError(Code.INSUFFICIENT_PERMISSIONS)
