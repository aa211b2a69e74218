"""/public/unsubscribe, which needs no token: the link of a mail is signed."""

from typing import Any

from litestar import Request, Response, get, post
from litestar.enums import MediaType
from litestar.params import FromPath

from app.admin.mails import unsubscribing
from app.mail.unsubscribing import read_stop
from app.web.input import skip_input_checks
from app.web.routing import Routes

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self';"
    " frame-ancestors 'none'",
    "X-Robots-Tag": "noindex",
}


@get("/{token:str}", media_type=MediaType.HTML)
async def ask_to_unsubscribe(request: Request[Any, Any, Any], token: FromPath[str]) -> Response[str]:
    """A page that asks whether to stop the mails that the link is of. Programs that look at links stop nothing."""
    state = request.app.state
    with state.authenticator.guessing(request):
        stop = read_stop(state.settings, token)
    page = await unsubscribing.ask(state.database, stop)
    return Response(page, headers=HEADERS)


@post("/{token:str}", media_type=MediaType.HTML, status_code=200)
async def unsubscribe(request: Request[Any, Any, Any], token: FromPath[str]) -> Response[str]:
    """Stop the mails that the link is of: from the page, or in one click of a mail program (RFC 8058)."""
    state = request.app.state
    with state.authenticator.guessing(request):
        stop = read_stop(state.settings, token)
    page = await unsubscribing.stop(state.database, stop)
    return Response(page, headers=HEADERS)


router = Routes(
    "/public/unsubscribe",
    route_handlers=[ask_to_unsubscribe, unsubscribe],
    tags=["Mail"],
    before_request=skip_input_checks,
)
