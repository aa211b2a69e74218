"""The assistant, while its workers are killed."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from typing import Any

import httpx

from tests.peers.models import Asked, Call, Hang, Models, Reply, Say
from tests.processes import Service
from tests.torture.place import Finding, Place, seconds_until

CONVERSATIONS = "/admin/assistant/conversations"
# After so long without a word of its worker an answer is taken for interrupted.
SILENT_SECONDS = 15


def killed_in_the_middle_of_an_answer(place: Place) -> Finding:
    """`kill -9` the worker while the model speaks, after it has proposed something; then look at what is left."""
    kills = place.times(5, 1)
    lost: list[str] = []
    with Models().listening() as models:
        environment = {
            "ASSISTANT_PROVIDER": "openai_compatible",
            "ASSISTANT_MODEL": "small",
            "OPENAI_BASE_URL": models.base_url("openai_compatible"),
        }
        for number in range(kills):
            name = f"Grace {number}"
            token = place.token(place.tenant())
            with place.service(**environment) as service:
                conversation = service.call("POST", CONVERSATIONS, token, json={}).json()["id"]
                _speak_until_killed(service, token, conversation, models, name)
            with place.service(**environment) as service:
                lost += _lost(service, token, conversation, models, name)
    return Finding(
        f"{kills} workers killed in the middle of an answer, a proposal and some words after it had begun",
        ", ".join(lost) or "nothing lost",
        not lost,
    )


def _speak_until_killed(service: Service, token: str, conversation: int, models: Models, name: str) -> None:
    models.hanging.clear()

    def answer(asked: Asked) -> Reply:
        if asked.body["messages"][-1]["role"] == "user":
            return Say((), (Call("create_record", {"type": "customer", "values": {"name": name}}),))
        return Hang(("I have proposed",))

    models.answer = answer

    def ask() -> None:
        with suppress(httpx.HTTPError):
            service.call("POST", f"{CONVERSATIONS}/{conversation}/messages", token, json={"text": f"Note {name}"})

    asking = threading.Thread(target=ask)
    asking.start()
    assert models.hanging.wait(20), "the model was not asked"
    seconds_until(lambda: "I have proposed" in str(_said(service, token, conversation)), 20)
    for worker in service.workers:
        os.kill(worker, signal.SIGKILL)
    service.process.kill()
    service.process.wait(20)
    asking.join(20)


def _lost(service: Service, token: str, conversation: int, models: Models, name: str) -> list[str]:
    """What is not as it was, or does not go on."""
    seconds_until(lambda: not _conversation(service, token, conversation)["answering"], SILENT_SECONDS + 10)
    lost: list[str] = []
    said = _said(service, token, conversation)
    if [(each["role"], each["status"]) for each in said] != [
        ("user", "done"),
        ("assistant", "done"),
        ("tool", "done"),
        ("assistant", "interrupted"),
    ]:
        lost.append(f"turns: {said}")
    waiting = service.call("GET", "/admin/proposals", token, params={"status": "pending"}).json()["data"]
    if len(waiting) != 1:
        return [*lost, f"{len(waiting)} proposals wait instead of one"]
    approved = service.call("POST", f"/admin/proposals/{waiting[0]['id']}/approve", token)
    if not approved.is_success or approved.json()["result"]["name"] != name:
        lost.append(f"the proposal: {approved.text}")
    models.answer = lambda _: Say(("Yes, it is there.",))
    again = service.call("POST", f"{CONVERSATIONS}/{conversation}/messages", token, json={"text": "Is it there?"})
    sent = models.got[-1].content.decode()
    if "Yes, it is there." not in again.text or "I have proposed" not in sent or "was approved" not in sent:
        lost.append(f"the conversation does not go on: {again.text}")
    return lost


def _conversation(service: Service, token: str, conversation: int) -> dict[str, Any]:
    found: dict[str, Any] = service.call("GET", f"{CONVERSATIONS}/{conversation}", token).json()
    return found


def _said(service: Service, token: str, conversation: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.call("GET", f"{CONVERSATIONS}/{conversation}/messages", token).json()["data"]
    return found
