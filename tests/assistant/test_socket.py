"""Conversations over a WebSocket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from litestar.exceptions import WebSocketDisconnect
from litestar.testing import WebSocketTestSession

from app.admin.assistant import socket as socket_module
from tests.assistant.talks import Talk, employ, kinds, text_of
from tests.callers import Caller
from tests.peers.models import Hang, Models, Say

PATH = "/admin/assistant/ws"


@contextmanager
def connected(caller: Caller, path: str = PATH, *, token: str | None = None) -> Iterator[WebSocketTestSession]:
    with caller.client.websocket_connect(path) as socket:
        if token is None:
            token = caller.headers["Authorization"].removeprefix("Bearer ")
        socket.send_json({"type": "auth", "token": token})
        yield socket


def until_done(socket: WebSocketTestSession) -> list[dict[str, Any]]:
    events = [socket.receive_json(timeout=10)]
    while events[-1]["type"] != "done":
        events.append(socket.receive_json(timeout=10))
    return events


@pytest.fixture
def talk(admin: Caller, agent: Caller, models: Models) -> Talk:
    employ(admin, models)
    return Talk(agent)


def test_a_conversation_goes_over_a_websocket_by_the_same_events(talk: Talk, models: Models) -> None:
    models.says(Say(("She is ", "a countess.")), Say(("Yes.",)))
    with connected(talk.caller) as socket:
        assert socket.receive_json(timeout=10) == {"type": "ready"}
        socket.send_json({"type": "message", "conversation_id": talk.id, "text": "Who is Ada?"})
        events = until_done(socket)
        assert kinds(events) == ["text", "usage", "done"]
        assert text_of(events) == "She is a countess."
        assert {event["conversation_id"] for event in events} == {talk.id}
        socket.send_json({"type": "message", "conversation_id": talk.id, "text": "Really?"})
        assert text_of(until_done(socket)) == "Yes."
    assert [each["role"] for each in talk.messages()] == ["user", "assistant", "user", "assistant"]


def test_an_answer_is_cancelled_over_a_websocket(talk: Talk, models: Models) -> None:
    models.says(Hang(("She is",)))
    with connected(talk.caller) as socket:
        socket.receive_json(timeout=10)
        socket.send_json({"type": "message", "conversation_id": talk.id, "text": "Who is Ada?"})
        assert socket.receive_json(timeout=10)["text"] == "She is"
        socket.send_json({"type": "cancel", "conversation_id": talk.id})
        assert until_done(socket)[-1]["status"] == "cancelled"


def test_an_answer_goes_on_where_the_connection_breaks(talk: Talk, models: Models) -> None:
    models.says(Hang(("She is",)))
    with connected(talk.caller) as socket:
        socket.receive_json(timeout=10)
        socket.send_json({"type": "message", "conversation_id": talk.id, "text": "Who is Ada?"})
        socket.receive_json(timeout=10)
    assert talk.caller.ok("GET", talk.path)["answering"] is True
    assert not models.hung_up.is_set()
    talk.caller.ok("POST", f"{talk.path}/cancel")
    assert models.hung_up.wait(10)


def test_what_is_refused_is_told_as_an_error_and_the_connection_stays(talk: Talk, models: Models) -> None:
    models.says(Say(("Yes.",)))
    with connected(talk.caller) as socket:
        socket.receive_json(timeout=10)
        for message, code in (
            ({"type": "message", "conversation_id": 2**62, "text": "Hello"}, "CONVERSATION_NOT_FOUND"),
            ({"type": "message", "conversation_id": talk.id, "text": " "}, "INVALID_REQUEST"),
            ({"type": "message", "conversation_id": talk.id, "text": 7}, "INVALID_REQUEST"),
            ({"type": "message", "conversation_id": -1, "text": "Hello"}, "INVALID_REQUEST"),
            ({"type": "dance"}, "INVALID_REQUEST"),
            ([], "INVALID_REQUEST"),
        ):
            socket.send_json(message)
            told = socket.receive_json(timeout=10)
            assert (told["type"], told["code"]) == ("error", code), told
        socket.send_json({"type": "message", "conversation_id": talk.id, "text": "Hello"})
        assert text_of(until_done(socket)) == "Yes."


def test_in_silence_there_are_pings_so_that_no_proxy_cuts_the_connection(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_module, "LOOK_SECONDS", 0.01)
    with connected(talk.caller) as socket:
        assert socket.receive_json(timeout=10) == {"type": "ready"}
        monkeypatch.setattr(socket_module, "SILENT_SECONDS", 0.0)
        assert socket.receive_json(timeout=10) == {"type": "ping"}


def test_the_token_is_in_the_first_message_and_nowhere_else(talk: Talk) -> None:
    token = talk.caller.headers["Authorization"].removeprefix("Bearer ")
    with talk.caller.client.websocket_connect(f"{PATH}?token={token}") as socket, pytest.raises(WebSocketDisconnect):
        socket.receive_json(timeout=10)
    with talk.caller.client.websocket_connect(PATH, headers=talk.caller.headers) as socket:
        socket.send_json({"type": "message", "conversation_id": talk.id, "text": "Hello"})
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json(timeout=10)
        assert closed.value.code == 1008


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c", "ä"])
def test_a_wrong_token_is_told_and_closes(talk: Talk, token: str) -> None:
    with connected(talk.caller, token=token) as socket:
        assert socket.receive_json(timeout=10)["code"] in {"INVALID_TOKEN", "INVALID_TOKEN_FORMAT"}
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json(timeout=10)
        assert closed.value.code == 1008
