"""What models send to tools is bounded, and what goes wrong in one is told in words of ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.admin.proposals import queries
from app.admin.tools import calling
from app.admin.tools.calling import MOST_ARGUMENT_BYTES
from tests.assistant.talks import Talk, employ
from tests.callers import Caller
from tests.peers.mcp_server import Mailbox
from tests.peers.models import Call, Models, Say
from tests.tools import Tools

PATH = "/admin/assistant/mcp-servers"


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    with Mailbox().listening() as server:
        yield server


def test_arguments_for_tools_of_others_are_bounded(
    admin: Caller, agent: Caller, models: Models, mailbox: Mailbox
) -> None:
    admin.ok("POST", PATH, {"name": "mailbox", "url": mailbox.url, "allowed_tools": ["send_mail"]})
    employ(admin, models)
    call = Call("mailbox__send_mail", {"to": "ada@example.com", "text": "x" * MOST_ARGUMENT_BYTES})
    models.says(Say((), (call,)), Say(("It is too long.",)))
    assert "proposal" not in {event["type"] for event in Talk(agent).say("Write to Ada")}
    assert "too large" in models.got[1].last
    assert agent.ok("GET", "/admin/proposals")["total"] == 0


def test_what_waits_for_a_person_is_not_much(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = Tools(admin, "admin")
    note = {"content": "Likes engines.", "customer_id": admin.customer("Ada")["id"]}
    tools.ok("add_note", **note)
    monkeypatch.setattr(queries, "MOST_PENDING_BYTES", 200)
    assert "Too many proposals" in tools.refused("add_note", **note)


def test_what_goes_wrong_in_a_tool_is_logged_and_not_told(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = Tools(admin, "admin")
    assert tools.refused("list_records", type="tag", cursor="9" * 5000).startswith("The cursor is not valid")

    def broken(*_: object) -> None:
        raise RuntimeError("secret of the house")

    monkeypatch.setattr(calling, "read_again", broken)
    assert "secret" not in tools.refused("my_day")
