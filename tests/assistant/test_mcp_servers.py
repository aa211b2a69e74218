"""Tools of others: how servers are reached, what is believed of them, and that nothing is called without approval."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from msgspec import to_builtins

from app.admin.assistant.mcp_servers.service import NO_ANSWER
from app.db.roles import enter_tenant
from app.settings import Settings
from tests.assistant.talks import Talk, employ
from tests.callers import Caller, Callers, refused
from tests.peers.mcp_server import CLIENT, CLIENT_SECRET, TOKEN, Mailbox
from tests.peers.models import Call, Models, Say
from tests.processes import wait_until

PATH = "/admin/assistant/mcp-servers"


@pytest.fixture(scope="module")
def open_mailbox() -> Iterator[Mailbox]:
    with Mailbox().listening() as server:
        yield server


@pytest.fixture
def mailbox(open_mailbox: Mailbox) -> Mailbox:
    open_mailbox.token, open_mailbox.oauth = None, False
    open_mailbox.sent.clear()
    open_mailbox.seen.clear()
    return open_mailbox


def added(admin: Caller, mailbox: Mailbox, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = admin.ok("POST", PATH, {"name": "mailbox", "url": mailbox.url, **more})
    return made


def test_a_server_is_added_with_its_tools(admin: Caller, mailbox: Mailbox) -> None:
    made = added(admin, mailbox, allowed_tools=["send_mail"])
    assert (made["problem"], made["auth"], made["secret"]) == (None, "none", None)
    assert [(tool["name"], tool["allowed"]) for tool in made["tools"]] == [
        *(("send_mail", True), ("read.all", False), ("fail", False)),
    ]
    assert max(len(tool["description"]) for tool in made["tools"]) < 1100
    assert admin.ok("GET", PATH) == {"data": [made], "total": 1}
    refused(admin.post(PATH, {"name": "mailbox", "url": mailbox.url}), 409, "MCP_SERVER_EXISTS")
    admin.ok("DELETE", f"{PATH}/{made['id']}")
    refused(admin.delete(f"{PATH}/{made['id']}"), 404, "MCP_SERVER_NOT_FOUND")
    assert [each["action"] for each in admin.audit(resource_type="mcp_server")] == ["delete", "create"]


def test_its_secret_is_sent_and_shown_to_nobody(admin: Caller, mailbox: Mailbox, settings: Settings) -> None:
    mailbox.token = TOKEN
    made = added(admin, mailbox, auth="bearer", secret=TOKEN)
    assert (made["problem"], made["secret"], len(made["tools"])) == (None, "…4711", 3)
    with psycopg.connect(settings.database_dsn) as connection:
        enter_tenant(connection, admin.tenant, {})
        stored = [
            *connection.execute("SELECT each::text FROM audit_entries AS each"),
            *connection.execute("SELECT each::text, encode(secret, 'escape') FROM mcp_servers AS each"),
        ]
    assert TOKEN not in f"{stored} {admin.ok('GET', PATH)}"
    wrong = admin.ok("POST", PATH, {"name": "other", "url": mailbox.url, "auth": "bearer", "secret": "wrong"})
    assert wrong["tools"] == []
    assert "401" in wrong["problem"] or "refused" in wrong["problem"]


def test_an_oauth_client_gets_a_token_at_its_issuer_only(admin: Caller, mailbox: Mailbox) -> None:
    mailbox.oauth = True
    client = {"auth": "oauth", "client_id": CLIENT, "secret": CLIENT_SECRET}
    made = added(admin, mailbox, issuer=mailbox.root, **client)
    assert (made["problem"], len(made["tools"])) == (None, 3)
    mailbox.seen.clear()
    elsewhere = added(admin, mailbox, issuer="http://127.0.0.1:9", **client | {"name": "other"})
    assert "no token" in elsewhere["problem"]
    assert not any("Basic" in each for each in mailbox.seen)


def test_addresses_are_checked_and_what_is_missing_is_said(
    admin: Caller, callers: Callers, tenant: str, mailbox: Mailbox, variant: Callable[..., TestClient[Litestar]]
) -> None:
    careful = callers.person("admin", tenant, client=variant(webhook_allowed_networks=""))
    refused(careful.post(PATH, {"name": "mailbox", "url": mailbox.url}), 400, "WEBHOOK_URL_REFUSED")
    assert mailbox.seen == []
    for more, field in (({"auth": "bearer"}, "secret"), ({"secret": "x"}, "secret"), ({"scope": "a"}, "scope")):
        data = refused(admin.post(PATH, {"name": "a", "url": mailbox.url, **more}), 400, "INVALID_REQUEST")
        assert [each["field"] for each in data["fields"]] == [field]
    nowhere = admin.ok("POST", PATH, {"name": "a", "url": "http://127.0.0.1:9/mcp"})
    assert nowhere["problem"] == "The server does not accept connections"
    admin.ok("POST", f"{PATH}/{nowhere['id']}/refresh")


def test_answers_are_marked_as_a_strangers_and_cut(admin: Caller, agent: Caller, mailbox: Mailbox) -> None:
    server = f"{PATH}/{added(admin, mailbox, allowed_tools=['send_mail', 'read.all', 'fail'])['id']}/calls"
    sent = agent.ok("POST", server, {"tool": "send_mail", "arguments": {"to": "ada", "text": "Hi"}})
    assert sent == {"untrusted": "Sent to ada", "is_error": False}
    assert mailbox.sent == [{"to": "ada", "text": "Hi"}]
    long = agent.ok("POST", server, {"tool": "read.all", "arguments": {}})
    assert len(long["untrusted"]) < 7000
    failed = agent.ok("POST", server, {"tool": "fail", "arguments": {}})
    assert failed["is_error"]
    assert failed["untrusted"] == "Error executing tool fail"
    refused(agent.post(server, {"tool": "none", "arguments": {}}), 400, "INVALID_REQUEST")


def test_a_call_is_made_once_under_one_key_and_audited_without_what_was_sent(
    admin: Caller, agent: Caller, mailbox: Mailbox
) -> None:
    server = added(admin, mailbox, allowed_tools=["send_mail"])["id"]
    body = {"tool": "send_mail", "arguments": {"to": "ada", "text": "Hi"}}

    def send() -> Any:
        return agent.post(f"{PATH}/{server}/calls", body, headers={"Idempotency-Key": "once"})

    # While it is on its way, and for good if its answer is lost, nobody knows.
    mailbox.answers.clear()
    answers: list[Any] = []
    first = threading.Thread(target=lambda: answers.append(send()))
    first.start()
    try:
        wait_until(lambda: bool(mailbox.sent), "the mail", at_most=20)
        assert send().json() == to_builtins(NO_ANSWER)
    finally:
        mailbox.answers.set()
        first.join(20)
    again = send()
    assert again.json() == answers[0].json() == {"untrusted": "Sent to ada", "is_error": False}
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(mailbox.sent) == 1
    (entry,) = admin.audit(resource_type="mcp_server", action="call")
    assert (entry["resource_id"], entry["user_id"]) == (server, agent.user_id)
    assert entry["changes"] == {"tool": {"old": None, "new": "send_mail"}}


def test_what_is_not_allowed_is_not_called(admin: Caller, agent: Caller, mailbox: Mailbox) -> None:
    server = f"{PATH}/{added(admin, mailbox, allowed_tools=[])['id']}/calls"
    body = {"tool": "send_mail", "arguments": {"to": "ada", "text": "Hi"}}
    refused(agent.post(server, body), 400, "INVALID_REQUEST")
    refused(agent.post(server, body, headers={"Dry-Run": "true"}), 400, "DRY_RUN_UNSUPPORTED")
    assert mailbox.sent == []


def test_the_assistant_calls_a_tool_of_others_once_and_only_when_the_person_approves_it(
    admin: Caller, agent: Caller, models: Models, mailbox: Mailbox
) -> None:
    server = added(admin, mailbox, allowed_tools=["send_mail", "read.all"])
    employ(admin, models)
    talk = Talk(agent)
    call = Call("mailbox__send_mail", {"to": "ada@example.com", "text": "Hello"})
    models.says(Say((), (call,)), Say(("Please approve it.",)))
    events = talk.say("Write to Ada")
    offered = {tool["function"]["name"] for tool in models.got[0].body["tools"]}
    assert {name for name in offered if "__" in name} == {"mailbox__send_mail", "mailbox__read_all"}
    (proposal,) = [event["proposal_id"] for event in events if event["type"] == "proposal"]
    # People see one name of it, and where it would be sent; the model its own.
    waiting = agent.ok("GET", f"/admin/proposals/{proposal}")
    (event,) = [event for event in events if event["type"] == "tool_call"]
    parts = [part for turn in talk.messages() for part in turn["parts"]]
    named = [part["name"] for part in parts if part["type"] == "tool_call"]
    assert [event["name"], waiting["tool"], *named] == ["mailbox.send_mail"] * 3
    assert "127.0.0.1" in next(part["summary"] for part in parts if part["type"] == "proposal")
    assert waiting["request"]["body"]["arguments"] == call.arguments
    assert "mailbox__send_mail" in str(models.got[1].body["messages"])
    assert mailbox.sent == []
    # Nobody else approves it, and a tool that was declined is not called.
    refused(admin.post(f"/admin/proposals/{proposal}/approve"), 404, "PROPOSAL_NOT_FOUND")
    approval, once = f"/admin/proposals/{proposal}/approve", {"Idempotency-Key": "approved"}
    approved = agent.post(approval, headers=once).json()
    assert approved["result"] == {"untrusted": "Sent to ada@example.com", "is_error": False}
    assert agent.post(approval, headers=once).json() == approved
    assert mailbox.sent == [{"to": "ada@example.com", "text": "Hello"}]
    refused(agent.post(f"/admin/proposals/{proposal}/approve"), 409, "PROPOSAL_DECIDED")
    assert len(mailbox.sent) == 1
    # The model hears what came of it with the next question.
    models.says(Say((), (call,)), Say(("Again?",)))
    declined = next(event for event in talk.say("And?") if event["type"] == "proposal")["proposal_id"]
    assert '"untrusted":"Sent to ada@example.com"' in models.got[2].last
    agent.ok("POST", f"/admin/proposals/{declined}/decline")
    # A server that is gone says so.
    models.says(Say((), (call,)), Say(("Once more?",)))
    (late,) = [event["proposal_id"] for event in talk.say("Again") if event["type"] == "proposal"]
    admin.ok("DELETE", f"{PATH}/{server['id']}")
    gone = agent.ok("POST", f"/admin/proposals/{late}/approve")
    assert gone["result"] == {"untrusted": "There is no such MCP server", "is_error": True}
    assert len(mailbox.sent) == 1


def test_the_model_hears_what_a_slow_call_has_answered_or_that_nobody_knows(
    admin: Caller, agent: Caller, models: Models, mailbox: Mailbox, settings: Settings
) -> None:
    added(admin, mailbox, allowed_tools=["send_mail"])
    employ(admin, models)
    talk = Talk(agent)
    told = []
    for waits in (True, False):
        models.says(Say((), (Call("mailbox__send_mail", {"to": "ada", "text": "Hello"}),)), Say(("Approve it.",)))
        (proposal,) = [event["proposal_id"] for event in talk.say("Write") if event["type"] == "proposal"]
        mailbox.sent.clear()
        mailbox.answers.clear()
        approving = threading.Thread(
            target=lambda path: agent.ok("POST", path), args=[f"/admin/proposals/{proposal}/approve"]
        )
        approving.start()
        try:
            wait_until(lambda: bool(mailbox.sent), "the mail", at_most=20)
            models.says(Say(("Wait.",)))
            talk.say("Is it sent?")
            assert f"Proposal {proposal}" not in models.got[-1].last
            if not waits:
                with psycopg.connect(settings.database_dsn) as connection:
                    enter_tenant(connection, agent.tenant, {})
                    connection.execute("SELECT set_config('crm.user', %s, true)", [agent.user_id])
                    assert connection.execute(
                        "UPDATE proposals SET decided_at = now() - interval '61 seconds' WHERE id = %s", [proposal]
                    ).rowcount
                models.says(Say(("Nobody knows.",)))
                talk.say("And now?")
                told.append(models.got[-1].last)
        finally:
            mailbox.answers.set()
            approving.join(20)
        if waits:
            models.says(Say(("Yes.",)))
            talk.say("And now?")
            told.append(models.got[-1].last)
    assert '"untrusted":"Sent to ada"' in told[0]
    assert "it is not known whether it was done" in told[1]
