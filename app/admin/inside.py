"""Requests that the service sends to its own routes as a person: every rule holds for them as for one from outside.

They are below the layers that count, limit and log: these know the request that they are a part of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
from litestar import Litestar
from litestar.types import HTTPScope, Message, Receive
from msgspec import Struct

from app.access.actor import Actor
from app.access.permissions import SENDER
from app.admin.audit.schemas import AuditEntry
from app.admin.http import OUTCOME, OUTER, TRIED, VIA
from app.records.transaction import Transaction
from app.web import strict_json
from app.web.errors import AppError, Code, ErrorBody

# Headers of an answer that a refusal keeps.
KEPT_HEADERS = {b"allow": "Allow", b"retry-after": "Retry-After"}
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Answer(NamedTuple):
    """What a route answered. `tried` are the first audit entries of a dry run that went well, which are undone, and
    `outcome` stands for all of them.
    """

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    tried: Sequence[AuditEntry] = ()
    outcome: str | None = None

    @property
    def refused(self) -> bool:
        """Whether it is an error."""
        return self.status >= 400

    def refusal(self) -> AppError:
        """The error that the route answered."""
        told = msgspec.json.decode(self.body, type=ErrorBody)
        headers = {KEPT_HEADERS[name]: value.decode() for name, value in self.headers if name in KEPT_HEADERS}
        return AppError(Code[told.code], told.message, data=told.data, status=self.status, headers=headers)

    def document(self) -> Any:
        """The body as JSON values, with exact numbers."""
        return strict_json.decode_own(self.body)


class Sender(Struct, kw_only=True):
    """Who sends, and from where, for the audit log. `via` is by which way, if not by the API."""

    app: Litestar
    actor: Actor
    request_id: str
    via: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        body: Any = None,
        headers: Mapping[str, str] = NOTHING,
        outer: Transaction | None = None,
        state: Mapping[str, Any] = NOTHING,
    ) -> Answer:
        """What the route answers, errors too. With `outer` it is a part of that transaction, and nothing is committed.
        `state` is for guards.
        """
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        if self.user_agent is not None:
            encoded.append((b"user-agent", self.user_agent.encode()))
        known = {"request_id": self.request_id, SENDER: self.actor, VIA: self.via, **state}
        scope: HTTPScope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "http",
            "app": self.app,
            "litestar_app": self.app,
            "method": method,  # type: ignore[typeddict-item]  # the routes refuse others
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(b"content-type", b"application/json"), *encoded],
            "client": None if self.ip_address is None else (self.ip_address, 0),
            "server": None,
            "extensions": None,
            "state": known if outer is None else known | {OUTER: outer},
        }
        status, answered = 0, []
        chunks: list[bytes] = []
        whole = asyncio.Event()

        async def receive_answer(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], list(message["headers"])
            elif message["type"] == "http.response.body":
                chunks.append(message["body"])
                if not message.get("more_body"):
                    whole.set()

        content = b"" if body is None else strict_json.encode(body)
        await self.app.state.router(scope, once(content, whole), receive_answer)
        return Answer(status, answered, b"".join(chunks), scope["state"].get(TRIED, ()), scope["state"].get(OUTCOME))


def once(content: bytes, whole: asyncio.Event | None = None) -> Receive:
    """What a client sends who then waits, and hangs up when the answer is there: what is streamed ends only then."""
    messages: list[Any] = [{"type": "http.request", "body": content, "more_body": False}]
    answered = whole or asyncio.Event()

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await answered.wait()
        return {"type": "http.disconnect"}

    return receive
