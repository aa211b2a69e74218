"""Routers that are quick to register."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from litestar import Request, Response, Router
from litestar.enums import MediaType
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.types import ControllerRouterHandler


def _options(request: Request[Any, Any, Any]) -> Response[None]:
    routes = (route for route in request.app.routes if route.path_format == request.scope["path_template"])
    methods = sorted({method for route in routes for method in route.methods})
    return Response(None, status_code=204, headers={"Allow": ", ".join(methods)}, media_type=MediaType.TEXT)


OPTIONS = HTTPRouteHandler(http_method="OPTIONS", include_in_schema=False, sync_to_thread=False)(_options)


class Routes(Router):
    """A router with the same handlers in every app.

    Litestar registers a deep copy of each router, guards, types and functions' signatures included, which took half of
    the time of making the app. This one is registered as it is, and in a further app made anew, of the same handlers.

    It answers OPTIONS by one handler. Litestar would make one for each address, as costly as all the others, and it
    would name the address's first method only.
    """

    def __init__(self, path: str, *, route_handlers: Sequence[ControllerRouterHandler], **options: Any) -> None:
        self._made_of = (path, route_handlers, options)
        for handler in (OPTIONS, *route_handlers):
            if isinstance(handler, BaseRouteHandler):
                _ = handler.parsed_fn_signature  # Litestar keeps it, so that it is read once for all apps of a process
        told = copy(OPTIONS)
        told.paths = {path for each in route_handlers if isinstance(each, HTTPRouteHandler) for path in each.paths}
        super().__init__(path, route_handlers=[told, *route_handlers], **options)

    def __deepcopy__(self, _memo: dict[int, Any]) -> Routes:
        if self.owner is None:
            return self
        path, route_handlers, options = self._made_of
        return Routes(path, route_handlers=route_handlers, **options)
