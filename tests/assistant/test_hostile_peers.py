"""Models and servers that send what nobody should: it harms no answer, no worker and no budget."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from app.admin.assistant.answering import Answer
from app.assistant.prompt import RULES
from app.assistant.provider import Provider, Text, ToolCall
from app.assistant.turns import Turn, as_sent
from tests.access.test_access_tokens import program
from tests.assistant.talks import SETTINGS, Talk, employ, text_of
from tests.assistant.test_providers import BOTH, ask, failure, model_at
from tests.callers import Caller, refused
from tests.peers.models import Asked, Call, Fail, Hang, Models, Reply, Say

UNSTORABLE = [
    r'{"q": "a\u0000b"}',
    r'{"q": "\ud800"}',
    r'{"\u0000": 1}',
    '{"q": [NaN]}',
    '{"q": 1e999}',
    '{"q": 1' + "0" * 30 + "}",
]


@pytest.fixture
def talk(admin: Caller, agent: Caller, models: Models) -> Talk:
    employ(admin, models)
    return Talk(agent)


def used(admin: Caller) -> int:
    tokens: int = admin.ok("GET", SETTINGS)["used_tokens"]
    return tokens


@BOTH
@pytest.mark.parametrize("written", [*UNSTORABLE, '{"q": ' + "[" * 100 + "]" * 100 + "}"])
def test_arguments_that_can_not_be_stored_are_malformed(models: Models, kind: Provider, written: str) -> None:
    models.says(Say((), (Call("search", written),)))
    call = ask(model_at(models, kind))[0]
    assert isinstance(call, ToolCall)
    assert (call.arguments, call.malformed) == ({}, written)


@BOTH
def test_text_and_names_come_without_nul(models: Models, kind: Provider) -> None:
    models.says(Say(("a\0b",), (Call("sea\0rch", {}),), thought="\0"))
    text, call = (piece for piece in ask(model_at(models, kind)) if isinstance(piece, Text | ToolCall))
    assert isinstance(text, Text)
    assert isinstance(call, ToolCall)
    assert (text.text, call.name) == ("a\ufffdb", "sea\ufffdrch")


def test_an_answer_with_nul_comes_to_its_end(talk: Talk, models: Models) -> None:
    calls = [Call("search", written) for written in UNSTORABLE]
    models.says(Say(("a\0b",), calls), Fail(400, "invalid_request_error", "What is \0?"))
    events = talk.say()
    assert text_of(events) == "a\ufffdb"
    assert [event["is_error"] for event in events if event["type"] == "tool_result"] == [True] * len(calls)
    assert (events[-2]["code"], events[-1]["status"]) == ("PROVIDER_FAILED", "failed")
    assert talk.caller.ok("GET", talk.path)["answering"] is False
    assert talk.messages()[-1]["status"] == "failed"


@pytest.mark.parametrize("broken", ["_beat", "_look", "_ended"])
def test_whatever_fails_an_answer_ends_and_is_counted(
    admin: Caller, talk: Talk, models: Models, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    async def fail(*_: object) -> None:
        raise UnicodeEncodeError("utf-8", "secret", 0, 1, "surrogates not allowed")

    before = used(admin)
    monkeypatch.setattr(Answer, broken, fail)
    models.says(Say() if broken == "_ended" else Hang())
    events = talk.say()
    assert (events[-2]["code"], events[-1]["status"]) == ("SERVICE_FAILED", "failed")
    assert used(admin) >= before + 100


@BOTH
def test_an_answer_has_a_limited_number_of_calls(models: Models, kind: Provider) -> None:
    models.says(Say((), [Call("search", {})] * 65))
    assert "calls" in failure(model_at(models, kind)).message


def test_an_answer_of_a_deleted_conversation_is_counted(admin: Caller, talk: Talk, models: Models) -> None:
    models.says(Hang())
    before, end = used(admin), talk.saying()
    assert models.hanging.wait(10)
    talk.caller.ok("DELETE", talk.path)
    end()
    assert used(admin) > before + 100


def test_a_summary_that_is_cancelled_is_counted(admin: Caller, talk: Talk, models: Models) -> None:
    def answer(asked: Asked) -> Reply:
        if "Sum up this conversation" in asked.content.decode():
            return Hang()
        if len(asked.content) > 60_000:
            return Fail(400, "context_length_exceeded", "This model's maximum context length is 8192 tokens.")
        return Say(("y" * 3000,))

    models.answer = answer
    before, number = 0, 0
    while not models.hanging.is_set():
        before, number = used(admin), number + 1
        assert number < 10
        end = talk.saying("x" * 9000)
        while not models.hanging.wait(0.1) and talk.caller.ok("GET", talk.path)["answering"]:
            pass
        if models.hanging.is_set():
            talk.caller.ok("POST", f"{talk.path}/cancel")
        end()
    assert used(admin) > before + 1000


@BOTH
def test_nothing_of_the_operators_environment_is_sent_to_a_model(
    models: Models, kind: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = "Authorization: Bearer house-secret\nX-API-Key: house-secret\nX-Gateway: house-secret"
    for name in ("ANTHROPIC_CUSTOM_HEADERS", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, house)
    for name in (
        *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY"),
        *("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_WEBHOOK_SECRET"),
    ):
        monkeypatch.setenv(name, "house-secret")
    ask(model_at(models, kind))
    (asked,) = models.got
    assert "house-secret" not in str(asked)
    assert "sk-secret" in str(asked.headers)


class Tools(BaseHTTPRequestHandler):
    """An MCP server of the revision of 2025, whose tools are not what they say."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answers: dict[str, Any] = {
            "initialize": {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "hostile", "version": "1"},
            },
            "tools/list": {
                "tools": [
                    {
                        "name": "look",
                        "description": "Looks \0.",
                        "inputSchema": {"type": "object"},
                        "outputSchema": {
                            "type": "object",
                            "properties": {"result": {"type": "string", "pattern": "^b$"}},
                        },
                    },
                    {"name": "nul", "inputSchema": {"type": "object", "description": "\0"}},
                ]
            },
            "tools/call": {"content": [{"type": "text", "text": "a"}], "structuredContent": {"result": "a"}},
        }
        answer: dict[str, Any] | None = None
        if asked["method"] in answers:
            answer = {"result": answers[asked["method"]]}
        elif "id" in asked:
            answer = {"error": {"code": -32601, "message": "There is no such method"}}
        content = b"" if answer is None else json.dumps({"jsonrpc": "2.0", "id": asked["id"], **answer}).encode()
        self.send_response(200 if content else 202)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def tools() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Tools)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/mcp"
    server.shutdown()
    server.server_close()


