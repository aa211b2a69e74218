"""How an exception becomes an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from litestar import Request, Response
from litestar.enums import MediaType
from litestar.exceptions import HTTPException
from litestar.types import HTTPResponseStartEvent, Send

from app.web.errors import AppError, Code

log = structlog.get_logger("errors")

BY_STATUS = {
    400: Code.INVALID_REQUEST,
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.PAYLOAD_TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
    503: Code.SERVICE_UNAVAILABLE,
}


def as_app_error(error: Exception) -> AppError:
    """The error that a client is told about. An unexpected exception is logged with its traceback, and the client
    learns only that it happened.
    """
    if isinstance(error, AppError):
        return error
    if isinstance(error, HTTPException) and error.status_code in BY_STATUS:
        code = BY_STATUS[error.status_code]
        allow = next((value for name, value in (error.headers or {}).items() if name.lower() == "allow"), None)
        return AppError(code, headers={"Allow": allow} if allow else None)
    log.error("unexpected error", exc_info=error)
    return AppError(Code.INTERNAL_ERROR)


async def send_refusal(send: Send, refusal: AppError, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Answer with an error from a layer outside the router, where Litestar's exception handlers do not work."""
    body = refusal.body()
    start: HTTPResponseStartEvent = {
        "type": "http.response.start",
        "status": refusal.status,
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *((name.lower().encode(), value.encode()) for name, value in refusal.headers.items()),
            *headers,
        ],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})


def error_response(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The exception handler for all exceptions."""
    refusal = as_app_error(error)
    request.scope["state"]["error_code"] = refusal.code.name
    return Response(refusal.body(), status_code=refusal.status, media_type=MediaType.JSON, headers=refusal.headers)
