"""Webhooks: what other systems receive."""

from __future__ import annotations

from tests.callers import Caller
from tests.events.conftest import Deliver, Receiver, hook, sent


def test_an_event_arrives_signed_and_once(admin: Caller, receiver: Receiver, deliver: Deliver) -> None:
    webhook = hook(admin, receiver.url, "customer.*")
    customer = admin.customer("Ada")
    deliver(lambda: sent(admin, webhook, status="delivered"))
    (got,) = receiver.got
    got.verify(webhook["secret"])
    (event,) = admin.ok("GET", "/admin/events", after=0, types="customer.*")["data"]
    assert got.body == {"type": "customer.created", "timestamp": event["at"], "data": event}
    assert event["record"]["id"] == customer["id"]
    (delivery,) = sent(admin, webhook)
    assert (delivery["type"], delivery["sequence"]) == ("customer.created", event["sequence"])
    assert got.id == delivery["message_id"]
    (attempt,) = delivery["attempts"]
    assert (attempt["status"], attempt["error"], attempt["response"]) == (204, None, "")
