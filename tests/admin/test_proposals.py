"""Proposals: nothing is done until the person approves, and then only what was shown."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.admin.proposals.queries import MOST_PENDING, prune
from app.settings import Settings
from tests.admin.test_erasure import erase
from tests.callers import Caller, Callers, refused
from tests.tools import Tools


@pytest.fixture
def tools(admin: Caller) -> Tools:
    return Tools(admin, "admin")


def test_a_proposal_changes_nothing_until_it_is_approved_and_then_once(admin: Caller, tools: Tools) -> None:
    customer = admin.customer("Ada")["id"]
    told = tools.ok("update_record", type="customer", id=customer, values={"status": "active"})
    assert told["summary"] == f"Change customer {customer}: status"
    (change,) = told["changes"]
    assert (change["type"], change["id"], change["action"]) == ("customer", customer, "update")
    assert change["untrusted"] == {"status": {"before": "lead", "after": "active"}}
    assert admin.ok("GET", f"/admin/customers/{customer}")["status"] == "lead"
    (waiting,) = admin.ok("GET", "/admin/proposals")["data"]
    assert (waiting["id"], waiting["status"], waiting["title"]) == (told["proposal_id"], "pending", "Ada")
    path = f"/admin/proposals/{waiting['id']}"
    done = admin.post(f"{path}/approve")
    assert done.json()["result"]["status"] == "active"
    assert done.json()["proposal"]["operation_id"] == done.headers["X-Operation-Id"]
    (entry,) = admin.audit(operation_id=done.headers["X-Operation-Id"])
    assert (entry["via"], entry["changes"]) == ("mcp", {"status": {"old": "lead", "new": "active"}})
    assert refused(admin.post(f"{path}/approve"), 409, "PROPOSAL_DECIDED") == {"status": "approved"}
    refused(admin.post(f"{path}/decline"), 409, "PROPOSAL_DECIDED")
    assert admin.ok("GET", "/admin/proposals")["total"] == 0
    assert admin.ok("GET", "/admin/proposals", status="approved")["total"] == 1


KEPT = "tenant_id, user_id, via, tool, summary, request, changes, more, versions, expires_at"


def propose(tools: Tools, customer: int, **values: Any) -> str:
    """The address of a proposal to change a customer."""
    told = tools.ok("update_record", type="customer", id=customer, values=values)
    return f"/admin/proposals/{told['proposal_id']}"


def test_what_is_declined_is_never_done(admin: Caller, tools: Tools) -> None:
    customer = admin.customer("Ada")["id"]
    path = propose(tools, customer, status="active")
    assert admin.ok("POST", f"{path}/decline")["status"] == "declined"
    refused(admin.post(f"{path}/approve"), 409, "PROPOSAL_DECIDED")
    assert admin.ok("GET", f"/admin/customers/{customer}")["version"] == 1


def test_nothing_is_done_to_a_record_that_was_changed_since(admin: Caller, tools: Tools) -> None:
    customer = admin.customer("Ada")["id"]
    path = propose(tools, customer, status="active")
    admin.ok("PATCH", f"/admin/customers/{customer}", {"company": "Engines"})
    outdated = refused(admin.post(f"{path}/approve"), 409, "PROPOSAL_OUTDATED")
    assert outdated == {"records": [{"type": "customer", "id": customer}]}
    assert admin.ok("GET", path)["status"] == "pending"
    assert admin.ok("GET", f"/admin/customers/{customer}")["status"] == "lead"


def test_each_record_that_would_be_deleted_must_be_as_it_was_shown(admin: Caller, tools: Tools) -> None:
    customer = admin.customer("Ada")["id"]
    contact = admin.ok("POST", f"/admin/customers/{customer}/contacts", {"first_name": "Kay"})["id"]
    tag = admin.tag()["id"]
    for kind, record in (("customer", customer), ("tag", tag)):
        told = tools.ok("delete_record", type=kind, id=record)
        path = f"/admin/proposals/{told['proposal_id']}"
        if kind == "customer":
            admin.ok("PATCH", f"/admin/contacts/{contact}", {"notes": "Hm."})
        else:
            admin.ok("PATCH", f"/admin/tags/{tag}", {"name": "Other"})
        refused(admin.post(f"{path}/approve"), 409, "PROPOSAL_OUTDATED")
        assert "deleted successfully" in tools.approved("delete_record", type=kind, id=record)["message"]
    tools.approved("restore_record", type="customer", id=customer)
    assert admin.ok("GET", f"/admin/contacts/{contact}")["notes"] == "Hm."


def test_a_merge_is_proposed_and_done_as_shown(admin: Caller, tools: Tools) -> None:
    kept, gone = admin.customer("Ada")["id"], admin.customer("Ada L.", company="Engines")["id"]
    admin.ok("POST", f"/admin/customers/{gone}/contacts", {"first_name": "Kay"})
    told = tools.ok("merge_customers", **{"into": kept, "from": [gone]})
    assert told["summary"] == f"Merge customer {gone} into {kept}, and 2 more records"
    done = admin.ok("POST", f"/admin/proposals/{told['proposal_id']}/approve")
    assert done["result"]["company"] == "Engines"
    admin.ok("POST", f"/admin/operations/{done['proposal']['operation_id']}/undo", {})
    assert admin.ok("GET", f"/admin/customers/{gone}")["name"] == "Ada L."


def test_what_the_request_is_refused_for_keeps_the_proposal(admin: Caller, tools: Tools) -> None:
    told = tools.ok("create_record", type="customer", values={"name": "Ada", "email": "ada@example.com"})
    path = f"/admin/proposals/{told['proposal_id']}"
    taken = admin.customer("Another", email="ada@example.com")["id"]
    assert refused(admin.post(f"{path}/approve"), 409, "EMAIL_EXISTS") == {"customer_id": taken}
    admin.ok("PATCH", f"/admin/customers/{taken}", {"email": None})
    assert admin.ok("POST", f"{path}/approve")["result"]["name"] == "Ada"


def age(settings: Settings, tenant: str, interval: str) -> None:
    """Let the proposals of an organization be so much older."""
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [tenant])
        owner.execute("UPDATE proposals SET expires_at = expires_at - %s::interval", [interval])


def test_after_fifteen_minutes_it_can_not_be_decided(admin: Caller, tools: Tools, settings: Settings) -> None:
    path = propose(tools, admin.customer("Ada")["id"], status="active")
    age(settings, admin.tenant, "14 minutes")
    assert admin.ok("GET", "/admin/proposals")["total"] == 1
    age(settings, admin.tenant, "1 minute")
    assert admin.ok("GET", "/admin/proposals")["total"] == 0
    assert admin.ok("GET", path)["status"] == "expired"
    assert admin.ok("GET", "/admin/proposals", status="expired")["total"] == 1
    for decision in ("approve", "decline"):
        refused(admin.post(f"{path}/{decision}"), 409, "PROPOSAL_EXPIRED")


def test_a_day_after_its_end_it_is_deleted(
    admin: Caller, tools: Tools, settings: Settings, client: TestClient[Litestar]
) -> None:
    customer = admin.customer("Ada")["id"]
    old, fresh = propose(tools, customer, status="active"), None
    age(settings, admin.tenant, "1 day 16 minutes")
    fresh = propose(tools, customer, status="active")
    client.blocking_portal.call(prune, client.app.state.database)
    refused(admin.get(old), 404, "PROPOSAL_NOT_FOUND")
    assert admin.ok("GET", fresh)["status"] == "pending"


def test_a_proposal_is_its_persons_alone(admin: Caller, callers: Callers, tools: Tools) -> None:
    path = propose(tools, admin.customer("Ada")["id"], status="active")
    colleague = callers.person("admin", admin.tenant)
    assert colleague.ok("GET", "/admin/proposals")["total"] == 0
    refused(colleague.get(path), 404, "PROPOSAL_NOT_FOUND")
    for decision in ("approve", "decline"):
        refused(colleague.post(f"{path}/{decision}"), 404, "PROPOSAL_NOT_FOUND")


def test_a_proposal_is_done_with_the_rights_that_its_person_has_then(
    admin: Caller, callers: Callers, tools: Tools
) -> None:
    path = propose(tools, admin.customer("Ada")["id"], status="active")
    lowered = callers.person("agent", admin.tenant, user_id=admin.user_id)
    refused(lowered.post(f"{path}/approve"), 403, "INSUFFICIENT_PERMISSIONS")


def test_of_two_approvals_at_once_one_does_it(admin: Caller, tools: Tools) -> None:
    told = tools.ok("add_note", content="Once", customer_id=admin.customer()["id"])
    path = f"/admin/proposals/{told['proposal_id']}/approve"
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(admin.post(path).status_code)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(answers) == [200, 409, 409, 409]
    assert admin.ok("GET", "/admin/notes")["total"] == 1


def test_a_repeated_approval_under_its_key_answers_the_same(admin: Caller, tools: Tools) -> None:
    told = tools.ok("add_note", content="Once", customer_id=admin.customer()["id"])
    path, key = f"/admin/proposals/{told['proposal_id']}/approve", {"Idempotency-Key": "once"}
    first, second = (admin.post(path, headers=key) for _ in range(2))
    assert (first.content, second.headers["Idempotency-Replayed"]) == (second.content, "true")


def test_what_changes_nothing_is_no_proposal(admin: Caller, tools: Tools) -> None:
    customer = admin.customer("Ada")["id"]
    told = tools.ok("update_record", type="customer", id=customer, values={"name": "Ada"})
    assert "Nothing would change" in told["next"]
    assert admin.ok("GET", "/admin/proposals")["total"] == 0


def test_where_tools_may_write_they_do_unless_it_takes_away_or_touches_many(admin: Caller) -> None:
    tools = Tools(admin, "admin", mode="on")
    made = tools.ok("create_record", type="customer", values={"name": "Ada"})
    customer = made["changes"][0]["id"]
    assert (made["done"], admin.ok("GET", f"/admin/customers/{customer}")["name"]) == (True, "Ada")
    (entry,) = admin.audit(resource_type="customer")
    assert (entry["via"], entry["request_id"]) == ("mcp", "by-a-tool")
    assert tools.ok("delete_record", type="customer", id=customer)["proposal_id"]
    other = admin.customer("Ada L.")["id"]
    assert tools.ok("merge_customers", **{"into": customer, "from": [other]})["proposal_id"]
    for number in range(10):
        admin.ok("POST", f"/admin/customers/{customer}/contacts", {"first_name": str(number)})
    admin.ok("DELETE", f"/admin/customers/{customer}")
    assert tools.ok("restore_record", type="customer", id=customer)["proposal_id"]
    refused(admin.get(f"/admin/customers/{customer}"), 404, "CUSTOMER_NOT_FOUND")


def test_so_many_wait_for_one_person(admin: Caller, tools: Tools, settings: Settings) -> None:
    customer = admin.customer("Ada")["id"]
    propose(tools, customer, status="active")
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        owner.execute(
            f"INSERT INTO proposals ({KEPT}) SELECT {KEPT} FROM proposals, generate_series(2, %s)",
            [MOST_PENDING],
        )
    told = tools.refused("update_record", type="customer", id=customer, values={"status": "active"})
    assert "Too many proposals wait" in told
    # Those of an AI client do not stop the assistant.
    with psycopg.connect(settings.migration_dsn) as owner:
        owner.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
        owner.execute("UPDATE proposals SET via = 'assistant'")
    assert propose(tools, customer, status="active")


def test_an_erasure_deletes_the_proposals_that_are_about_it(admin: Caller, tools: Tools) -> None:
    customer, other = admin.customer("Ada")["id"], admin.customer("Grace")["id"]
    about = [propose(tools, customer, status="active"), propose(tools, other, status="active")]
    note = tools.ok("add_note", content="About Ada", customer_id=customer)["proposal_id"]
    erase(admin, f"/admin/customers/{customer}", "Ada")
    refused(admin.get(about[0]), 404, "PROPOSAL_NOT_FOUND")
    refused(admin.get(f"/admin/proposals/{note}"), 404, "PROPOSAL_NOT_FOUND")
    assert admin.ok("GET", about[1])["title"] == "Grace"
