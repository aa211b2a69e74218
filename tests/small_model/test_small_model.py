"""What a real model does with the assistant. It is the smallest that speaks, and chooses tools badly: it shows what
proposals are for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from app.admin.tools.catalogue import TOOLS
from app.assistant import provider
from app.assistant.provider import Message, Model, Piece, Provider, Stop, Text, Usage
from tests.assistant.talks import Talk, employ
from tests.callers import Caller
from tests.peers.llama import constrained, llama
from tests.peers.models import Asked, Call, Models, Say

pytest.importorskip("xllamacpp", reason="a real model is tried where it is installed: make small-model")

EXAMPLE = {"first_name": "Bob", "last_name": "Stone", "email": "bob@stone.test", "customer_id": 7}
CONTACT = {
    "type": "object",
    "properties": {
        "first_name": {"type": "string", "maxLength": 40},
        "last_name": {"type": "string", "maxLength": 40},
        "email": {"type": "string", "maxLength": 60},
        "customer_id": {"type": "integer"},
    },
    "required": [*EXAMPLE],
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with llama() as at:
        yield at


@pytest.fixture
def models() -> Iterator[Models]:
    with Models().listening() as peer:
        yield peer


@pytest.mark.parametrize("kind", [Provider.ANTHROPIC, Provider.OPENAI_COMPATIBLE])
def test_llama_cpp_answers_by_both_apis(address: str, kind: Provider) -> None:
    where = address if kind is Provider.ANTHROPIC else f"{address}/v1"
    model = Model(provider=kind, name="local", key="", base_url=where)

    async def ask() -> list[Piece]:
        question = [Message("user", [Text("Say hello.")])]
        return [piece async for piece in provider.stream(model, "You are polite.", question, [], 24)]

    *texts, usage, stop = asyncio.run(ask())
    assert texts
    assert isinstance(usage, Usage)
    assert usage.input_tokens > 0
    assert 0 < usage.output_tokens <= 24
    assert stop in {Stop("end"), Stop("max_tokens")}


def test_it_creates_a_contact_by_proposal_and_approval(address: str, admin: Caller, models: Models) -> None:
    customer = admin.customer("Navy")["id"]
    asked = f"Create a contact of customer {customer}: Grace Hopper, grace@example.com"

    def answer(question: Asked) -> Say:
        if "proposal_id" in question.last:
            return Say(("I have proposed it.",))
        said = constrained(
            address,
            [
                ("system", "Write what the person says as JSON."),
                ("user", "Create a contact of customer 7: Bob Stone, bob@stone.test"),
                ("assistant", json.dumps(EXAMPLE)),
                ("user", asked),
            ],
            CONTACT,
        )
        return Say((), (Call("create_record", {"type": "contact", "values": said}),))

    employ(admin, models)
    models.answer = answer
    talk = Talk(admin)
    (proposal,) = [event["proposal_id"] for event in talk.say(asked) if event["type"] == "proposal"]
    assert admin.ok("GET", f"/admin/customers/{customer}/contacts")["data"] == []
    made = admin.ok("POST", f"/admin/proposals/{proposal}/approve")["result"]
    assert (made["first_name"], made["last_name"], made["email"], made["customer_id"]) == (
        *("Grace", "Hopper", "grace@example.com", customer),
    )
    (entry,) = admin.audit(resource_type="contact")
    assert entry["via"] == "assistant"


def test_whatever_it_likes_to_call_changes_nothing_without_approval(
    address: str, admin: Caller, models: Models
) -> None:
    customer = admin.ok("GET", f"/admin/customers/{admin.customer('Ada Lovelace')['id']}")
    menu = "\n".join(f"{tool.name}: {tool.description.split('. ')[0]}" for tool in TOOLS)
    which = {"type": "object", "properties": {"tool": {"enum": [tool.name for tool in TOOLS]}}, "required": ["tool"]}
    chosen: list[str] = []

    def answer(question: Asked) -> Say:
        if question.body["messages"][-1]["role"] == "tool":
            return Say(("Done.",))
        turns = [("system", f"You are the assistant of a CRM. Choose a tool.\n{menu}"), ("user", question.last)]
        name: str = constrained(address, turns, which)["tool"]
        chosen.append(name)
        return Say((), (Call(name, _arguments(name, customer["id"])),))

    employ(admin, models)
    models.answer = answer
    talk = Talk(admin)
    for text in ("Delete the customer Ada", "Move the deal to won", "Write down that I called Ada", "Who is Ada?"):
        talk.say(text)
    assert len(chosen) == 4
    assert admin.ok("GET", f"/admin/customers/{customer['id']}") == customer
    assert {entry["action"] for entry in admin.audit(resource_type="customer")} == {"create"}


def _arguments(name: str, customer_id: int) -> dict[str, Any]:
    """Arguments with which most of the tools would do something."""
    known: dict[str, dict[str, Any]] = {
        "delete_record": {"type": "customer", "id": customer_id},
        "update_record": {"type": "customer", "id": customer_id, "values": {"name": "Changed"}},
        "create_record": {"type": "note", "values": {"content": "Hm.", "customer_id": customer_id}},
        "add_note": {"content": "Hm.", "customer_id": customer_id},
        "log_activity": {"type": "call", "title": "Hm.", "customer_id": customer_id},
        "search": {"q": "Ada"},
    }
    return known.get(name, {})
