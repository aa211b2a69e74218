"""What a real model does with the assistant. It is the smallest that speaks, and chooses tools badly: it shows what
proposals are for.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.admin.tools.catalogue import TOOLS
from app.assistant import provider
from app.assistant.provider import Message, Model, Piece, Provider, Stop, Text, Usage
from tests.assistant.talks import CONVERSATIONS, SETTINGS, Talk, employ, kinds, read_events
from tests.callers import Caller
from tests.peers.llama import calling, constrained, llama
from tests.peers.models import Asked, Call, Models, Say
from tests.processes import Service

pytest.importorskip("xllamacpp", reason="a real model is tried where it is installed: make small-model")

EXAMPLE = {"first_name": "Bob", "last_name": "Stone", "email": "bob@stone.test", "customer_id": 7}
AS_BEFORE = ("create_record", {"type": "contact", "values": EXAMPLE})


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


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A running `crm serve`, on a database of its own."""
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    allowed = {"ENCRYPTION_KEYS": key, "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1/32", "ASSISTANT_MAX_TOKENS": "100"}
    running = Service(tmp_path / "data", **allowed)
    try:
        yield running
    finally:
        running.stop()


def test_a_running_service_talks_with_it_and_it_creates_a_contact_by_proposal_and_approval(
    address: str, service: Service, models: Models
) -> None:
    """It chooses the tool and fills in the arguments by itself. So small a model has to be held to what tools take: its
    own server does not do that, and `calling` does.
    """
    token = service.token("admin")

    def ok(method: str, path: str, body: Any = None, **query: str) -> Any:
        answer = service.call(method, path, token, json=body, params=query)
        assert answer.is_success, answer.text
        return answer.json()

    def say(base_url: str, text: str) -> list[dict[str, Any]]:
        ok("PUT", SETTINGS, {"provider": "openai_compatible", "model": "smollm2-135m", "base_url": base_url})
        conversation = ok("POST", CONVERSATIONS, {})["id"]
        answer = service.call("POST", f"{CONVERSATIONS}/{conversation}/messages", token, json={"text": text})
        return read_events(answer.text)

    # Without anything between, it speaks until it may not go on.
    events = say(f"{address}/v1", "Say hello.")
    assert kinds(events)[:2] == ["text", "usage"]
    assert events[-1]["type"] == "done"
    customer = ok("POST", "/admin/customers", {"name": "Navy"})["id"]
    models.answer = calling(address, ("Create a contact of customer 7: Bob Stone, bob@stone.test", *AS_BEFORE))
    events = say(
        models.base_url("openai_compatible"),
        f"Create a contact of customer {customer}: Grace Hopper, grace@example.com",
    )
    (call,) = [event for event in events if event["type"] == "tool_call"]
    assert call["name"] == "create_record"
    (proposal,) = [event for event in events if event["type"] == "proposal"]
    assert ok("GET", f"/admin/customers/{customer}/contacts")["data"] == []
    ok("POST", f"/admin/proposals/{proposal['proposal_id']}/approve")
    (made,) = ok("GET", f"/admin/customers/{customer}/contacts")["data"]
    assert (made["first_name"], made["last_name"], made["email"]) == ("Grace", "Hopper", "grace@example.com")
    (entry,) = ok("GET", "/admin/audit", resource_type="contact")["data"]
    assert (entry["action"], entry["via"]) == ("create", "assistant")


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
