"""Answers of the assistant: what a client hears, what is kept, and what ends them."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.admin.assistant import answering
from app.assistant.loop import Failure
from app.assistant.provider import Model, Provider
from app.assistant.windows import Windows
from tests.admin.test_erasure import erase
from tests.assistant.talks import CONVERSATIONS, SETTINGS, Talk, employ, kinds, text_of
from tests.callers import Caller, refused
from tests.peers.models import Asked, Break, Call, Fail, Hang, Models, Reply, Say


@pytest.fixture
def talk(admin: Caller, agent: Caller, models: Models) -> Talk:
    employ(admin, models)
    return Talk(agent)


def test_an_answer_comes_as_events_and_is_kept(talk: Talk, models: Models) -> None:
    models.says(Say(("She is ", "a ", "countess.")))
    events = talk.say("Who is Ada?")
    assert kinds(events) == ["text", "usage", "done"]
    assert text_of(events) == "She is a countess."
    asked, answered = talk.messages()
    assert (asked["role"], asked["parts"]) == ("user", [{"type": "text", "text": "Who is Ada?"}])
    assert (answered["role"], answered["status"]) == ("assistant", "done")
    assert answered["parts"] == [{"type": "text", "text": "She is a countess."}]
    assert answered["usage"] == {"input_tokens": 100, "output_tokens": 20}
    assert events[-1] == {
        "type": "done",
        "conversation_id": talk.id,
        "message_id": answered["id"],
        "status": "done",
    }
    assert talk.caller.ok("GET", talk.path)["title"] == "Who is Ada?"


@pytest.mark.parametrize("provider", ["openai_compatible", "anthropic"])
def test_the_model_calls_tools_as_the_person(admin: Caller, agent: Caller, models: Models, provider: str) -> None:
    employ(admin, models, provider)
    customer = admin.customer("Ada Lovelace", email="ada@example.com")
    models.says(
        Say(("I look.",), (Call("search", {"q": "lovelace"}),)),
        Say((), (Call("get_record", {"type": "customer", "id": customer["id"]}),)),
        Say(("ada@example.com",)),
    )
    talk = Talk(agent)
    events = talk.say()
    results = [event for event in events if event["type"] == "tool_result"]
    assert [event["name"] for event in events if event["type"] == "tool_call"] == ["search", "get_record"]
    assert [result["is_error"] for result in results] == [False, False]
    assert "ada@example.com" in str(results[1]["content"])
    assert [each["role"] for each in talk.messages()] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert "ada@example.com" in models.got[-1].last
    assert len(talk.trace()) == 3


def test_a_change_is_proposed_and_done_when_the_person_approves_it(talk: Talk, models: Models) -> None:
    models.says(
        Say((), (Call("create_record", {"type": "customer", "values": {"name": "Grace Hopper"}}),)),
        Say(("I proposed it.",)),
    )
    events = talk.say("Grace Hopper called, write her down")
    (proposal,) = [event for event in events if event["type"] == "proposal"]
    assert talk.caller.ok("GET", "/admin/customers")["total"] == 0
    done = talk.caller.ok("POST", f"/admin/proposals/{proposal['proposal_id']}/approve")
    made = done["result"]
    assert made["name"] == "Grace Hopper"
    models.says(Say(("Fine.",)), Say(("Yes.",)))
    talk.say("Thanks")
    told = models.got[-1].last
    assert f"customer {made['id']}" in told
    assert "Thanks" in told
    # It is told once.
    talk.say("And?")
    assert "approved" not in models.got[-1].last


def test_a_stream_that_ends_early_is_an_error_and_what_came_is_kept(talk: Talk, models: Models) -> None:
    models.says(Break(("She ", "is")))
    events = talk.say()
    assert kinds(events)[-2:] == ["error", "done"]
    assert (events[-2]["code"], events[-1]["status"]) == ("PROVIDER_ENDED_EARLY", "failed")
    _, answered = talk.messages()
    assert (answered["status"], answered["error"]["code"]) == ("failed", "PROVIDER_ENDED_EARLY")
    assert answered["parts"][0]["text"].startswith("She")
    models.says(Say(("a countess.",)))
    assert talk.say("Go on")[-1]["status"] == "done"


def test_a_refused_key_is_told_in_words(talk: Talk, models: Models) -> None:
    models.says(Fail(401, "invalid_api_key"))
    events = talk.say()
    assert kinds(events) == ["error", "done"]
    assert events[0]["code"] == "PROVIDER_KEY_REFUSED"


def test_without_a_model_an_answer_is_refused_and_nothing_kept(agent: Caller) -> None:
    talk = Talk(agent)
    refused(agent.post(f"{talk.path}/messages", {"text": "Hello"}), 409, "ASSISTANT_NOT_CONFIGURED")
    assert talk.messages() == []
    refused(agent.post(f"{CONVERSATIONS}/{2**62}/messages", {"text": "Hello"}), 404, "CONVERSATION_NOT_FOUND")


def test_a_conversation_has_one_answer_at_a_time_and_it_can_be_cancelled(talk: Talk, models: Models) -> None:
    models.says(Hang(("She is",)))
    end = talk.saying()
    assert models.hanging.wait(10)
    refused(talk.caller.post(f"{talk.path}/messages", {"text": "And?"}), 409, "ASSISTANT_BUSY")
    assert talk.caller.ok("GET", talk.path)["answering"] is True
    talk.caller.ok("POST", f"{talk.path}/cancel")
    assert models.hung_up.wait(10)
    assert end()[-1]["status"] == "cancelled"
    _, answered = talk.messages()
    assert (answered["status"], answered["parts"]) == ("cancelled", [{"type": "text", "text": "She is"}])
    # Nobody has counted it, and it was used.
    assert answered["usage"]["input_tokens"] > 100
    assert talk.caller.ok("GET", talk.path)["answering"] is False


def test_a_deleted_conversation_ends_its_answer(talk: Talk, models: Models) -> None:
    models.says(Hang())
    end = talk.saying()
    assert models.hanging.wait(10)
    talk.caller.ok("DELETE", talk.path)
    assert models.hung_up.wait(10)
    assert end()[-1]["status"] == "interrupted"


def test_an_answer_has_twenty_rounds_of_tools(talk: Talk, models: Models) -> None:
    models.answer = lambda _: Say((), (Call("my_day", {}),))
    events = talk.say()
    assert events[-2]["code"] == "TOO_MANY_ROUNDS"
    assert kinds(events).count("tool_result") == 20


def test_what_is_no_call_is_answered_with_an_error(talk: Talk, models: Models) -> None:
    models.says(Say((), (Call("no_such_tool", {}), Call("search", "{"), Call("search", {"q": []}))), Say(("Sorry.",)))
    events = talk.say()
    assert [event["is_error"] for event in events if event["type"] == "tool_result"] == [True, True, True]
    assert events[-1]["status"] == "done"


def test_an_idempotency_key_asks_once(talk: Talk, models: Models) -> None:
    models.says(Say(("Once.",)))
    again = {"headers": {"Idempotency-Key": "the-same"}}
    assert "Once." in talk.caller.post(f"{talk.path}/messages", {"text": "Hello"}, **again).text
    second = talk.caller.post(f"{talk.path}/messages", {"text": "Hello"}, **again)
    assert second.headers["Idempotency-Replayed"] == "true"
    asked, answered = talk.messages()
    assert second.json() == {"conversation_id": talk.id, "message_id": asked["id"], "answer_id": answered["id"]}


def test_the_oldest_exchanges_are_summed_up_for_a_model_with_a_small_window(
    admin: Caller, agent: Caller, models: Models
) -> None:
    employ(admin, models)
    talk = Talk(agent)
    sizes: list[int] = []

    def answer(asked: Asked) -> Reply:
        sizes.append(len(asked.content))
        if len(asked.content) > 60_000:
            return Fail(400, "context_length_exceeded", "This model's maximum context length is 8192 tokens.")
        if "Sum up this conversation" in asked.content.decode():
            return Say(("They spoke of engines.",))
        return Say(("Fine. " + "y" * 3000,))

    models.answer = answer
    for number in range(8):
        assert talk.say(f"{number} " + "x" * 6000)[-1]["status"] == "done"
    assert "They spoke of engines." in models.got[-1].content.decode()
    assert "0 xxx" not in models.got[-1].content.decode()
    # What was once too long is not tried again.
    assert sum(size > 60_000 for size in sizes) < 6
    assert [each["role"] for each in talk.messages()] == ["user", "assistant"] * 8
    # The trace has what was sent to be summed up, too, as it was sent.
    (summed_up, *_) = [call for call in talk.trace() if not call["tools"]]
    sent = next(asked.body for asked in models.got if "Sum up this conversation" in asked.content.decode())
    assert summed_up["messages"][0]["parts"][0]["text"] == sent["messages"][1]["content"]


def test_whoever_is_shut_out_hears_no_more(admin: Caller, talk: Talk, models: Models) -> None:
    models.says(Hang(("She is",)))
    end = talk.saying()
    assert models.hanging.wait(10)
    (member,) = [
        each
        for each in admin.ok("GET", "/admin/members")["data"]
        if each["id"] and each["user_id"] == talk.caller.user_id
    ]
    admin.ok("PATCH", f"/admin/members/{member['id']}", {"is_active": False})
    assert models.hung_up.wait(10)
    events = end()
    assert (events[-2]["code"], events[-1]["status"]) == ("NOT_ALLOWED", "failed")


def test_an_answer_takes_a_limited_time(talk: Talk, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "MOST_SECONDS", 0.0)
    models.says(Hang(("She is",)))
    events = talk.say()
    assert models.hung_up.wait(10)
    assert (events[-2]["code"], events[-1]["status"]) == ("TIME_IS_UP", "failed")


def test_the_organizations_tokens_are_counted_and_end_an_answer(admin: Caller, talk: Talk, models: Models) -> None:
    admin.ok("PUT", SETTINGS, {"monthly_tokens": 200})
    models.answer = lambda _: Say((), (Call("my_day", {}),))
    events = talk.say()
    assert events[-2]["code"] == "ASSISTANT_BUDGET_USED"
    assert admin.ok("GET", SETTINGS)["used_tokens"] >= 240
    refused(talk.caller.post(f"{talk.path}/messages", {"text": "And?"}), 429, "ASSISTANT_BUDGET_USED")


def test_a_conversation_is_emptied_with_what_its_proposals_have_made(admin: Caller, models: Models) -> None:
    employ(admin, models)
    talk = Talk(admin)
    models.says(
        Say((), (Call("create_record", {"type": "customer", "values": {"name": "Grace Hopper"}}),)), Say(("Done?",))
    )
    events = talk.say("Write down Grace Hopper")
    (proposal,) = [event for event in events if event["type"] == "proposal"]
    made = admin.ok("POST", f"/admin/proposals/{proposal['proposal_id']}/approve")["result"]
    erase(admin, f"/admin/customers/{made['id']}", "Grace Hopper")
    assert {each["status"] for each in talk.messages()} == {"erased"}
    assert "Grace" not in str(talk.trace())


def test_the_day_is_the_organizations_for_the_model_and_for_the_tools(
    admin: Caller, talk: Talk, models: Models
) -> None:
    admin.ok("PUT", "/admin/settings", {"timezone": "Pacific/Kiritimati"})
    talk.caller.ok("PUT", "/admin/me/notification-settings", {"timezone": "Pacific/Pago_Pago"})
    models.says(Say((), (Call("my_day", {}),)), Say(("Nothing.",)))
    (result,) = [event for event in talk.say("What is due?") if event["type"] == "tool_result"]
    today = datetime.now(ZoneInfo("Pacific/Kiritimati")).date().isoformat()
    assert today in str(result["content"])
    assert f"{today} " in str(models.got[-1].body["messages"][0])


def test_a_proposal_says_what_waits_and_until_when(talk: Talk, models: Models) -> None:
    customer = talk.caller.customer("Ada Lovelace")
    change = {"type": "customer", "id": customer["id"], "values": {"email": "ada@example.com"}}
    models.says(Say((), (Call("update_record", change),)), Say(("I proposed it.",)))
    (event,) = [event for event in talk.say("Ada buys") if event["type"] == "proposal"]
    shown = talk.caller.ok("GET", f"/admin/proposals/{event['proposal_id']}")
    waiting = {name: shown[name] for name in ("summary", "title", "expires_at")}
    assert waiting["title"] == "Ada Lovelace"
    assert event == {
        "type": "proposal",
        "conversation_id": talk.id,
        "proposal_id": shown["id"],
        **waiting,
    }
    (part,) = [part for turn in talk.messages() for part in turn["parts"] if part["type"] == "proposal"]
    assert part == {"type": "proposal", "proposal_id": shown["id"], **waiting}


def test_a_failure_of_the_key_is_shown_until_an_answer_succeeds(admin: Caller, talk: Talk, models: Models) -> None:
    models.says(Fail(402, "insufficient_quota"), Fail(401, "invalid_api_key"), Say(("Hello.",)))
    shown = []
    for _ in range(3):
        talk.say()
        settings = admin.ok("GET", SETTINGS)
        shown.append((settings["failure"], settings["failed_at"] is not None))
    assert shown == [("quota", True), ("key_refused", True), (None, False)]


def test_a_request_that_no_window_takes_says_nothing_of_the_model(talk: Talk, models: Models) -> None:
    models.answer = lambda _: Fail(400, "context_length_exceeded", "It is too long.")
    assert talk.say("x" * 20_000)[-2]["code"] == "TOO_LONG"
    models.says(Say(("Fine. " + "y" * 9000,)), Say(("Fine.",)))
    other = Talk(talk.caller)
    other.say("z" * 9000)
    other.say("And?")
    # All of it is sent, and nothing summed up.
    assert "z" * 9000 in models.got[-1].content.decode()


def test_a_window_is_one_organizations_and_forgotten_after_an_hour() -> None:
    now = [0.0]
    windows = Windows(lambda: now[0])
    model = Model(provider=Provider.OPENAI, name="small", key="", base_url="https://api.openai.com")
    windows.learn("one", model, 4000)
    assert [windows.of(tenant, model, 9000) for tenant in ("one", "other")] == [4000, 9000]
    now[0] = 3601.0
    assert windows.of("one", model, 9000) == 9000


def test_every_code_of_an_error_is_documented() -> None:
    page = Path("docs/assistant.md").read_text().partition("## If something is wrong")[2].partition("\n## ")[0]
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    assert sorted(re.findall("`([A-Z_]+)`", " ".join(rows))) == sorted(Failure)
