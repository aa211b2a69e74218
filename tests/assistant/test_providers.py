"""Models of all providers: what is sent to them, what comes back, and what a failure is called."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import pytest

from app.assistant import provider
from app.assistant.provider import (
    Message,
    Model,
    Piece,
    Provider,
    ProviderError,
    Stop,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from app.web.addresses import Addresses
from tests.peers.models import Break, Call, Fail, FailInside, Hang, Models, Say

TOOL = ToolSpec(
    "get_record",
    "Reads a record.",
    {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
)
QUESTION = Message("user", [Text("Who is Ada?")])
BOTH = pytest.mark.parametrize("kind", [Provider.ANTHROPIC, Provider.OPENAI_COMPATIBLE])


def model_at(models: Models, kind: Provider, **more: Any) -> Model:
    return Model(provider=kind, name="small", key="sk-secret", base_url=models.base_url(kind), **more)


async def pieces_of(model: Model, *messages: Message, tools: Sequence[ToolSpec] = (TOOL,)) -> list[Piece]:
    return [piece async for piece in provider.stream(model, "You help.", messages or [QUESTION], tools, 512)]


def ask(model: Model, *messages: Message) -> list[Piece]:
    return asyncio.run(pieces_of(model, *messages))


def failure(model: Model) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        ask(model)
    return caught.value


@BOTH
def test_an_answer_comes_in_pieces_and_says_what_it_cost(models: Models, kind: Provider) -> None:
    assert ask(model_at(models, kind)) == [Text("Hello"), Text(", "), Text("Ada."), Usage(100, 20), Stop("end")]
    (asked,) = models.got
    key = asked.headers.get("x-api-key") or asked.headers["authorization"]
    assert key.removeprefix("Bearer ") == "sk-secret"
    body = asked.body
    assert (body["model"], body["max_tokens"], body["stream"]) == ("small", 512, True)
    assert "temperature" not in body
    assert asked.last == "Who is Ada?"


@BOTH
def test_calls_come_whole_and_go_back_with_their_results(models: Models, kind: Provider) -> None:
    models.says(
        Say(("Let me look.",), (Call("get_record", {"id": 12}), Call("get_record", {"id": 13}))), Say(("Done",))
    )
    model = model_at(models, kind)
    said, first, second, _, stop = ask(model)
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert [(call.name, call.arguments) for call in (first, second)] == [
        ("get_record", {"id": 12}),
        ("get_record", {"id": 13}),
    ]
    assert stop == Stop("tool_calls")
    assert isinstance(said, Text)
    results = [ToolResult(first.id, "Ada"), ToolResult(second.id, "There is none", is_error=True)]
    ask(model, QUESTION, Message("assistant", [said, first, second]), Message("tool", [*results]))
    turns = models.got[-1].body["messages"]
    if kind is Provider.ANTHROPIC:
        _, assistant, results_turn = turns
        assert [block["type"] for block in assistant["content"]] == ["text", "tool_use", "tool_use"]
        assert assistant["content"][1] == {
            "type": "tool_use",
            "id": first.id,
            "name": "get_record",
            "input": {"id": 12},
        }
        assert [block["is_error"] for block in results_turn["content"]] == [False, True]
        assert results_turn["role"] == "user"
    else:
        _, _, assistant, *answers = turns
        assert [call["id"] for call in assistant["tool_calls"]] == [first.id, second.id]
        assert assistant["tool_calls"][0]["function"] == {"name": "get_record", "arguments": '{"id": 12}'}
        assert answers == [
            {"role": "tool", "tool_call_id": first.id, "content": "Ada"},
            {"role": "tool", "tool_call_id": second.id, "content": "There is none"},
        ]


def test_thoughts_go_back_to_who_had_them_and_to_nobody_else(models: Models) -> None:
    models.answer = lambda _: Say(("Hm.",), (Call("get_record", {"id": 1}),), thought="secret")
    claude = model_at(models, Provider.ANTHROPIC)
    thought, said, call, *_ = ask(claude)
    assert isinstance(thought, Thought)
    assert isinstance(said, Text)
    assert isinstance(call, ToolCall)
    turn = Message("assistant", [thought, said, call])
    result = Message("tool", [ToolResult(call.id, "Ada")])
    ask(claude, QUESTION, turn, result)
    sent = models.got[-1].body["messages"][1]["content"][0]
    assert sent == {"type": "thinking", "thinking": "secret", "signature": "signed secret"}
    ask(model_at(models, Provider.OPENAI_COMPATIBLE), QUESTION, turn, result)
    assert b"secret" not in models.got[-1].content
    # Google's are at the call.
    gemini = model_at(models, Provider.GOOGLE)
    _, call, *_ = ask(gemini)
    assert isinstance(call, ToolCall)
    ask(gemini, QUESTION, Message("assistant", [call]), Message("tool", [ToolResult(call.id, "Ada")]))
    (sent,) = models.got[-1].body["messages"][2]["tool_calls"]
    assert sent["extra_content"] == {"google": {"thought_signature": "signed secret"}}


@BOTH
@pytest.mark.parametrize("written", ['{"id": ', "[1]", "7"])
def test_arguments_that_are_no_object_are_said_to_be_malformed(models: Models, kind: Provider, written: str) -> None:
    models.says(Say((), (Call("get_record", written),)))
    call = ask(model_at(models, kind))[0]
    assert isinstance(call, ToolCall)
    assert (call.arguments, call.malformed) == ({}, written)


@BOTH
@pytest.mark.parametrize(
    ("fail", "kind_of_error"),
    [
        (Fail(401, "authentication_error"), "key_refused"),
        (Fail(403, "permission_error"), "key_refused"),
        (Fail(402, "billing_error"), "quota"),
        (Fail(400, "invalid_request_error", "Your credit balance is too low to access the API"), "quota"),
        (Fail(429, "insufficient_quota"), "quota"),
        (Fail(429, "rate_limit_error", headers={"retry-after": "7", "retry-after-ms": "1"}), "overloaded"),
        (Fail(529, "overloaded_error"), "overloaded"),
        (Fail(500, "api_error"), "overloaded"),
        (Fail(413, "request_too_large"), "too_long"),
        (Fail(400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), "too_long"),
        (Fail(400, "context_length_exceeded"), "too_long"),
        (Fail(404, "not_found_error"), "other"),
        (Fail(400, "invalid_request_error", "tools.0: is wrong"), "other"),
        (Break(), "ended_early"),
        (FailInside("overloaded_error"), "overloaded"),
    ],
)
def test_each_failure_is_told_apart_and_said_in_words(
    models: Models, kind: Provider, fail: Any, kind_of_error: str
) -> None:
    models.answer = lambda _: fail
    error = failure(model_at(models, kind))
    assert error.kind == kind_of_error
    assert "sk-secret" not in error.message
    assert error.retry_after == (7 if isinstance(fail, Fail) and fail.headers else None)


@BOTH
def test_what_an_answer_cost_is_told_before_it_breaks(models: Models, kind: Provider) -> None:
    models.answer = lambda _: Break(("a long answer " * 20,))

    async def taken() -> tuple[Piece, Piece]:
        async with aclosing(provider.stream(model_at(models, kind), "You help.", [QUESTION], [TOOL], 512)) as pieces:
            text, usage = await anext(pieces), await anext(pieces)
            with pytest.raises(ProviderError):
                await anext(pieces)
            return text, usage

    _, usage = asyncio.run(taken())
    assert isinstance(usage, Usage)
    assert usage.input_tokens > 10


@BOTH
def test_what_broke_in_the_middle_of_a_call_was_used_too(models: Models, kind: Provider) -> None:
    models.answer = lambda _: Break((), Call("search", {"q": "a long question " * 40}))

    async def taken() -> Piece:
        async with aclosing(provider.stream(model_at(models, kind), "You help.", [QUESTION], [TOOL], 512)) as pieces:
            usage = await anext(pieces)
            with pytest.raises(ProviderError) as caught:
                await anext(pieces)
            assert caught.value.kind == "ended_early"
            return usage

    usage = asyncio.run(taken())
    assert isinstance(usage, Usage)
    assert usage.input_tokens > 10
    # Anthropic says at the beginning that it is one token so far; else it is guessed.
    assert usage.output_tokens > 40 or kind is Provider.ANTHROPIC


@BOTH
def test_who_stops_listening_ends_the_connection(models: Models, kind: Provider) -> None:
    models.answer = lambda _: Hang()

    async def stopped() -> None:
        async with aclosing(provider.stream(model_at(models, kind), "", [QUESTION], [], 512)) as pieces:
            assert await anext(pieces) == Text("Hel")
        assert await asyncio.to_thread(models.hung_up.wait, 10)

    async def cancelled() -> None:
        models.hung_up.clear()
        models.hanging.clear()
        task = asyncio.create_task(pieces_of(model_at(models, kind)))
        assert await asyncio.to_thread(models.hanging.wait, 10)
        task.cancel()
        assert await asyncio.to_thread(models.hung_up.wait, 10)

    asyncio.run(stopped())
    asyncio.run(cancelled())


@BOTH
def test_an_address_that_a_client_named_is_checked_where_it_is_connected_to(models: Models, kind: Provider) -> None:
    nowhere, local = Addresses([]), Addresses(["127.0.0.0/8"])
    error = failure(model_at(models, kind, addresses=nowhere))
    assert (error.kind, error.message) == (
        "unreachable",
        "The address is not public: private networks are only called if WEBHOOK_ALLOWED_NETWORKS has them",
    )
    assert models.got == []
    assert ask(model_at(models, kind, addresses=local))[-1] == Stop("end")


@BOTH
def test_a_server_that_speaks_something_else_is_said_to(models: Models, kind: Provider) -> None:
    models.answer = lambda _: Say()
    other = Provider.ANTHROPIC if kind is not Provider.ANTHROPIC else Provider.OPENAI_COMPATIBLE
    error = failure(Model(provider=kind, name="small", key="k", base_url=models.base_url(other)))
    assert error.kind == "other"
    assert "nothing at this address" in error.message
