"""What people are told, exactly once, and how they want to be told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.admin.notifications.watching import NotificationWatch, remind
from app.db.database import Database
from app.settings import Settings
from tests.callers import Caller
from tests.records.chains import seal

Tell = Callable[[], None]
PATH = "/admin/me/notifications"


@pytest.fixture
def tell(settings: Settings, tenant: str) -> Tell:
    """Do what the background does for the organization."""

    async def catch_up() -> None:
        async with Database(settings) as database:
            await NotificationWatch(database).catch_up(tenant)
            await remind(database)

    def run() -> None:
        seal(settings)
        asyncio.run(catch_up())

    return run


def told(caller: Caller, **query: Any) -> list[tuple[str, str]]:
    """The kinds and texts of what a person was told, newest first."""
    return [(each["kind"], each["text"]) for each in caller.ok("GET", PATH, **query)["data"]]


def later(**after: int) -> str:
    return (datetime.now(UTC) + timedelta(**after)).isoformat()


def test_what_somebody_else_gives_a_person_is_told_once(admin: Caller, agent: Caller, tell: Tell) -> None:
    mine = admin.customer("Mine", assigned_to=agent.user_id)
    agent.ok("POST", "/admin/activities", {"title": "My own", "type": "call"})
    tell()
    tell()
    (notification,) = agent.ok("GET", PATH)["data"]
    assert notification == {
        "id": notification["id"],
        "kind": "assigned",
        "at": notification["at"],
        "read_at": None,
        "actor": {"id": admin.user_id, "name": notification["actor"]["name"]},
        "record": {"type": "customer", "id": mine["id"], "title": "Mine"},
        "text": f"{notification['actor']['name']} assigned a customer to you: Mine",
    }
    assert admin.ok("GET", PATH)["data"] == []


def test_a_reminder_comes_once_and_not_of_what_is_done(admin: Caller, tell: Tell) -> None:
    for title, fields in (
        ("Call", {}),
        ("Done", {"status": "completed"}),
        ("Later", {"remind_at": later(hours=1)}),
        ("Trashed", {}),
    ):
        body = {"title": title, "type": "call", "due_date": later(hours=1), "remind_at": later(seconds=-5), **fields}
        made = admin.ok("POST", "/admin/activities", body)
        if title == "Trashed":
            admin.ok("DELETE", f"/admin/activities/{made['id']}")
    tell()
    tell()
    ((kind, text),) = told(admin)
    assert kind == "reminder"
    assert text.startswith("Reminder of an activity, due on ")
    assert text.endswith(": Call")
