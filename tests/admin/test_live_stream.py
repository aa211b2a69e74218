"""The live stream, as a screen reads it."""

from __future__ import annotations

from tests.admin.test_events import Seal, seal
from tests.callers import Caller
from tests.streams import listening

__all__ = ["seal"]


def test_a_change_is_told_as_it_happens(admin: Caller, agent: Caller, seal: Seal) -> None:
    with listening(admin) as mine, listening(agent) as theirs:
        assert (mine.status, mine.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert (mine.headers["cache-control"], mine.headers["x-accel-buffering"]) == ("no-store", "no")
        customer = admin.customer()
        admin.ok("PATCH", f"/admin/customers/{customer['id']}", {"assigned_to": 12})
        seal()
        first, second = mine.events(2)
        assert theirs.events(2) == [first, second]
    at = admin.audit()[0]["created_at"]
    assert (second.id, second.type) == (2, "customer.assigned")
    assert second.data == {
        "sequence": 2,
        "type": "customer.assigned",
        "resource_type": "customer",
        "resource_id": customer["id"],
        "version": 2,
        "user_id": admin.user_id,
        "at": at,
    }
