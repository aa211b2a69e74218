"""Proposals: nothing is done until the person approves, and then only what was shown."""

from __future__ import annotations

import pytest

from tests.callers import Caller, refused
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
