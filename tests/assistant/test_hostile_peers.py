"""Models and servers that send what nobody should: it harms no answer, no worker and no budget."""

from __future__ import annotations

import pytest

from app.admin.assistant.answering import Answer
from app.assistant.provider import Provider, Text, ToolCall
from tests.assistant.talks import SETTINGS, Talk, employ, text_of
from tests.assistant.test_providers import BOTH, ask, failure, model_at
from tests.callers import Caller
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