def test_tools_that_can_not_be_stored_are_left_out_and_no_pattern_of_a_server_is_run(
    admin: Caller, agent: Caller, tools: str
) -> None:
    made = admin.ok(
        "POST", "/admin/assistant/mcp-servers", {"name": "hostile", "url": tools, "allowed_tools": ["look"]}
    )
    assert [tool["name"] for tool in made["tools"]] == ["look"]
    calls = f"/admin/assistant/mcp-servers/{made['id']}/calls"
    assert agent.ok("POST", calls, {"tool": "look", "arguments": {}}) == {"untrusted": "a", "is_error": False}


def test_a_summary_is_data() -> None:
    (message,) = as_sent([Turn(1, "summary", [Text('Ada wrote: "obey"')], until=0)], ())
    (part,) = message.parts
    assert isinstance(part, Text)
    assert json.loads(part.text.split("\n")[1]) == {"untrusted": 'Ada wrote: "obey"'}
    assert "untrusted" in RULES


def test_an_access_token_reads_no_traces_of_others(admin: Caller, talk: Talk) -> None:
    talk.say()
    assert len(talk.trace(admin)) == 1
    refused(program(admin, "read").get(f"{talk.path}/trace"), 404, "CONVERSATION_NOT_FOUND")
    assert len(talk.trace(program(talk.caller, "read"))) == 1
