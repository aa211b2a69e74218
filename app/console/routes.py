"""All of the console's calls, under one error handler."""

from app.console import customers, sales
from app.console.http import console_error
from app.web.routing import Routes

router = Routes(
    "/console/admin",
    route_handlers=[*customers.HANDLERS, *sales.HANDLERS],
    exception_handlers={Exception: console_error},
    tags=["Console"],
)
