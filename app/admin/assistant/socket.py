"""/admin/assistant/ws: the same conversations over a WebSocket. The token comes with the first message, never in the
address, which logs and browsers keep. What comes then is sent to the HTTP routes, so all their rules hold.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import msgspec
from litestar import WebSocket, websocket
from litestar.connection import ASGIConnection
from litestar.exceptions import WebSocketDisconnect
from litestar.types import HTTPScope, Message
from msgspec import UNSET, Struct

from app.access.actor import Actor
from app.access.permissions import Permission, Requires
from app.admin.inside import once
from app.web import strict_json
from app.web.draining import is_draining
from app.web.errors import AppError, Code, ErrorBody, Fault, invalid
from app.web.limits import RELEASE
from app.web.proxies import Proxies
from app.web.structs import MAX_ID, Maybe

AUTH_SECONDS = 5.0
# How often it is looked whether the person may still be here.
LOOK_SECONDS = 1.0
MOST_BYTES = 128 * 1024
# One client has so many answers at the same time; the person has fewer.
MOST_ANSWERS = 10
# A client that takes nothing for so long is cut off. It reads by GET what it has missed.
SEND_SECONDS = 30.0
# Proxies cut a connection over which nothing comes, most of them after a minute.
SILENT_SECONDS = 15.0
# RFC 6455.
GOING_AWAY, POLICY, TOO_BIG = 1001, 1008, 1009
CONVERSATIONS = "/admin/assistant/conversations"
# Of the headers of the handshake, those that say something of each message.
TAKEN = (b"user-agent", b"x-forwarded-for", b"x-forwarded-proto", b"x-organization-id")
PING = b'{"type":"ping"}'


class Auth(Struct, forbid_unknown_fields=True, tag_field="type", tag="auth"):
    """The first message."""

    token: str
    organization_id: Maybe[str] = UNSET


class Say(Struct, forbid_unknown_fields=True, tag_field="type", tag="message"):
    """What the person says, as POST …/messages takes it."""

    conversation_id: int
    text: Any
    context: Maybe[Any] = UNSET


class Cancel(Struct, forbid_unknown_fields=True, tag_field="type", tag="cancel"):
    """The person wants no more of an answer."""

    conversation_id: int


class ClosedError(Exception):
    """The connection ends, for this reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@websocket("/assistant/ws")
async def talk(socket: WebSocket[Any, Any, Any]) -> None:
    """Conversations with the assistant over a WebSocket: docs/api.md says what is sent."""
    await socket.accept()
    with ExitStack() as over:
        line = Line(socket, over)
        try:
            if socket.scope["query_string"]:
                raise ClosedError(POLICY, "This address takes no query: the token is in the first message")
            await line.authenticate()
            await line.run()
        except ClosedError as closed:
            with suppress(WebSocketDisconnect, RuntimeError):
                await socket.close(closed.code, closed.reason)
        except WebSocketDisconnect:
            pass


