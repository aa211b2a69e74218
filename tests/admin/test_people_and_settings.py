"""Who is asking, who else is there, and what their organization has set."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.admin.settings import schemas
from tests.callers import Caller, Callers, refused


def test_me_is_what_the_token_says(callers: Callers, tenant: str) -> None:
    person = callers.person("Owner ", tenant, user_id="12", name="Olga", email="olga@example.com")
    assert person.ok("GET", "/admin/me") == {
        "user": {
            "id": 12,
            "email": "olga@example.com",
            "name": "Olga",
            "role": "admin",
            "roles": ["admin"],
            "tenant_id": tenant,
            "is_active": True,
        },
        "permissions": ["read", "write", "delete", "manage_all", "configure", "audit", "read:sources"],
    }


def test_permissions_follow_the_role(manager: Caller, agent: Caller) -> None:
    assert manager.ok("GET", "/admin/me")["permissions"][:-1] == ["read", "write", "delete", "manage_all"]
    assert agent.ok("GET", "/admin/me")["permissions"][:-1] == ["read", "write", "manage_own"]


def test_everybody_who_came_by_is_listed_by_name(callers: Callers, tenant: str, stranger: Caller) -> None:
    stranger.ok("GET", "/admin/me")
    for name, role in (("zoe", "agent"), ("Ada", "admin")):
        callers.person(role, tenant, user_id=f"{name}-1", name=name, email=f"{name}@example.com").ok("GET", "/admin/me")
    # As they came by before: a token with another role would be stored.
    reader = callers.person("agent", tenant, user_id="zoe-1", name="zoe", email="zoe@example.com")
    listed = reader.ok("GET", "/admin/users")["data"]
    assert [(user["id"], user["name"], user["role"]) for user in listed] == [
        ("Ada-1", "Ada", "admin"),
        ("zoe-1", "zoe", "agent"),
    ]
    assert [user["name"] for user in reader.ok("GET", "/admin/users", search="ZOE@")["data"]] == ["zoe"]


def test_a_first_visit_by_many_at_once_makes_one_person_and_one_settings_row(callers: Callers, tenant: str) -> None:
    person = callers.person("admin", tenant)
    with ThreadPoolExecutor(10) as pool:
        assert {answer.status_code for answer in pool.map(lambda _: person.get("/admin/settings"), range(10))} == {200}
    assert person.ok("GET", "/admin/users")["total"] == 1


def test_settings_begin_with_the_services_defaults_and_are_changed_by_admins(admin: Caller, agent: Caller) -> None:
    first = agent.ok("GET", "/admin/settings")
    assert (first["default_currency"], first["timezone"], first["version"]) == ("USD", "UTC", 1)
    refused(agent.put("/admin/settings", {"timezone": "Europe/Berlin"}), 403, "INSUFFICIENT_PERMISSIONS")
    answer = admin.put("/admin/settings", {"timezone": "Europe/Berlin"}, headers={"If-Match": '"1"'})
    assert (answer.json()["timezone"], answer.headers["ETag"]) == ("Europe/Berlin", '"2"')
    refused(admin.put("/admin/settings", {"timezone": "UTC"}, headers={"If-Match": '"1"'}), 412, "VERSION_CONFLICT")


def test_a_currency_and_a_zone_must_exist(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(admin.put("/admin/settings", {"default_currency": "EURO"}), 400, "INVALID_CURRENCY")
    refused(admin.put("/admin/settings", {"timezone": "Mars/Olympus"}), 400, "INVALID_REQUEST")
    # One of a newer list than the server's is refused by the server.
    monkeypatch.setattr(schemas, "TIMEZONES", {"Mars/Olympus"})
    for path in ("/admin/settings", "/admin/me/notification-settings"):
        data = refused(admin.put(path, {"timezone": "Mars/Olympus"}), 400, "INVALID_TIMEZONE")
        assert [fault["field"] for fault in data["fields"]] == ["timezone"]
    both = refused(admin.put("/admin/settings", {"timezone": 1, "default_currency": "x"}), 400, "INVALID_REQUEST")
    assert {fault["field"] for fault in both["fields"]} == {"timezone", "default_currency"}
