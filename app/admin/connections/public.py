"""/public/connections, which needs no token: where a provider's page sends people back to."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get

from app.admin.connections.service import back_to_console
from app.settings import Settings
from app.web.errors import AppError, Code, Fault, invalid
from app.web.input import skip_input_checks
from app.web.routing import Routes

# What of the provider's answer the console needs: a code, or why there is none.
PASSED = ("code", "state", "error")
LONGEST = 4096
HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


@get("/callback", status_code=302)
async def return_to_console(request: Request[Any, Any, Any]) -> Response[None]:
    """Send a person on to the console, with the code and the state. There the same person finishes it, with a token:
    who only has the address can do nothing with it.
    """
    settings: Settings = request.app.state.settings
    if not settings.console_url:
        raise AppError(Code.NOT_CONFIGURED, "This service does not know where the console is: CONSOLE_URL is not set")
    given = {name: request.query_params.get(name, "") for name in PASSED}
    if any(len(value) > LONGEST for value in given.values()):
        raise invalid(Fault("code", f"must have at most {LONGEST} characters"))
    parameters = {name: value for name, value in given.items() if value}
    return Response(None, status_code=302, headers=HEADERS | {"Location": back_to_console(settings, parameters)})


router = Routes(
    "/public/connections",
    route_handlers=[return_to_console],
    tags=["Calendars"],
    before_request=skip_input_checks,
)
