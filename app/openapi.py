"""The OpenAPI document: what Litestar finds in the routes, and what every route of ours has beside it."""

from __future__ import annotations

from litestar.openapi import OpenAPIConfig

from app.settings import Settings


def openapi_config(settings: Settings) -> OpenAPIConfig | None:
    """The document."""
    return None if settings.production else OpenAPIConfig(title="CRM", version="1", path="/docs")
