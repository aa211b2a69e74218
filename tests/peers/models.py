"""A server of language models that says what a test tells it to: by Anthropic's Messages API and by OpenAI's chat API,
both as streams, with the errors that their documentation names.
"""

from __future__ import annotations

import json
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, NamedTuple

MESSAGES, CHAT = "/v1/messages", "/v1/chat/completions"
# Usage of each answer: input and output.
USED = (100, 20)


class Call(NamedTuple):
    """A tool that the model calls. Arguments that are text are sent as they are."""

    name: str
    arguments: dict[str, Any] | str


class Say(NamedTuple):
    """An answer: pieces of text, and calls."""

    texts: Sequence[str] = ("Hello", ", ", "Ada.")
    calls: Sequence[Call] = ()
    # How it ends, by the words of the Messages API.
    stop: str = ""
    thought: str = ""


class Fail(NamedTuple):
    """A refusal. `kind` is the error's type, or its code."""

    status: int
    kind: str
    message: str = "No."
    headers: dict[str, str] = {}  # noqa: RUF012 -- never changed


class Break(NamedTuple):
    """The connection ends in the middle of an answer: of its text, or of the arguments of a call."""

    texts: Sequence[str] = ("Hel",)
    call: Call | None = None


class Hang(NamedTuple):
    """An answer that begins and does not go on, until the other side hangs up."""

    texts: Sequence[str] = ("Hel",)


class FailInside(NamedTuple):
    """An error in the middle of an answer, whose status was 200."""

    kind: str
    message: str = "No."


Reply = Say | Fail | Break | Hang | FailInside


class Asked(NamedTuple):
    """A request that came."""

    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.content)
        return body

    @property
    def last(self) -> str:
        """What came with the last turn, whoever said it, as text."""
        return "\n".join(_texts(self.body["messages"][-1].get("content")))


class Models:
    """The server. `answer` says what it does with each request."""

    def __init__(self) -> None:
        self.got: list[Asked] = []
        self.answer: Callable[[Asked], Reply] = lambda _: Say()
        # Of `Hang`: it has begun, and its client hung up.
        self.hanging = threading.Event()
        self.hung_up = threading.Event()
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()}, content)
                peer.got.append(asked)
                _Turn(self, asked, peer).take(peer.answer(asked))

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.root = f"http://127.0.0.1:{self.server.server_port}"

    def says(self, *replies: Reply) -> None:
        """Answer so, one after the other."""
        waiting = iter(replies)
        self.answer = lambda _: next(waiting)

    def base_url(self, provider: str) -> str:
        """The address for this kind of provider."""
        return self.root if provider == "anthropic" else f"{self.root}/v1"

    @contextmanager
    def listening(self) -> Iterator[Models]:
        """Inside, it answers."""
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()


