"""Roles, what each may do, and the guard that every route carries."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from app.web.errors import AppError, Code


class Role(StrEnum):
    """From the least to the most powerful."""

    AGENT = "agent"
    MANAGER = "manager"
    ADMIN = "admin"


class Permission(StrEnum):
    """What a route may ask for."""

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
    # What an agent changes must be its own.
    Role.AGENT: (P.READ, P.WRITE, P.MANAGE_OWN),
}
RANK = {role: rank for rank, role in enumerate(Role)}


class Requires:
    """A route's guard: a valid token, whose role has this permission.

    It stands on the route and not on a controller, so that OPTIONS stays open and every route says for itself.
    """

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        """Put the actor into the scope, or raise AppError 401, 429, 400 ORGANIZATION_REQUIRED or 403."""
        actor = connection.app.state.authenticator.authenticate(connection)
        connection.scope["user"] = actor
        if self.permission not in PERMISSIONS[actor.role]:
            raise AppError(Code.INSUFFICIENT_PERMISSIONS)
