"""The API reference at /docs, outside production."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import yaml
from litestar import Litestar, Request, Response, Router, get
from litestar.enums import MediaType
from litestar.response import Redirect
from litestar.static_files import create_static_files_router

from app.openapi import CONSOLES, CRM, Api, document
from app.web.errors import AppError, Code
from app.web.input import skip_input_checks

CDN = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5"
PAGE = """\
<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>CRM API</title>
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <link rel="stylesheet" href="{assets}/swagger-ui.css">
</head>
<body>
  <div id="reference"></div>
  <script src="{assets}/swagger-ui-bundle.js"></script>
  <script src="{assets}/swagger-ui-standalone-preset.js"></script>
  <script>
    SwaggerUIBundle({{
      urls: [
        {{url: "/docs/openapi.json", name: "CRM"}},
        {{url: "/docs/console.json", name: "The Platform Console's dialect"}}
      ],
      layout: "StandaloneLayout",
      presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
      dom_id: "#reference",
      deepLinking: true,
      persistAuthorization: true,
      docExpansion: "none"
    }})
  </script>
</body>
</html>
"""


@cache
def document_as_json(app: Litestar, api: Api = CRM) -> str:
    """The document, as it is served and as it is in openapi/."""
    return msgspec.json.format(msgspec.json.encode(document(app, api)), indent=2).decode() + "\n"


@cache
def document_as_yaml(app: Litestar) -> str:
    """The same document as YAML."""
    return yaml.safe_dump(msgspec.json.decode(document_as_json(app)), sort_keys=False, allow_unicode=True, width=120)


@get("/", status_code=302)
async def front_page(request: Request[Any, Any, Any]) -> Redirect:
    """Lead a browser to the API reference. For other clients there is nothing at this address."""
    if "text/html" not in request.headers.get("accept", ""):
        raise AppError(Code.NOT_FOUND)
    return Redirect("/docs")


def docs_router() -> Router:
    """The pages. Swagger UI is served from the extra `docs` if that is installed, else loaded from a public CDN."""
    spec = find_spec("flask_swagger_ui")
    folder = Path(spec.origin).parent / "dist" if spec and spec.origin else None
    page = PAGE.format(assets="/docs/assets" if folder else CDN)

    @get("/")
    async def reference() -> Response[str]:
        return Response(page, media_type=MediaType.HTML)

    @get("/openapi.json")
    async def as_json(request: Request[Any, Any, Any]) -> Response[str]:
        return Response(document_as_json(request.app), media_type=MediaType.JSON)

    @get("/console.json")
    async def console_as_json(request: Request[Any, Any, Any]) -> Response[str]:
        return Response(document_as_json(request.app, CONSOLES), media_type=MediaType.JSON)

    @get("/openapi.yaml")
    async def as_yaml(request: Request[Any, Any, Any]) -> Response[str]:
        return Response(document_as_yaml(request.app), media_type="application/yaml")

    assets = [create_static_files_router("/assets", [folder])] if folder else []
    return Router(
        "/",
        route_handlers=[
            front_page,
            Router("/docs", route_handlers=[reference, as_json, console_as_json, as_yaml, *assets]),
        ],
        # Swagger UI adds the chosen document to the address as a parameter, and the browser loads that address again.
        before_request=skip_input_checks,
        include_in_schema=False,
    )
