"""Where AI clients learn how to log in: the protected resource's document of RFC 9728."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get
from msgspec import UNSET, Struct, UnsetType

from app.access.actor import AI_CLIENTS
from app.settings import Settings

WELL_KNOWN = "/.well-known/oauth-protected-resource/admin/mcp"


class ResourceMetadata(Struct):
    """What an AI client reads before it has a token. Without authorization servers, a person gives it an access token
    of their own.
    """

    resource: str
    bearer_methods_supported: list[str]
    resource_name: str
    authorization_servers: list[str] | UnsetType = UNSET


def address_of(request: Request[Any, Any, Any]) -> str:
    """The address of the protocol's endpoint, as clients outside know it."""
    return f"{_base(request)}{AI_CLIENTS}"


def metadata_address(request: Request[Any, Any, Any]) -> str:
    """The address of its document."""
    return f"{_base(request)}{WELL_KNOWN}"


def _base(request: Request[Any, Any, Any]) -> str:
    settings: Settings = request.app.state.settings
    return (settings.public_url or str(request.base_url)).rstrip("/")


@get(WELL_KNOWN, tags=["AI clients"])
async def get_resource_metadata(request: Request[Any, Any, Any]) -> Response[ResourceMetadata]:
    """How AI clients log in to `/admin/mcp` (RFC 9728)."""
    servers = list(request.app.state.settings.authorization_servers)
    shown = ResourceMetadata(address_of(request), ["header"], "CRM", servers or UNSET)
    return Response(shown)
