"""What the tools answer."""

from __future__ import annotations

import pytest

from tests.callers import Caller
from tests.tools import Tools


@pytest.fixture
def tools(admin: Caller) -> Tools:
    return Tools(admin, "admin")


def test_what_happened_on_the_phone_is_written_down_in_the_right_place(admin: Caller, tools: Tools) -> None:
    customer = admin.customer("Analytical Engines", company="Analytical Engines Ltd")["id"]
    (found,) = tools.ok("search", q="analyt")["data"]
    assert (found["type"], found["id"], found["untrusted"]["title"]) == ("customer", customer, "Analytical Engines")
    made = tools.approved("create_record", type="contact", values={"first_name": "Grace", "customer_id": customer})
    called = tools.approved("log_activity", type="call", title="She wants an offer", customer_id=customer)
    assert (called["status"], called["customer_id"]) == ("completed", customer)
    tools.approved("add_note", content="Likes to be called before noon", customer_id=customer)
    deal = tools.approved(
        "create_record", type="deal", values={"title": "Engine", "customer_id": customer, "amount": 1500.5}
    )
    moved = tools.approved("move_deal", id=deal["id"], stage="proposal")
    assert (moved["stage"], moved["amount"]) == ("proposal", 1500.5)
    shown = tools.ok("get_record", type="customer", id=customer)["data"]
    assert [each["id"] for each in shown["untrusted"]["contacts"]] == [made["id"]]
    assert shown["open_deals_count"] == 1
    assert {entry["via"] for entry in admin.audit()[:5]} == {"mcp"}
