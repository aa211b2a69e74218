"""Conversations with the assistant as a client has them, with a model that a test speaks for."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from tests.callers import Caller
from tests.peers.models import Models

CONVERSATIONS = "/admin/assistant/conversations"
SETTINGS = "/admin/assistant/settings"

Events = list[dict[str, Any]]


def employ(admin: Caller, models: Models, provider: str = "openai_compatible") -> None:
    """Let the organization's assistant use this model."""
    where = {"provider": provider, "model": "small", "base_url": models.base_url(provider), "key": "sk-key-of-tests-1"}
    admin.ok("PUT", SETTINGS, where)
    models.got.clear()


class Talk:
    """One person's conversation."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.id = caller.ok("POST", CONVERSATIONS, {})["id"]
        self.path = f"{CONVERSATIONS}/{self.id}"

    def say(self, text: str = "Who is Ada?", **more: Any) -> Events:
        """What happens until the answer is given."""
        response = self.caller.post(f"{self.path}/messages", {"text": text, **more})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        return read_events(response.text)

    def saying(self, text: str = "Who is Ada?") -> Callable[[], Events]:
        """The same while the test goes on; what is answered waits for the end."""
        found: list[Events] = []
        thread = threading.Thread(target=lambda: found.append(self.say(text)))
        thread.start()

        def end() -> Events:
            thread.join(20)
            return found[0]

        return end

    def messages(self, after: int = 0) -> list[dict[str, Any]]:
        """What was said."""
        data: list[dict[str, Any]] = self.caller.ok("GET", f"{self.path}/messages", after=after)["data"]
        return data

    def trace(self, caller: Caller | None = None) -> list[dict[str, Any]]:
        """What was sent to the provider."""
        data: list[dict[str, Any]] = (caller or self.caller).ok("GET", f"{self.path}/trace", limit=50)["data"]
        return data


def read_events(text: str) -> Events:
    """Server-sent events."""
    found = []
    for block in filter(None, text.split("\n\n")):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if "data" in fields:
            event = json.loads(fields["data"])
            assert event["type"] == fields["event"]
            found.append(event)
    return found


def kinds(events: Events) -> list[str]:
    """What happened, pieces of text as one."""
    found: list[str] = []
    for event in events:
        if not (event["type"] == "text" and found[-1:] == ["text"]):
            found.append(event["type"])
    return found


def text_of(events: Events) -> str:
    """All that the model said."""
    return "".join(event["text"] for event in events if event["type"] == "text")
