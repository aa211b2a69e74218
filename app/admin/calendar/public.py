"""/public/calendar, which needs no token: whoever has the address may read."""

from __future__ import annotations

import asyncio
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from litestar import Response, route
from litestar.enums import HttpMethod
from litestar.params import FromPath

from app.access.authenticator import Authenticator
from app.admin.calendar import feeds
from app.admin.calendar.subscriptions import content
from app.records.transaction import reading
from app.web.file_names import file_headers
from app.web.input import CrmRequest, skip_input_checks
from app.web.large_responses import MadeFile
from app.web.limits import RELEASE
from app.web.preconditions import is_known
from app.web.routing import Routes

SUFFIX = ".ics"
# A large file takes a second of work: one at a time, beside the requests.
WRITER = ThreadPoolExecutor(1, "calendars")
# So many have their entries in memory; others wait.
MOST_AT_ONCE = 4
HEADERS = file_headers("calendar.ics") | {"Cache-Control": "private, no-cache", "Referrer-Policy": "no-referrer"}


@route("/{secret:str}", http_method=[HttpMethod.GET, HttpMethod.HEAD])
async def read_calendar_feed(request: CrmRequest, secret: FromPath[str]) -> Response[Any]:
    """A person's calendar, for programs that have its address. It is fetched as often as the program likes to."""
    # Inside the function, because the library takes a while to load, and few workers need it.
    from app.admin.calendar.ics import written

    state = request.app.state
    authenticator: Authenticator = state.authenticator
    with authenticator.guessing(request):
        feed = await feeds.find(state.database, secret.removesuffix(SUFFIX) if secret.endswith(SUFFIX) else "")
    # Of a person, from wherever: an address may be shared by many people, or an answer be fetched from many addresses.
    authenticator.requests.acquire(("calendar", feed.tenant_id, feed.user_id))
    file = tempfile.TemporaryFile()  # noqa: SIM115 -- closed when the request is over
    request.scope["state"][RELEASE].callback(file.close)
    async with state.calendar_turns:
        async with reading(state.database, feed.actor) as tx:
            shown = await content(tx, feed)
        headers = HEADERS | {"ETag": f'"{shown.tag}"'}
        if is_known(request.headers.getall("if-none-match", []), shown.tag):
            return Response(None, status_code=304, headers=headers)
        file.write(await asyncio.get_running_loop().run_in_executor(WRITER, written, shown))
    return MadeFile(file, "text/calendar", headers)


router = Routes(
    "/public/calendar", route_handlers=[read_calendar_feed], tags=["Calendars"], before_request=skip_input_checks
)