class Line:
    """One connection."""

    def __init__(self, socket: WebSocket[Any, Any, Any], over: ExitStack) -> None:
        self._socket = socket
        self._app = socket.app
        self._over = over
        self._headers: list[tuple[bytes, bytes]] = []
        self._actor: Actor | None = None
        self._answers: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()
        self._sent = time.monotonic()

    async def authenticate(self) -> None:
        """Read the first message. Raises ClosedError."""
        try:
            async with asyncio.timeout(AUTH_SECONDS):
                auth = await self._receive(Auth)
        except TimeoutError:
            raise ClosedError(POLICY, "The first message has to come within five seconds, with the token") from None
        except AppError as refusal:
            raise ClosedError(POLICY, refusal.message[:100]) from None
        given = [each for each in self._socket.scope["headers"] if each[0].lower() in TAKEN]
        if auth.organization_id is not UNSET:
            given = [each for each in given if each[0].lower() != b"x-organization-id"]
            given.append((b"x-organization-id", auth.organization_id.encode()))
        self._headers = [*given, (b"authorization", b"Bearer " + auth.token.encode())]
        scope = self._scope("GET", CONVERSATIONS)
        Proxies(self._app.state.settings.proxies).apply_forwarded_headers(scope)
        try:
            # It is an open request for a moment only, and an open stream until the end.
            with ExitStack() as moment:
                scope["state"] = {RELEASE: moment}
                await Requires(Permission.READ)(ASGIConnection(scope), self._socket.route_handler)
            self._actor = actor = scope["user"]
            scope["state"] = {RELEASE: self._over}
            self._app.state.streams_per_person.acquire((actor.tenant_id, actor.user_id), scope)
        except AppError as refusal:
            await self._tell_error(refusal.code.name, refusal.message)
            raise ClosedError(POLICY, refusal.code.name) from None
        await self._send(b'{"type":"ready"}')

    async def run(self) -> None:
        """Take messages until the end. Raises ClosedError, WebSocketDisconnect."""
        works = [asyncio.create_task(self._listen()), asyncio.create_task(self._watch())]
        try:
            done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
            for work in done:
                work.result()
        finally:
            # Answers go on; only this connection hears no more of them.
            tasks = [*works, *self._answers]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        while True:
            try:
                message = await self._receive(Say | Cancel)
                if isinstance(message, Say) and len(self._answers) >= MOST_ANSWERS:
                    raise AppError(Code.RATE_LIMITED)
                if not 1 <= message.conversation_id <= MAX_ID:
                    raise invalid(Fault("conversation_id", "must be a positive integer"))
            except AppError as refusal:
                await self._tell_error(refusal.code.name, refusal.message)
                continue
            task = asyncio.create_task(self._pass(message))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    async def _watch(self) -> None:
        """End when the person may no longer be here, or the service stops and nothing more is to be said. In silence,
        say that the connection is there.
        """
        assert self._actor is not None  # noqa: S101 -- it was authenticated
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if is_draining() and not self._answers:
                raise ClosedError(GOING_AWAY, "The service stops: come back in a moment")
            if self._actor.expires_at <= time.time():
                raise ClosedError(POLICY, Code.INVALID_TOKEN.name)
            try:
                await self._app.state.authenticator.check_again(self._actor, Permission.READ)
            except AppError as refusal:
                if refusal.status != 503:
                    raise ClosedError(POLICY, refusal.code.name) from None
            if time.monotonic() - self._sent >= SILENT_SECONDS:
                await self._send(PING)

    async def _pass(self, message: Say | Cancel) -> None:
        # Whoever is gone is noticed by the one who listens.
        with suppress(WebSocketDisconnect):
            await self._answer(message)

    async def _answer(self, message: Say | Cancel) -> None:
        """Send it to its route, and pass on what that answers."""
        path = f"{CONVERSATIONS}/{message.conversation_id}"
        if isinstance(message, Cancel):
            path, body = f"{path}/cancel", b""
        else:
            context = {} if message.context is UNSET else {"context": message.context}
            path, body = f"{path}/messages", strict_json.encode({"text": message.text, **context})
        status, refusal = 0, b""

        async def pass_on(answered: Message) -> None:
            nonlocal status, refusal
            if answered["type"] == "http.response.start":
                status = answered["status"]
            elif answered["type"] == "http.response.body" and status >= 400:
                refusal += answered["body"]
            elif answered["type"] == "http.response.body" and isinstance(message, Say):
                for event in _events(answered["body"]):
                    await self._send(event)

        await self._app.asgi_handler(self._scope("POST", path), once(body), pass_on)
        if status >= 400:
            told = msgspec.json.decode(refusal, type=ErrorBody)
            await self._tell_error(told.code, told.message, message.conversation_id)

    def _scope(self, method: str, path: str) -> HTTPScope:
        scope: HTTPScope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "https" if self._socket.scope["scheme"] in {"wss", "https"} else "http",
            "app": self._app,
            "litestar_app": self._app,
            "method": method,  # type: ignore[typeddict-item]  # one of two
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), *self._headers],
            "client": self._socket.scope["client"],
            "server": self._socket.scope["server"],
            "extensions": None,
            "state": {},
        }
        return scope

    async def _receive(self, kind: Any) -> Any:
        """The next message. Raises AppError for one that is not of this kind, ClosedError, WebSocketDisconnect."""
        message: Any = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(code=message.get("code") or GOING_AWAY, detail="")
        content: bytes | str = message.get("text") or message.get("bytes") or b""
        if len(content) > MOST_BYTES:
            raise ClosedError(TOO_BIG, f"A message has {MOST_BYTES} bytes at most")
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise invalid(Fault("message", f"is not one that is known here: {str(error)[:200]}")) from None

    async def _tell_error(self, code: str, message: str, conversation_id: int | None = None) -> None:
        told: dict[str, Any] = {"type": "error", "code": code, "message": message}
        await self._send(
            strict_json.encode(told if conversation_id is None else told | {"conversation_id": conversation_id})
        )

    async def _send(self, text: bytes) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS), self._sending:
                await self._socket.send_text(text.decode())
                self._sent = time.monotonic()
        except TimeoutError:
            raise WebSocketDisconnect(code=GOING_AWAY, detail="") from None


def _events(chunk: bytes) -> Iterator[bytes]:
    """The data of server-sent events."""
    for line in chunk.split(b"\n"):
        if line.startswith(b"data: "):
            yield line.removeprefix(b"data: ")
