"""Conversations with the assistant as records: whose they are, how long they are kept, and what an erasure leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg
import pytest
from psycopg.types.json import Jsonb

from app.admin.assistant.queries import prune_conversations
from app.db.database import Database
from app.db.roles import enter_tenant
from app.settings import Settings
from tests.admin.test_erasure import erase
from tests.callers import Caller, Callers, refused

PATH = "/admin/assistant/conversations"


Store = Callable[[], AbstractContextManager[psycopg.Connection]]


@pytest.fixture
def stored(settings: Settings, admin: Caller) -> Store:
    """Transactions that write what an answer would."""

    @contextmanager
    def open_one() -> Iterator[psycopg.Connection]:
        with psycopg.connect(settings.database_dsn) as connection:
            enter_tenant(connection, admin.tenant, {})
            yield connection

    return open_one


def said(connection: psycopg.Connection, tenant: str, conversation: int, text: str, *, days_ago: int = 0) -> None:
    parts = Jsonb([{"type": "text", "text": text}])
    connection.execute(
        "INSERT INTO conversation_messages (tenant_id, conversation_id, role, parts, created_at)"
        " VALUES (%s, %s, 'user', %s, now() - make_interval(days => %s))",
        [tenant, conversation, parts, days_ago],
    )


def test_a_conversation_is_its_persons_alone(callers: Callers, admin: Caller, agent: Caller, stranger: Caller) -> None:
    mine = agent.ok("POST", PATH, {"title": "Offer for Ada"})
    assert (mine["title"], mine["answering"]) == ("Offer for Ada", False)
    path = f"{PATH}/{mine['id']}"
    for other in (admin, stranger, callers.person("agent", agent.tenant)):
        assert other.ok("GET", PATH)["data"] == []
        for answer in (other.get(path), other.get(f"{path}/messages"), other.patch(path, {"title": "x"})):
            refused(answer, 404, "CONVERSATION_NOT_FOUND")
        refused(other.delete(path), 404, "CONVERSATION_NOT_FOUND")
    assert agent.ok("PATCH", path, {"title": None})["title"] is None
    assert [each["id"] for each in agent.ok("GET", PATH)["data"]] == [mine["id"]]
    assert agent.ok("GET", f"{path}/messages") == {"data": [], "answering": False, "has_more": False}
    agent.ok("DELETE", path)
    refused(agent.get(path), 404, "CONVERSATION_NOT_FOUND")


def test_only_admins_look_at_the_traces_of_others(
    callers: Callers, admin: Caller, manager: Caller, agent: Caller, stranger: Caller
) -> None:
    path = f"{PATH}/{agent.ok('POST', PATH, {})['id']}/trace"
    for one in (agent, admin):
        assert one.ok("GET", path) == {"data": [], "has_more": False}
    for one in (manager, stranger, callers.person("agent", agent.tenant)):
        refused(one.get(path), 404, "CONVERSATION_NOT_FOUND")


def test_an_erasure_empties_conversations_about_the_record_and_no_others(admin: Caller, stored: Store) -> None:
    customer = admin.customer("Ada Lovelace")["id"]
    about, other = (admin.ok("POST", PATH, {"title": "Ada Lovelace"})["id"] for _ in range(2))
    with stored() as connection:
        for conversation in (about, other):
            said(connection, admin.tenant, conversation, "What about Ada Lovelace?")
        mentions = [f"customer:{customer}", f"deal:{customer}"]
        connection.execute("UPDATE conversations SET mentions = %s WHERE id = %s", [mentions, about])
        connection.execute("UPDATE conversations SET mentions = %s WHERE id = %s", [mentions[1:], other])
    erase(admin, f"/admin/customers/{customer}", "Ada Lovelace")
    (message,) = admin.ok("GET", f"{PATH}/{about}/messages")["data"]
    assert (message["status"], message["parts"]) == ("erased", [])
    assert admin.ok("GET", f"{PATH}/{about}")["title"] is None
    (message,) = admin.ok("GET", f"{PATH}/{other}/messages")["data"]
    assert message["parts"] == [{"type": "text", "text": "What about Ada Lovelace?"}]


def test_what_was_said_long_ago_is_deleted(settings: Settings, admin: Caller, stored: Store) -> None:
    going_on, over = (admin.ok("POST", PATH, {})["id"] for _ in range(2))
    with stored() as connection:
        said(connection, admin.tenant, going_on, "Long ago", days_ago=91)
        said(connection, admin.tenant, going_on, "A while ago", days_ago=89)
        said(connection, admin.tenant, over, "Long ago", days_ago=91)
        connection.execute("UPDATE conversations SET updated_at = now() - interval '91 days' WHERE id = %s", [over])

    async def prune() -> None:
        async with Database(settings) as database:
            await prune_conversations(database, 90)

    asyncio.run(prune())
    refused(admin.get(f"{PATH}/{over}"), 404, "CONVERSATION_NOT_FOUND")
    (message,) = admin.ok("GET", f"{PATH}/{going_on}/messages")["data"]
    assert message["parts"][0]["text"] == "A while ago"


def test_an_answer_whose_worker_is_dead_is_interrupted(admin: Caller, stored: Store) -> None:
    conversation = admin.ok("POST", PATH, {})["id"]
    insert = (
        "INSERT INTO conversation_messages (tenant_id, conversation_id, role, status, parts)"
        " VALUES (%s, %s, 'assistant', 'running', %s)"
    )
    begun = "UPDATE conversations SET run = gen_random_uuid(), alive_at = now() - make_interval(secs => %s)"
    with stored() as connection:
        connection.execute(insert, [admin.tenant, conversation, Jsonb([{"type": "text", "text": "She is"}])])
        connection.execute(begun, [5])
    answer = admin.ok("GET", f"{PATH}/{conversation}/messages")
    assert (answer["answering"], answer["data"][0]["status"]) == (True, "running")
    with stored() as connection:
        connection.execute(begun, [16])
    answer = admin.ok("GET", f"{PATH}/{conversation}/messages")
    assert answer["answering"] is False
    (message,) = answer["data"]
    assert (message["status"], message["error"]["code"]) == ("interrupted", "INTERRUPTED")
    assert message["parts"] == [{"type": "text", "text": "She is"}]


def test_a_page_of_messages_has_a_limited_size(admin: Caller, stored: Store) -> None:
    conversation = admin.ok("POST", PATH, {})["id"]
    with stored() as connection:
        for number in range(5):
            said(connection, admin.tenant, conversation, str(number) * 400_000)
    first = admin.ok("GET", f"{PATH}/{conversation}/messages")
    assert [each["parts"][0]["text"][0] for each in first["data"]] == ["0", "1", "2"]
    assert first["has_more"] is True
    rest = admin.ok("GET", f"{PATH}/{conversation}/messages", after=first["data"][-1]["id"])
    assert [each["parts"][0]["text"][0] for each in rest["data"]] == ["3", "4"]
    assert rest["has_more"] is False
    one = admin.ok("GET", f"{PATH}/{conversation}/messages", limit=1)
    assert (len(one["data"]), one["has_more"]) == (1, True)
