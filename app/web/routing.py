"""Routers that are quick to register."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Router
from litestar.handlers import BaseRouteHandler
from litestar.types import ControllerRouterHandler


class Routes(Router):
    """A router with the same handlers in every app.

    Litestar registers a deep copy of each router, guards, types and functions' signatures included, which took half of
    the time of making the app. This one is registered as it is, and in a further app made anew, of the same handlers.
    """

    def __init__(self, path: str, *, route_handlers: Sequence[ControllerRouterHandler], **options: Any) -> None:
        self._made_of = (path, route_handlers, options)
        for handler in route_handlers:
            if isinstance(handler, BaseRouteHandler):
                _ = handler.parsed_fn_signature  # Litestar keeps it, so that it is read once for all apps of a process
        super().__init__(path, route_handlers=route_handlers, **options)

    def __deepcopy__(self, _memo: dict[int, Any]) -> Routes:
        if self.owner is None:
            return self
        path, route_handlers, options = self._made_of
        return Routes(path, route_handlers=route_handlers, **options)
