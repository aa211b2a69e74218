"""How addresses are registered; what OPTIONS answers is in tests/laws/test_access.py."""

from __future__ import annotations

from litestar import Litestar, get, post
from litestar.routes import HTTPRoute

from app.web.routing import Routes


@get("/things", sync_to_thread=False)
def read() -> None:
    """Nothing."""


@post("/things", sync_to_thread=False)
def write() -> None:
    """Nothing."""


@get("/others", sync_to_thread=False)
def others() -> None:
    """Nothing."""


def test_the_addresses_of_a_router_share_one_handler_for_options() -> None:
    app = Litestar([Routes("/admin", route_handlers=[Routes("/all", route_handlers=[read, write, others])])])
    handlers = {
        route.path: route.route_handler_map["OPTIONS"][0]
        for route in app.routes
        if isinstance(route, HTTPRoute) and route.path.startswith("/admin")
    }
    assert handlers.keys() == {"/admin/all/things", "/admin/all/others"}
    assert len(set(map(id, handlers.values()))) == 1
