"""With AGENT_READ_SCOPE=own, no address shows agents other people's records, except for the names in their own."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.settings import Settings
from app.web.input import input_types
from tests.callers import Caller, Callers, refused
from tests.laws.routes import ADMIN, COLLECTIONS, CONSOLE, UNKNOWN_ID, Operation, fields, make, make_others

# A word in everything that the agent may not see.
CANARY = "canary"
# Whoever reads anything reads these.
EVERYBODYS = {"tag_id", "stage_id", "member_id"}
# What an agent's own record may show of records that it belongs to.
NAMES = ("Hidden Customer", "Hidden", "Contact", "Hidden deal", "Hidden project")
READS = [
    operation
    for operation in ADMIN + CONSOLE
    if operation.method == "GET"
    and operation.permission == "read"
    and not operation.path.endswith("/content")
    and not operation.never_ends
]


class FakeData:
    """Records of an agent and records that are hidden from it, which refer to each other in each way."""

    def __init__(self, admin: Caller, agent: Caller) -> None:
        tag = admin.tag()["id"]
        self.shared = {
            "tag_id": tag,
            "stage_id": admin.ok("GET", "/admin/pipeline-stages")["data"][0]["id"],
            "webhook_id": make(admin, "webhook_id"),
            "server_id": make(admin, "server_id"),
            "member_id": make(admin, "member_id"),
        }
        hidden = self._customer(admin, "Hidden Customer")
        admin.ok("POST", f"/admin/customers/{hidden}/tags", {"tag_ids": [tag]})
        body = {"first_name": "Hidden", "last_name": "Contact", "is_primary": True} | dict.fromkeys(
            ("phone", "position", "notes"), CANARY
        )
        contact = self._make(admin, f"customers/{hidden}/contacts", body | {"email": f"contact@{CANARY}.example"})
        links = {"customer_id": hidden, "contact_id": contact}
        deal = self._make(
            admin,
            "deals",
            {"title": "Hidden deal", "stage": "closed_lost", "lost_reason": CANARY, "description": CANARY, **links},
        )
        of_hidden = {"customer_id": hidden}
        project = self._make(admin, "projects", {"name": "Hidden project", "description": CANARY, **of_hidden})
        told = dict.fromkeys(("title", "description", "outcome"), CANARY) | {"type": "call"}
        activity = self._make(admin, "activities", {**told, **links, "deal_id": deal, "project_id": project})
        note = self._make(admin, "notes", {"content": CANARY, "customer_id": hidden})
        attachment = admin.attach(f"/admin/deals/{deal}", name=f"{CANARY}.txt").json()["id"]
        self.hidden = {
            **links,
            "deal_id": deal,
            "project_id": project,
            "activity_id": activity,
            "note_id": note,
            "attachment_id": attachment,
        }
        self.hidden |= make_others(admin, self.hidden | self.shared, name=CANARY, title=CANARY, content=CANARY)

        me = agent.user_id
        mine = admin.customer("Mine", assigned_to=me)["id"]
        own_contact = self._make(admin, f"customers/{mine}/contacts", {"first_name": "Kay"})
        # The agent's records that belong to hidden ones; and others' records that belong to the agent's.
        own_deal = self._make(admin, "deals", {"title": "Mine", "owner_id": me, **links})
        own_activity = self._make(
            admin,
            "activities",
            {"title": "Mine", "type": "task", "assigned_to": me, **links, "deal_id": deal, "project_id": project},
        )
        own_project = self._make(admin, "projects", {"name": "Mine", "assignees": [me], **of_hidden})
        for parent in ({"customer_id": mine}, {"deal_id": own_deal}, {"project_id": own_project}):
            self._make(admin, "activities", {**told, **parent})
            self._make(admin, "notes", {"content": CANARY, **parent})
        self._make(admin, "notes", {"content": CANARY, "activity_id": own_activity})
        own_note = self._make(agent, "notes", {"content": "Mine", "customer_id": mine, "deal_id": own_deal})
        own_attachment = agent.attach(f"/admin/deals/{own_deal}").json()["id"]
        admin.ok("PATCH", f"/admin/notes/{own_note}", {"customer_id": hidden, "deal_id": deal})
        self.own = {
            "customer_id": mine,
            "contact_id": own_contact,
            "deal_id": own_deal,
            "project_id": own_project,
            "activity_id": own_activity,
            "note_id": own_note,
            "attachment_id": own_attachment,
        }
        self.own |= make_others(agent, self.own | self.shared)

    @staticmethod
    def _customer(admin: Caller, name: str) -> int:
        texts = dict.fromkeys(("phone", "company", "role", "notes"), CANARY)
        more = {"email": f"customer@{CANARY}.example", "contact_preferences": {CANARY: CANARY}}
        return int(admin.customer(name, **texts, **more)["id"])

    @staticmethod
    def _make(caller: Caller, kind: str, body: dict[str, Any]) -> int:
        return int(caller.ok("POST", f"/admin/{kind}", body)["id"])


@pytest.fixture(scope="module")
def known(
    client: TestClient[Litestar], own_scope: TestClient[Litestar], settings: Settings
) -> tuple[FakeData, Caller, Caller]:
    """Records, an admin and an agent of one organization: made once for all tests."""
    return make_known(Callers(client, settings), own_scope)


@pytest.fixture(scope="module")
def untouched(
    client: TestClient[Litestar], own_scope: TestClient[Litestar], settings: Settings
) -> tuple[FakeData, Caller, Caller]:
    """The same once more, for tests that change nothing."""
    return make_known(Callers(client, settings), own_scope)


def make_known(callers: Callers, own_scope: TestClient[Litestar]) -> tuple[FakeData, Caller, Caller]:
    tenant = f"tenant-{uuid.uuid4().hex[:12]}"
    admin, agent = callers.person("admin", tenant), callers.person("agent", tenant, client=own_scope)
    return FakeData(admin, agent), admin, agent


def urls(operation: Operation, *known: dict[str, int]) -> list[str]:
    """The operation's address with every choice of these records."""
    choices = [[ids[name] for ids in known if name in ids] for name in operation.parameters]
    return [
        operation.url(q=CANARY, **dict(zip(operation.parameters, ids, strict=True)))
        for ids in itertools.product(*choices)
    ]