class _Turn:
    """One answer, in the dialect of its address."""

    ids = count(1)

    def __init__(self, handler: BaseHTTPRequestHandler, asked: Asked, peer: Models) -> None:
        self._handler = handler
        self._asked = asked
        self._peer = peer
        self._dialect: type[_Messages | _Chat] = _Messages if asked.path == MESSAGES else _Chat

    def take(self, reply: Reply) -> None:
        if self._asked.path not in {MESSAGES, CHAT}:
            reply = Fail(404, "not_found_error")
        if isinstance(reply, Fail):
            return self._refuse(reply)
        handler = self._handler
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.send_header("Connection", "close")
        handler.end_headers()
        dialect = self._dialect(self._asked, next(self.ids))
        if isinstance(reply, Say):
            return self._send(dialect.whole(reply))
        if isinstance(reply, FailInside):
            return self._send([*dialect.beginning(), dialect.error(reply)])
        begun = [*dialect.beginning(), *dialect.begun(reply.texts)]
        if isinstance(reply, Break) and reply.call is not None:
            begun += dialect.calling(reply.call, len(reply.texts))[:-1]
        self._send(begun)
        if isinstance(reply, Hang):
            self._peer.hanging.set()
            # Readable, and nothing to read: it is closed.
            select.select([handler.connection], [], [], 30)
            self._peer.hung_up.set()
        return None

    def _send(self, events: Sequence[tuple[str | None, Any]]) -> None:
        for name, data in events:
            text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
            self._handler.wfile.write((f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode())
            self._handler.wfile.flush()
        self._handler.close_connection = True

    def _refuse(self, fail: Fail) -> None:
        content = json.dumps(self._dialect.refusal(fail)).encode()
        handler = self._handler
        handler.send_response(fail.status)
        for name, value in {"retry-after-ms": "1", **fail.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


Events = list[tuple[str | None, Any]]


class _Messages:
    """https://platform.claude.com/docs/en/build-with-claude/streaming."""

    def __init__(self, asked: Asked, number: int) -> None:
        self._asked = asked
        self._number = number

    def beginning(self) -> Events:
        message = {
            "id": f"msg_{self._number}",
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": self._asked.body["model"],
            "stop_reason": None,
            "usage": {"input_tokens": USED[0] - 60, "cache_read_input_tokens": 60, "output_tokens": 1},
        }
        return [("message_start", {"type": "message_start", "message": message}), ("ping", {"type": "ping"})]

    def begun(self, texts: Sequence[str], index: int = 0) -> Events:
        return [
            self._start(index, {"type": "text", "text": ""}),
            *(self._delta(index, {"type": "text_delta", "text": text}) for text in texts),
        ]

    def whole(self, say: Say) -> Events:
        blocks: list[Events] = []
        if say.thought:
            blocks.append(
                [
                    self._start(0, {"type": "thinking", "thinking": "", "signature": ""}),
                    self._delta(0, {"type": "thinking_delta", "thinking": say.thought}),
                    self._delta(0, {"type": "signature_delta", "signature": f"signed {say.thought}"}),
                ]
            )
        if say.texts:
            blocks.append(self.begun(say.texts, len(blocks)))
        for call in say.calls:
            blocks.append(self.calling(call, len(blocks)))
        stop = say.stop or ("tool_use" if say.calls else "end_turn")
        end = {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": USED[1]}}
        events = self.beginning()
        for index, block_events in enumerate(blocks):
            stopped = {"type": "content_block_stop", "index": index}
            events += [*block_events, ("content_block_stop", stopped)]
        return [*events, ("message_delta", end), ("message_stop", {"type": "message_stop"})]

    def calling(self, call: Call, index: int) -> Events:
        block = {"type": "tool_use", "id": f"toolu_{self._number}_{index}", "name": call.name, "input": {}}
        parts = [self._delta(index, {"type": "input_json_delta", "partial_json": part}) for part in _halves(call)]
        return [self._start(index, block), *parts]

    @staticmethod
    def _start(index: int, block: dict[str, Any]) -> tuple[str, Any]:
        return "content_block_start", {"type": "content_block_start", "index": index, "content_block": block}

    @staticmethod
    def _delta(index: int, delta: dict[str, Any]) -> tuple[str, Any]:
        return "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}

    @staticmethod
    def error(fail: FailInside) -> tuple[str, Any]:
        return "error", {"type": "error", "error": {"type": fail.kind, "message": fail.message}}

    @staticmethod
    def refusal(fail: Fail) -> Any:
        return {"type": "error", "error": {"type": fail.kind, "message": fail.message}, "request_id": "req_1"}


class _Chat:
    """https://platform.openai.com/docs/api-reference/chat-streaming."""

    STOPS = {"max_tokens": "length", "refusal": "content_filter", "end_turn": "stop", "tool_use": "tool_calls"}  # noqa: RUF012

    def __init__(self, asked: Asked, number: int) -> None:
        self._asked = asked
        self._number = number

    def beginning(self) -> Events:
        return [self._chunk({"role": "assistant", "content": ""})]

    def begun(self, texts: Sequence[str]) -> Events:
        return [self._chunk({"content": text}) for text in texts]

    def whole(self, say: Say) -> Events:
        events = [*self.beginning(), *self.begun(say.texts)]
        for index, call in enumerate(say.calls):
            events += self.calling(call, index, say.thought)
        events.append(self._chunk({}, self.STOPS[say.stop or ("tool_use" if say.calls else "end_turn")]))
        if self._asked.body.get("stream_options", {}).get("include_usage"):
            usage = {"prompt_tokens": USED[0], "completion_tokens": USED[1], "total_tokens": sum(USED)}
            events.append((None, {**self._of(), "choices": [], "usage": usage}))
        return [*events, (None, "[DONE]")]

    def calling(self, call: Call, index: int, thought: str = "") -> Events:
        first, second = _halves(call)
        function = {"name": call.name, "arguments": first}
        begun = {"index": index, "id": f"call_{self._number}_{index}", "type": "function", "function": function}
        if thought:  # as Google's models do
            begun["extra_content"] = {"google": {"thought_signature": f"signed {thought}"}}
        rest = {"index": index, "function": {"arguments": second}}
        return [self._chunk({"tool_calls": [begun]}), self._chunk({"tool_calls": [rest]})]

    def _of(self) -> dict[str, Any]:
        model = self._asked.body["model"]
        return {"id": f"c_{self._number}", "object": "chat.completion.chunk", "created": 1, "model": model}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> tuple[None, Any]:
        return None, {**self._of(), "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    @staticmethod
    def error(fail: FailInside) -> tuple[None, Any]:
        return None, {"error": {"message": fail.message, "type": fail.kind, "code": None}}

    @staticmethod
    def refusal(fail: Fail) -> Any:
        return {"error": {"message": fail.message, "type": fail.kind, "param": None, "code": fail.kind}}


def _halves(call: Call) -> tuple[str, str]:
    text = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments, ensure_ascii=False)
    return text[: len(text) // 2], text[len(text) // 2 :]


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            yield from _texts(part.get("text") or part.get("content"))
