"""References: a wrong one is named, and one that stays as it is does not prevent a change."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.records.resources import RESOURCES
from app.settings import Settings
from app.web.input import input_types
from tests.callers import Caller, Callers, refused
from tests.laws.routes import ADMIN, COLLECTIONS, CONSOLE, UNKNOWN_ID, Operation, fields, make, make_others, valid_body

# By field of a body: the code for a wrong value.
CODES = {
    "customer_id": "CUSTOMER_NOT_FOUND",
    "contact_id": "CONTACT_NOT_FOUND",
    "deal_id": "DEAL_NOT_FOUND",
    "activity_id": "ACTIVITY_NOT_FOUND",
    "tag_ids": "TAG_NOT_FOUND",
    "stage": "INVALID_STAGE",
}
UNKNOWN = dict.fromkeys(CODES, UNKNOWN_ID) | {"tag_ids": [UNKNOWN_ID], "stage": "unheard-of"}
# These must be the ones in the path, or those that the record has already.
FIXED = {"customer_id", "deal_id"}


def world(caller: Caller, **owner: Any) -> dict[str, Any]:
    """One record of each type, with every reference that it can have and every field that a client may write."""
    customer = caller.customer(
        email="ada@example.com",
        external_id="erp-12",
        kind="person",
        industry="Engineering",
        website="https://engines.example/Ada?x=1",
        phone="+44 20 7946 0000",
        company="Engines",
        role="CTO",
        contacted=True,
        next_follow_up_at="2099-01-31",
        contact_preferences={"channel": "phone"},
        notes="Before noon.",
        **({"assigned_to": owner["owner"]} if owner else {}),
    )["id"]
    contact = caller.ok(
        "POST",
        f"/admin/customers/{customer}/contacts",
        {
            "first_name": "Grace",
            "last_name": "van Hopper",
            "email": "grace@example.com",
            "is_primary": True,
            "external_id": "erp-31",
        },
    )["id"]
    deal = caller.ok(
        "POST",
        "/admin/deals",
        {
            "title": "Engine",
            "customer_id": customer,
            "contact_id": contact,
            "stage": "closed_lost",
            "amount": 48000.5,
            "lost_reason": "Price",
            "external_id": "erp-7",
            "expected_close_date": "2099-02-01",
            **({"owner_id": owner["owner"]} if owner else {}),
        },
    )["id"]
    activity = caller.ok(
        "POST",
        "/admin/activities",
        {
            "title": "Ask",
            "type": "task",
            "description": "About the engine",
            "customer_id": customer,
            "deal_id": deal,
            "contact_id": contact,
            "due_date": "2099-03-01T10:30:15.123456Z",
            "duration": 30,
            "outcome": "None yet",
            "external_id": "erp-52",
            "priority": "high",
            **({"assigned_to": owner["owner"]} if owner else {}),
        },
    )["id"]
    links = {"customer_id": customer, "deal_id": deal, "activity_id": activity}
    note = caller.ok("POST", "/admin/notes", {"content": "Likes\n cogs. ", "external_id": "erp-88", **links})["id"]
    stages = {stage["name"]: stage["id"] for stage in caller.ok("GET", "/admin/pipeline-stages")["data"]}
    known = {
        **links,
        "contact_id": contact,
        "note_id": note,
        "stage_id": stages["proposal"],
    }
    owners = {resource.owner: owner["owner"] for resource in RESOURCES if resource.owner and owner}
    return known | make_others(caller, known, **owners) | {"stage": "closed_lost"}


def referring() -> list[Any]:
    return [
        pytest.param(operation, field.encode_name, id=f"{operation} by {field.encode_name}")
        for operation in ADMIN + CONSOLE
        if (wanted := input_types(operation.handler).data)
        for field in fields(wanted)
        if field.encode_name in CODES
    ]


@pytest.fixture(scope="module")
def made(client: TestClient[Litestar], settings: Settings) -> tuple[Caller, dict[str, Any]]:
    """An admin and a world: made once for all requests that are refused, and change nothing."""
    admin = Callers(client, settings).person("admin", f"tenant-{uuid.uuid4().hex[:12]}")
    known = world(admin)
    known["tag_ids"] = [known.setdefault("tag_id", admin.tag()["id"])]
    return admin, known


@pytest.mark.parametrize(("operation", "field"), referring())
def test_an_unknown_reference_names_its_field(
    operation: Operation, field: str, made: tuple[Caller, dict[str, Any]]
) -> None:
    wanted = input_types(operation.handler).data
    assert wanted is not None
    admin, known = made[0], dict(made[1])
    if operation in CONSOLE:
        known["stage"] = "lost"
    referred = {each.encode_name: known[each.encode_name] for each in fields(wanted) if each.encode_name in CODES}
    url = operation.url(**{name: known[name] for name in operation.parameters})
    answer = admin.call(operation.method, url, json=valid_body(wanted) | referred | {field: UNKNOWN[field]})
    fixed = field in FIXED & set(operation.parameters) or "contact_id" in operation.parameters
    data = refused(answer, 400, "INVALID_REQUEST" if fixed else CODES[field])
    assert [fault["field"] for fault in data["fields"]] == [field]


CHANGED = [
    operation
    for operation in ADMIN + CONSOLE
    if operation.method in {"PUT", "PATCH"}
    and not operation.path.endswith("/tags")  # a list
    and any(each.path == operation.path and each.method == "GET" for each in ADMIN + CONSOLE)
]
every_change = pytest.mark.parametrize("operation", CHANGED, ids=str)


def send_back(caller: Caller, operation: Operation, known: dict[str, Any], admin: Caller) -> None:
    url = operation.url(**{name: known[name] for name in operation.parameters})
    before, entries = caller.call("GET", url), admin.audit()
    assert before.status_code == 200
    sent = caller.call(operation.method, url, json=before.json())
    assert sent.status_code == 200, f"{before.text}\n{sent.text}"
    after = caller.call("GET", url)
    assert (after.content, after.headers.get("ETag")) == (before.content, before.headers.get("ETag"))
    assert admin.audit() == entries


@pytest.fixture(scope="module")
def unchanged(client: TestClient[Litestar], settings: Settings) -> tuple[Caller, dict[str, Any]]:
    """An admin and a world whose stage is not offered any more: made once, since what is sent back changes nothing."""
    admin = Callers(client, settings).person("admin", f"tenant-{uuid.uuid4().hex[:12]}")
    known = world(admin) | {"tag_id": admin.tag()["id"]}
    admin.ok("PATCH", f"/admin/pipeline-stages/{known['stage_id']}", {"is_active": False})
    return admin, known


@every_change
def test_a_record_can_be_sent_back_as_it_was_read(
    operation: Operation, unchanged: tuple[Caller, dict[str, Any]]
) -> None:
    admin, known = unchanged
    send_back(admin, operation, known, admin)


class AgentsWorld(NamedTuple):
    """Records of an agent, who sees all or only these."""

    agent: Caller
    admin: Caller
    known: dict[str, Any]


@pytest.fixture(scope="module")
def of_agent(
    client: TestClient[Litestar], own_scope: TestClient[Litestar], settings: Settings
) -> Callable[[str, str], AgentsWorld]:
    """Makes the world for a scope and what the agent's own record is called in a path. Everything that this record
    refers to belongs to others.
    """

    @cache
    def make_world(scope: str, theirs: tuple[str, ...]) -> AgentsWorld:
        callers, tenant = Callers(client, settings), f"tenant-{uuid.uuid4().hex[:12]}"
        admin = callers.person("admin", tenant)
        agent = callers.person("agent", tenant, client=own_scope if scope == "own" else client)
        known = world(admin, owner=agent.user_id)
        known["note_id"] = agent.ok(
            "POST", "/admin/notes", {"content": "Mine.", **{name: known[name] for name in ("customer_id", "deal_id")}}
        )["id"]
        for alone in ("report_schedule_id", "conversation_id"):
            known[alone] = make(agent, alone)
        if "customer_id" in theirs:
            admin.ok("PATCH", f"/admin/customers/{known['customer_id']}", {"assigned_to": None})
        if "deal_id" in theirs:
            admin.ok("PATCH", f"/admin/deals/{known['deal_id']}", {"owner_id": None})
        return AgentsWorld(agent, admin, known)

    def of(scope: str, mine: str) -> AgentsWorld:
        if mine in {"customer_id", "contact_id"}:
            return make_world(scope, ())
        return make_world(scope, ("customer_id",) if mine == "deal_id" else ("customer_id", "deal_id"))

    return of


@pytest.mark.parametrize(
    "operation", [o for o in CHANGED if o.permission == "write" and set(o.parameters) & set(COLLECTIONS)], ids=str
)
@pytest.mark.parametrize("scope", ["all", "own"])
def test_an_agent_can_send_back_its_own_record_whatever_it_refers_to(
    operation: Operation, scope: str, of_agent: Callable[[str, str], AgentsWorld]
) -> None:
    mine = operation.parameters[0]
    agent, admin, known = of_agent(scope, mine)
    if scope == "own" and mine not in {"customer_id", "contact_id"}:
        refused(agent.get(f"/admin/customers/{known['customer_id']}"), 404, "CUSTOMER_NOT_FOUND")
    send_back(agent, operation, known, admin)


def test_references_that_stay_are_no_obstacle_in_the_trash_either(admin: Caller) -> None:
    known = world(admin)
    activity = f"/admin/activities/{known['activity_id']}"
    admin.ok("PATCH", f"/admin/deals/{known['deal_id']}", {"contact_id": None})
    admin.ok("DELETE", f"/admin/contacts/{known['contact_id']}")
    shown = admin.ok("GET", activity)
    assert (shown["contact_id"], shown["contact"]) == (known["contact_id"], None)
    assert admin.ok("PUT", activity, shown)["version"] == shown["version"]
    assert admin.ok("PUT", activity, shown | {"title": "Ask again"})["contact_id"] == known["contact_id"]


def test_a_contact_of_a_hidden_customer_can_not_be_given_to_a_deal_of_it(
    admin: Caller, callers: Callers, tenant: str, own_scope: TestClient[Litestar]
) -> None:
    agent = callers.person("agent", tenant, client=own_scope)
    customer = admin.customer()["id"]
    path = f"/admin/customers/{customer}/contacts"
    one, other = (admin.ok("POST", path, {"first_name": name})["id"] for name in ("Grace", "Ada"))
    body = {"title": "Engine", "customer_id": customer, "contact_id": one, "owner_id": agent.user_id}
    deal = f"/admin/deals/{admin.ok('POST', '/admin/deals', body)['id']}"
    data = refused(agent.patch(deal, {"contact_id": other}), 400, "CONTACT_NOT_FOUND")
    assert [fault["field"] for fault in data["fields"]] == ["contact_id"]
    assert agent.ok("PATCH", deal, {"contact_id": None})["contact"] is None