def test_no_address_shows_what_is_hidden(known: tuple[FakeData, Caller, Caller]) -> None:
    world, admin, agent = known
    seen = admin.get("/admin/customers").text + admin.get("/admin/activities").text + admin.get("/admin/deals").text
    assert CANARY in seen
    for operation in READS:
        query_type = input_types(operation.handler).query
        filters = {field.encode_name for field in fields(query_type)} if query_type else set()
        for url in urls(operation, world.own, world.hidden, world.shared):
            queries = ["", *(f"?{name}={world.hidden[name]}" for name in sorted(filters & world.hidden.keys()))]
            queries += [f"?search={CANARY}"] * ("search" in filters)
            for query in queries:
                answer = agent.call("GET", url + query)
                assert answer.status_code in {200, 404}, f"{url}{query}: {answer.text}"
                assert CANARY not in answer.text, f"{url}{query}: {answer.text}"
                if query.startswith("?search"):
                    is_empty = answer.text.count("\n") == 1 if url.endswith("/export") else not answer.json()["data"]
                    assert answer.status_code == 404 or is_empty, url


@pytest.mark.parametrize("operation", [o for o in READS if o.parameters and o.parameters[0] not in EVERYBODYS], ids=str)
def test_a_hidden_record_answers_exactly_as_an_unknown_one(
    operation: Operation, known: tuple[FakeData, Caller, Caller]
) -> None:
    (world, _, agent), same = known, {"X-Request-ID": "same"}
    hidden = agent.call("GET", operation.url(**world.hidden | world.shared), headers=same)
    unknown = agent.call("GET", operation.url(), headers=same)
    assert (hidden.status_code, hidden.content) == (404, unknown.content)


# About all that a request changed: tests/admin/test_history.py shows that they need the right to each record.
OF_OPERATIONS = [o for o in ADMIN if o.parameters == ["operation_id"]]
# A job is its person's own, whatever the records that it is about: see tests/jobs.
OF_JOBS = [o for o in ADMIN if o.parameters == ["job_id"]]
# These are nobody else's, whatever the role.
OF_ONESELF = [o for o in ADMIN if o.path.startswith(("/admin/me/", "/admin/proposals"))]


WRITES = [
    o
    for o in ADMIN + CONSOLE
    if o.method not in {"GET", "HEAD"}
    and o.permission == "write"
    and o.parameters
    and o not in OF_OPERATIONS + OF_JOBS + OF_ONESELF
    # Servers are the organization's.
    and o.parameters != ["server_id"]
]


# What is asked for before its time, and so would be refused of any record.
NOT_READY = {"ASSISTANT_NOT_CONFIGURED", "IMPORT_NOT_CHECKED"}


@pytest.mark.parametrize("operation", WRITES, ids=str)
def test_a_hidden_record_can_not_be_written_to(operation: Operation, known: tuple[FakeData, Caller, Caller]) -> None:
    (world, _, agent), same = known, {"X-Request-ID": "same"}
    hidden = agent.call(
        operation.method, operation.url(**world.hidden | world.shared), **operation.payload(), headers=same
    )
    unknown = agent.call(operation.method, operation.url(), **operation.payload(), headers=same)
    assert (hidden.status_code, hidden.content) == (404, unknown.content)


RESTORED = {o.parameters[0] for o in ADMIN if o.path.endswith("/restore")}


# What takes a record away comes last.
LAST = [o for o in WRITES if o.method == "DELETE"]


@pytest.mark.parametrize("operation", [*(o for o in WRITES if o not in LAST), *LAST], ids=str)
def test_the_answer_to_a_write_says_no_more_of_what_is_hidden_than_names(
    operation: Operation, known: tuple[FakeData, Caller, Caller]
) -> None:
    world, admin, person = known
    # What the writes before this one left is still the agent's own: else this one would show nothing.
    of_record = [read for read in READS if read.parameters == operation.parameters[:1]]
    person.ok("GET", min(of_record, key=lambda read: len(read.path)).url(**world.own | world.shared))
    own = person.call(operation.method, operation.url(**world.own | world.shared), **operation.payload())
    assert CANARY not in own.text
    assert own.status_code in {200, 201, 400} or own.json()["code"] in NOT_READY, own.text
    if operation in LAST and (taken := operation.parameters[-1]) in RESTORED:
        admin.ok("POST", f"{COLLECTIONS[taken]}/{world.own[taken]}/restore")


def test_a_hidden_record_is_unknown_as_a_reference(untouched: tuple[FakeData, Caller, Caller]) -> None:
    world, _, agent = untouched
    for path, body in (
        ("deals", {"title": "Engine", "customer_id": world.own["customer_id"]}),
        ("activities", {"title": "Call", "type": "call", "customer_id": world.own["customer_id"]}),
        ("notes", {"content": "Hm.", "customer_id": world.own["customer_id"]}),
    ):
        for name in ("customer_id", "contact_id", "deal_id", "activity_id"):
            same = {"X-Request-ID": "same"}
            hidden = agent.post(f"/admin/{path}", body | {name: world.hidden[name]}, headers=same)
            unknown = agent.post(f"/admin/{path}", body | {name: UNKNOWN_ID}, headers=same)
            assert (hidden.status_code, hidden.content) == (400, unknown.content)


def test_an_own_record_keeps_the_names_of_what_it_belongs_to(untouched: tuple[FakeData, Caller, Caller]) -> None:
    world, _, agent = untouched
    deal = agent.ok("GET", f"/admin/deals/{world.own['deal_id']}")
    assert (deal["customer"]["name"], deal["contact"]["last_name"]) == NAMES[0:3:2]
    activity = agent.ok("GET", f"/admin/activities/{world.own['activity_id']}")
    assert (activity["customer"]["name"], activity["deal"]["title"]) == NAMES[0:4:3]


def test_counts_count_only_what_the_agent_sees(untouched: tuple[FakeData, Caller, Caller]) -> None:
    world, admin, agent = untouched
    assert admin.ok("GET", f"/admin/tags/{world.shared['tag_id']}")["customer_count"] == 1
    assert agent.ok("GET", f"/admin/tags/{world.shared['tag_id']}")["customer_count"] == 0
    assert [tag["customer_count"] for tag in agent.ok("GET", "/admin/tags")["data"]] == [0]
    for kind, count in (("customers", 1), ("contacts", 1), ("deals", 1), ("activities", 1), ("notes", 1)):
        assert agent.ok("GET", f"/admin/{kind}")["total"] == count, kind
    overview = agent.ok("GET", "/admin/reports/overview")
    assert (overview["customers"]["total"], overview["deals"]["total"], overview["activities"]["total"]) == (1, 1, 1)
    assert NAMES[0] not in [customer["name"] for customer in overview["top_customers"]]


def test_an_email_that_is_taken_by_somebody_hidden_names_nobody(
    untouched: tuple[FakeData, Caller, Caller],
) -> None:
    *_, agent = untouched
    answer = agent.post("/admin/customers", {"name": "Ada", "email": f"Customer@{CANARY}.example"})
    assert refused(answer, 409, "EMAIL_EXISTS") == {}
