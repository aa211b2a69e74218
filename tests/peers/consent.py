"""An authorization server with an API behind it, as Google and Microsoft have them: OAuth 2.0 with PKCE, errors on
demand, and answers that get lost.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

CLIENT_ID, CLIENT_SECRET = "crm-at-the-provider", "a-client-secret-4711"
# Without it, each request loads all certificates.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
Answer = Callable[[Request], Awaitable[Response]]


class Fail(NamedTuple):
    """What a request is answered with in place of what it asked for."""

    status: int
    code: str = ""
    headers: dict[str, str] = {}  # noqa: RUF012 -- never changed


class Lost:
    """A request is done, but its answer does not arrive."""


class Asked(NamedTuple):
    """A request that came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Guarded:
    """A server on this machine, and one person's account there."""

    # Of the login page and the tokens.
    login_path: ClassVar[str]
    token_path: ClassVar[str]
    scopes: ClassVar[set[str]]
    # Whether each refresh gives another refresh token. The one before stays good: its answer may have been lost.
    rotates: ClassVar[bool]

    def __init__(self) -> None:
        self.email = "ada@example.com"
        self.url = ""
        self.lock = threading.RLock()
        self.clear()

    def clear(self) -> None:
        """Everything is as in the beginning."""
        self.redirect_uris: set[str] = set()
        self.asked: list[Asked] = []
        # For the next requests to the API: what they are answered with; None is what they asked for.
        self.next: deque[Fail | Lost | None] = deque()
        # Who decides that for the requests after them.
        self.trouble: Callable[[Request], Fail | Lost | None] = lambda _: None
        # What the person leaves out when asked for consent, and what the token endpoint fails with.
        self.declined: set[str] = set()
        self.token_failure: Fail | None = None
        # Whether the person may only read this calendar.
        self.read_only = False
        self._codes: dict[str, dict[str, str]] = {}
        self._refresh_tokens: dict[str, str] = {}
        self._access_tokens: set[str] = set()

    # ── what a test does ─────────────────────────────────────────────────────────────────────────────────────────

    def consented(self, page: str) -> dict[str, str]:
        """A person opens the login page, and agrees: what it sends them back with."""
        location = httpx.get(page, verify=NO_TLS).headers["location"]
        return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}

    def withdraw(self) -> None:
        """The person withdraws every consent."""
        with self.lock:
            self._refresh_tokens.clear()
            self._access_tokens.clear()

    def expire_access(self) -> None:
        """All access tokens run out."""
        with self.lock:
            self._access_tokens.clear()

    @property
    def tokens(self) -> set[str]:
        """All that let somebody in at the moment."""
        with self.lock:
            return self._access_tokens | set(self._refresh_tokens)

    @contextmanager
    def listening(self, port: int = 0) -> Iterator[Any]:
        """Inside, it answers."""
        routes = [
            Route(self.login_path, self._login),
            Route(self.token_path, self._token, methods=["POST"]),
            *self.routes(),
        ]
        listener = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(
            uvicorn.Config(Starlette(routes=routes), log_level="critical", ws="none", date_header=False)
        )
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join(10)
            listener.close()

    # ── what each server has of its own ──────────────────────────────────────────────────────────────────────────

    def routes(self) -> list[Route]:
        """Of the API, and what else it has."""
        raise NotImplementedError

    def failure(self, status: int, code: str, message: str = "No.") -> Response:
        """An error in the API's form."""
        raise NotImplementedError

    # ── how it works ─────────────────────────────────────────────────────────────────────────────────────────────

    def guarded(self, answer: Callable[[Request, bytes], Response]) -> Answer:
        """A route of the API."""

        async def run(request: Request) -> Response:
            body = await request.body()
            asked = Asked(request.method, request.url.path, dict(request.query_params), dict(request.headers), body)
            with self.lock:
                self.asked.append(asked)
                token = request.headers.get("authorization", "").removeprefix("Bearer ")
                if token not in self._access_tokens:
                    return self.unauthorized()
                trouble = self.next.popleft() if self.next else self.trouble(request)
                if isinstance(trouble, Fail):
                    failed = self.failure(trouble.status, trouble.code)
                    failed.headers.update(trouble.headers)
                    return failed
                response = answer(request, body)
            return _Broken() if isinstance(trouble, Lost) else response

        return run

    def unauthorized(self) -> Response:
        """The answer to a token that is not good."""
        raise NotImplementedError

    async def _login(self, request: Request) -> Response:
        given = dict(request.query_params)
        asked = given.get("scope", "").split()
        wrong = (
            given.get("client_id") != CLIENT_ID
            or given.get("redirect_uri") not in self.redirect_uris
            or given.get("response_type") != "code"
            or given.get("code_challenge_method") != "S256"
            or not given.get("code_challenge")
            or not all(name in self.scopes or name.rpartition("/")[2] in self.scopes for name in asked)
        )
        if wrong:
            return Response("This request is not valid", 400)
        code = secrets.token_urlsafe(24)
        with self.lock:
            self._codes[code] = given
        answer = {"code": code} | ({"state": given["state"]} if "state" in given else {})
        return RedirectResponse(f"{given['redirect_uri']}?{urlencode(answer)}", 302)

    async def _token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        if request.headers.get("content-type") != "application/x-www-form-urlencoded":
            return JSONResponse({"error": "invalid_request"}, 400)
        with self.lock:
            if self.token_failure is not None:
                return JSONResponse({"error": self.token_failure.code}, self.token_failure.status)
            if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
                return JSONResponse({"error": "invalid_client"}, 401)
            if form.get("grant_type") == "authorization_code":
                return self._exchange(form)
            if form.get("grant_type") == "refresh_token":
                return self._refresh(form)
        return JSONResponse({"error": "unsupported_grant_type"}, 400)

    def _exchange(self, form: dict[str, str]) -> Response:
        # A code works once, also when what comes with it is wrong.
        asked = self._codes.pop(form.get("code", ""), None)
        hashed = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form.get("redirect_uri"):
            return JSONResponse({"error": "invalid_grant", "error_description": "Bad code"}, 400)
        scope = " ".join(name for name in asked["scope"].split() if name not in self.declined)
        lasting = self.is_lasting(asked)
        refresh_token = self._new_refresh_token(scope) if lasting else None
        return self._given(scope, refresh_token)

    def is_lasting(self, asked: dict[str, str]) -> bool:
        """Whether the login page was asked for a refresh token."""
        raise NotImplementedError

    def _refresh(self, form: dict[str, str]) -> Response:
        token = form.get("refresh_token", "")
        scope = self._refresh_tokens.get(token)
        if scope is None:
            return JSONResponse({"error": "invalid_grant", "error_description": "Token has been revoked."}, 400)
        if self.rotates:
            return self._given(scope, self._new_refresh_token(scope))
        return self._given(scope, None)

    def _new_refresh_token(self, scope: str) -> str:
        token = f"refresh-{secrets.token_urlsafe(24)}"
        self._refresh_tokens[token] = scope
        return token

    def _given(self, scope: str, refresh_token: str | None) -> Response:
        token = f"access-{secrets.token_urlsafe(24)}"
        self._access_tokens.add(token)
        more = {} if refresh_token is None else {"refresh_token": refresh_token}
        return JSONResponse(
            {"access_token": token, "expires_in": 3599, "token_type": "Bearer", "scope": scope, **more},
            headers={"Cache-Control": "no-store"},
        )

    def revoked(self, token: str) -> bool:
        """Take a token back, and say whether there was one."""
        with self.lock:
            known = self._refresh_tokens.pop(token, None) is not None
            if known:
                self._access_tokens.clear()
            return known


class _Broken(Response):
    """An answer whose connection breaks."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


def http_date(seconds: float) -> str:
    """A time of HTTP headers."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))
