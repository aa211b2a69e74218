"""Roles, their permissions, and the guard of routes."""

from __future__ import annotations

from abc import ABC, abstractmethod
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


class Scope(StrEnum):
    """What a program with an access token may do of what its person may."""

    READ = "read"
    # What it would change is shown to the person, who approves it.
    PROPOSE = "propose"
    WRITE = "write"


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
READING = ("GET", "HEAD")
BEYOND = {
    Scope.READ: "This access token only reads: make one whose scope is propose or write",
    Scope.PROPOSE: "This access token only proposes changes, by the tools under /admin/mcp: make one whose scope is"
    " write, or send the header Dry-Run: true to see what would happen",
}
RANK = {role: rank for rank, role in enumerate(Role)}


# The key, in the scope's state of a request inside a batch, of the actor who sent the batch.
SENDER = "sender"
# The key, in the scope's state of such a request, of a function that raises AppError where its route is not for it. A
# guard of its own would cost each request as much as verifying the token: Litestar copies the handler for each guard.
ONLY = "only"
# The key, in the scope's state, of what the request's route requires.
REQUIRED = "required"


class Guard(ABC):
    """A route's guard that says whether it asks for a token."""

    needs_token: bool = True

    @abstractmethod
    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        """Let the request in. Raises AppError."""


class Requires(Guard):
    """A route's guard: requires a valid token whose role has this permission.

    Each route has its own guard, so that it can be read on the route, and OPTIONS needs no token.
    """

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        """Put the actor into the scope. Raises AppError 401, 503, 429, 403, or 400 ORGANIZATION_REQUIRED."""
        if (only := connection.scope["state"].get(ONLY)) is not None:
            only(connection.scope)
        # A request inside a batch comes with the person whose token was verified for the batch.
        actor = connection.scope["state"].get(SENDER) or await connection.app.state.authenticator.authenticate(
            connection
        )
        connection.scope["user"] = actor
        connection.scope["state"][REQUIRED] = self.permission
        if self.permission not in PERMISSIONS[actor.role]:
            raise AppError(Code.INSUFFICIENT_PERMISSIONS)
        # What is for people only is refused to every token alike, by the guard that comes next.
        if actor.access_token is not None and by_a_person not in handler.resolve_guards():
            _refuse_beyond(actor.access_token.scope, connection)


def _refuse_beyond(scope: Scope, connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """Raise AppError for what an access token of this scope may not do."""
    if scope is Scope.WRITE or connection.scope["method"] in READING:  # type: ignore[typeddict-item]  # it has one
        return
    # What is only tried is undone.
    if scope is Scope.PROPOSE and connection.headers.getall("dry-run", []) == ["true"]:
        return
    raise AppError(Code.INSUFFICIENT_PERMISSIONS, BEYOND[scope])


async def by_a_person(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A route's guard, after the one of its permission: for people only, not for programs with an access token, nor for
    AI clients. Raises AppError.
    """
    if connection.scope["user"].is_program:
        raise AppError(Code.INSUFFICIENT_PERMISSIONS, "An access token may not do this: log in and do it yourself")
