"""A network between the service and a peer that loses requests and answers, and during which other things happen."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# Of one connection to the next, and for the other side only.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class Trouble(Enum):
    """What becomes of a request."""

    UNREACHED = auto()
    # The peer does what it was asked for, and nobody hears of it.
    UNANSWERED = auto()


class Unreliable:
    """A proxy. `before` and `after` are called with the number of each request since `calm`, and may return trouble."""

    def __init__(self, peer: str) -> None:
        self._peer = urlsplit(peer).netloc
        self.url = ""
        self.calm()

    def calm(self) -> None:
        """From now on nothing happens, and requests are counted anew."""
        self.before: Callable[[int], Trouble | None] = lambda _: None
        self.after: Callable[[int], Trouble | None] = lambda _: None
        self.methods: list[str] = []

    @contextmanager
    def listening(self) -> Iterator[Unreliable]:
        """Listen until the block ends."""
        with ThreadingHTTPServer(("127.0.0.1", 0), self._handler()) as server:
            self.url = f"http://127.0.0.1:{server.server_port}"
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield self
            finally:
                server.shutdown()

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:  # noqa: N805 -- the handler's own is `self`
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                number = len(proxy.methods)
                proxy.methods.append(self.command)
                self.close_connection = True
                if proxy.before(number) is Trouble.UNREACHED:
                    return
                connection = http.client.HTTPConnection(proxy._peer, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
                connection.request(self.command, self.path, body, headers)
                response = connection.getresponse()
                content = response.read()
                connection.close()
                if proxy.after(number) is Trouble.UNANSWERED:
                    return
                self.send_response_only(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_PROPFIND = do_REPORT = do_GET = do_PUT = do_DELETE = do_POST = do_PATCH = answer  # noqa: N815 -- the library's names

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler
