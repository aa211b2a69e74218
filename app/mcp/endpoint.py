"""/admin/mcp: who may come in, before the protocol's own library is asked."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, asgi
from litestar.types import HTTPResponseStartEvent, Receive, Scope, Send

from app.access.actor import AI_CLIENTS, Actor
from app.access.authenticator import Authenticator
from app.mcp.metadata import address_of, metadata_address
from app.mcp.transport import Transport
from app.settings import Settings
from app.web import strict_json
from app.web.cors import Origins
from app.web.error_responses import as_app_error
from app.web.errors import AppError, Code
from app.web.input import JSON_TYPE

PATH = AI_CLIENTS
# What JSON-RPC calls an error. What has no name there is REFUSED; `data.code` is ours.
PARSE_ERROR, INVALID_REQUEST, INTERNAL_ERROR, REFUSED = -32700, -32600, -32603, -32010
BY_CODE = {
    Code.INVALID_REQUEST: PARSE_ERROR,
    Code.PAYLOAD_TOO_LARGE: INVALID_REQUEST,
    Code.UNSUPPORTED_MEDIA_TYPE: INVALID_REQUEST,
    Code.METHOD_NOT_ALLOWED: INVALID_REQUEST,
    Code.INTERNAL_ERROR: INTERNAL_ERROR,
}
# There are no sessions: nothing to listen to by GET, and nothing to DELETE.
ALLOW = "POST, OPTIONS"


@asgi(PATH, copy_scope=False)
async def mcp_endpoint(scope: Scope, receive: Receive, send: Send) -> None:
    """Whatever an AI client sends. Each request stands by itself, so that any worker answers it."""
    request: Request[Any, Any, Any] = Request(scope, receive)
    if request.method == "OPTIONS":
        await _send(send, 204, b"", {"Allow": ALLOW})
        return
    try:
        if request.method != "POST":
            raise AppError(Code.METHOD_NOT_ALLOWED, headers={"Allow": ALLOW})
        _check_origin(request)
        scope["user"] = await _person(request)
        _require_json(request)
        body = await _whole_body(receive, request.app.state.settings.max_body_bytes)
        try:
            strict_json.decode(body)
        except ValueError as error:
            raise AppError(Code.INVALID_REQUEST, f"The body {error}") from None
        transport: Transport = request.app.state.mcp
        await transport.handle(scope, _replayed(body, receive), send)
    except Exception as error:  # noqa: BLE001 -- it becomes the answer
        refusal = as_app_error(error)
        scope["state"]["error_code"] = refusal.code.name
        if refusal.status == 401:
            refusal.headers["WWW-Authenticate"] = f'Bearer resource_metadata="{metadata_address(request)}"'
        await _send(send, refusal.status, _as_json_rpc(refusal), refusal.headers)


def _check_origin(request: Request[Any, Any, Any]) -> None:
    """Raise AppError for a page that may not call the service: by DNS rebinding, any page could."""
    origins: Origins = request.app.state.origins
    for origin in request.headers.getall("origin", []):
        if origin not in origins:
            raise AppError(Code.ORIGIN_NOT_ALLOWED)


async def _person(request: Request[Any, Any, Any]) -> Actor:
    """Who asks. Raises AppError as everywhere; and for a token that was not made for this address, where tokens say
    what they are for.
    """
    authenticator: Authenticator = request.app.state.authenticator
    actor = await authenticator.authenticate(request, ai_clients=True)
    settings: Settings = request.app.state.settings
    address = address_of(request)
    if settings.authorization_servers and actor.access_token is None and address not in actor.audiences:
        raise AppError(Code.INVALID_TOKEN, f"The token is not for this address: its claim aud must hold {address}")
    return actor


def _require_json(request: Request[Any, Any, Any]) -> None:
    types = request.headers.getall("content-type", [])
    if len(types) != 1 or not JSON_TYPE.fullmatch(types[0]) or "content-encoding" in request.headers:
        raise AppError(Code.UNSUPPORTED_MEDIA_TYPE)


async def _whole_body(receive: Receive, most: int) -> bytes:
    body = bytearray()
    while True:
        message: Any = await receive()
        if message["type"] != "http.request":
            raise AppError(Code.INVALID_REQUEST, "The connection ended before the body did")
        body += message.get("body", b"")
        if len(body) > most:
            raise AppError(Code.PAYLOAD_TOO_LARGE)
        if not message.get("more_body"):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What arrives, from its beginning on."""
    messages: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Any:
        return messages.pop() if messages else await receive()

    return again


def _as_json_rpc(refusal: AppError) -> bytes:
    data = {"code": refusal.code.name} | ({"details": refusal.data} if refusal.data else {})
    error = {"code": BY_CODE.get(refusal.code, REFUSED), "message": refusal.message, "data": data}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": error})


async def _send(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    start: HTTPResponseStartEvent = {
        "type": "http.response.start",
        "status": status,
        "headers": [
            *([(b"content-type", b"application/json")] if body else []),
            (b"content-length", str(len(body)).encode()),
            *((name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()),
        ],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})
