"""Approving a proposal does what was shown, and else nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.callers import Caller, refused
from tests.tools import Tools


@pytest.fixture
def tools(admin: Caller) -> Tools:
    return Tools(admin, "admin")


def outdated(admin: Caller, told: dict[str, Any]) -> None:
    refused(admin.post(f"/admin/proposals/{told['proposal_id']}/approve"), 409, "PROPOSAL_OUTDATED")


def deal(admin: Caller, customer: int) -> int:
    made: int = admin.ok("POST", "/admin/deals", {"title": "Engine", "customer_id": customer})["id"]
    return made


def test_what_came_to_a_record_since_is_not_deleted_with_it(admin: Caller, tools: Tools) -> None:
    customer = admin.customer("Ada")["id"]
    deal(admin, customer)
    told = tools.ok("delete_record", type="customer", id=customer)
    later = deal(admin, customer)
    outdated(admin, told)
    assert admin.ok("GET", f"/admin/deals/{later}")["customer_id"] == customer
    tools.approved("delete_record", type="customer", id=customer)


def test_what_came_to_a_record_since_is_not_merged_with_it(admin: Caller, tools: Tools) -> None:
    kept, gone = admin.customer("Ada")["id"], admin.customer("Ada L.")["id"]
    told = tools.ok("merge_customers", **{"into": kept, "from": [gone]})
    later = deal(admin, gone)
    outdated(admin, told)
    assert admin.ok("GET", f"/admin/deals/{later}")["customer_id"] == gone
    tools.approved("merge_customers", **{"into": kept, "from": [gone]})


def test_a_deal_moves_to_the_stage_that_was_meant(admin: Caller, tools: Tools) -> None:
    one = deal(admin, admin.customer("Ada")["id"])
    path = f"/admin/pipeline-stages/{stage_id(admin, name='proposal')}"
    told = tools.ok("move_deal", id=one, stage="proposal")
    admin.ok("PATCH", path, {"name": "was_proposal"})
    admin.ok("PATCH", f"/admin/pipeline-stages/{stage_id(admin, kind='lost')}", {"name": "proposal"})
    outdated(admin, told)
    assert tools.approved("move_deal", id=one, stage="was_proposal")["stage"] == "was_proposal"


def stage_id(admin: Caller, **wanted: str) -> int:
    stages = admin.ok("GET", "/admin/pipeline-stages")["data"]
    found: int = next(each["id"] for each in stages if wanted.items() <= each.items())
    return found


def test_what_is_new_belongs_to_the_record_that_was_named(admin: Caller, tools: Tools) -> None:
    customer = admin.customer("Ada")["id"]
    told = tools.ok("add_note", customer_id=customer, content="Likes engines.")
    admin.ok("PATCH", f"/admin/customers/{customer}", {"name": "Eve"})
    outdated(admin, told)
    # Other changes of it do no harm.
    told = tools.ok("add_note", customer_id=customer, content="Likes engines.")
    admin.ok("PATCH", f"/admin/customers/{customer}", {"company": "Engines"})
    assert admin.ok("POST", f"/admin/proposals/{told['proposal_id']}/approve")["result"]["content"] == "Likes engines."
