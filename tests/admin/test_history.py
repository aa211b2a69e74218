"""What a record was, and taking changes back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.settings import Settings
from tests.callers import Caller, Callers, refused


def newest(caller: Caller, path: str) -> dict[str, Any]:
    entry: dict[str, Any] = caller.ok("GET", f"{path}/versions")["data"][0]
    return entry


def undo(caller: Caller, path: str, entry: dict[str, Any]) -> Any:
    return caller.ok("POST", f"{path}/undo", {"entry_id": entry["id"]})


def undo_operation(caller: Caller, operation_id: str, **options: str) -> Any:
    return caller.ok("POST", f"/admin/operations/{operation_id}/undo", options)


def operation(response: Any) -> str:
    assert response.is_success, response.text
    return str(response.headers["X-Operation-Id"])


def test_versions_tell_every_change_of_a_record_and_addresses_to_admins_only(callers: Callers, tenant: str) -> None:
    admin, agent = callers.person("admin", tenant), callers.person("agent", tenant)
    path = f"/admin/customers/{admin.customer('Ada')['id']}"
    admin.ok("PATCH", path, {"status": "active"})
    mine, theirs = (who.ok("GET", f"{path}/versions") for who in (admin, agent))
    assert [(entry["version"], entry["action"]) for entry in mine["data"]] == [(2, "update"), (1, "create")]
    assert mine["data"][0]["changes"] == {"status": {"old": "lead", "new": "active"}}
    assert mine["total"] == theirs["total"] == 2
    assert mine["data"][0]["user_agent"]
    assert [(entry["ip_address"], entry["user_agent"]) for entry in theirs["data"]] == [(None, None)] * 2


def test_a_record_is_shown_as_it_was(admin: Caller) -> None:
    before = datetime.now(UTC)
    customer = admin.customer("Ada", company="Engines")
    deal = admin.ok("POST", "/admin/deals", {"title": "Engine", "customer_id": customer["id"], "amount": 10.5})
    path = f"/admin/deals/{deal['id']}"
    admin.ok("PATCH", path, {"stage": "proposal", "amount": 12})
    moved = admin.ok("GET", path)
    time.sleep(0.01)
    admin.ok("PATCH", path, {"title": "Engines", "stage": "negotiation"})
    admin.ok("DELETE", path)
    refused(admin.get(path, as_of=before.isoformat()), 404, "DEAL_NOT_FOUND")
    first = admin.ok("GET", path, as_of=deal["updated_at"])
    shared = first.keys() & deal.keys()
    assert {name: first[name] for name in shared} == {name: deal[name] for name in shared}
    assert {"contact", "customer"} == deal.keys() - shared
    second = admin.ok("GET", path, as_of=moved["updated_at"])
    assert {name: second[name] for name in shared} == {name: moved[name] for name in shared}
    assert (second["stage"], second["amount"], second["version"]) == ("proposal", 12, 2)
    assert admin.ok("GET", path, as_of="9999-12-31")["deleted_at"] is not None


def test_a_tag_that_is_gone_comes_back_under_its_id_to_those_who_had_it(admin: Caller) -> None:
    tag, other = admin.tag("VIP"), admin.tag("Other")
    customer = admin.customer("Ada")
    path = f"/admin/customers/{customer['id']}"
    admin.ok("PUT", f"{path}/tags", {"tag_ids": [tag["id"], other["id"]]})
    removed = operation(admin.delete(f"/admin/tags/{tag['id']}"))
    assert undo_operation(admin, removed)["changed"] == 2
    assert [each["name"] for each in admin.ok("GET", path)["tags"]] == ["Other", "VIP"]
    back = admin.ok("GET", f"/admin/tags/{tag['id']}")
    assert back == tag | {"version": 2, "customer_count": 1, "updated_at": back["updated_at"]}


def test_a_change_is_taken_back_and_taken_back_again(admin: Caller) -> None:
    path = f"/admin/customers/{admin.customer('Ada', email='ada@example.com')['id']}"
    admin.ok("PATCH", path, {"status": "active", "email": "lovelace@example.com"})
    undone = undo(admin, path, newest(admin, path))
    assert (undone["status"], undone["email"], undone["version"]) == ("lead", "ada@example.com", 3)
    redone = undo(admin, path, newest(admin, path))
    assert (redone["status"], redone["email"], redone["version"]) == ("active", "lovelace@example.com", 4)


def test_what_was_changed_since_is_not_overwritten(admin: Caller) -> None:
    path = f"/admin/customers/{admin.customer('Ada')['id']}"
    answer = admin.patch(path, {"status": "active", "company": "Engines"})
    entry = newest(admin, path)
    admin.ok("PATCH", path, {"status": "churned"})
    fields = refused(admin.post(f"{path}/undo", {"entry_id": entry["id"]}), 409, "CHANGED_SINCE")["fields"]
    assert [field["field"] for field in fields] == ["status"]
    assert admin.ok("GET", path)["company"] == "Engines"
    refused(admin.post(f"/admin/operations/{operation(answer)}/undo", {}), 409, "CHANGED_SINCE")
    result = undo_operation(admin, operation(answer), changed_since="keep")
    customer = admin.ok("GET", path)
    assert (customer["company"], customer["status"]) == (None, "churned")
    kept = {"resource_type": "customer", "resource_id": customer["id"], "field": "status"}
    assert (result["changed"], result["kept"]) == (1, [kept])


def test_a_deleted_customer_comes_back_with_what_went_with_it_and_goes_again(admin: Caller) -> None:
    customer = admin.customer("Ada")
    path = f"/admin/customers/{customer['id']}"
    note = admin.ok("POST", f"{path}/notes", {"content": "A note"})
    gone = admin.ok("POST", f"{path}/notes", {"content": "Trashed before"})
    deal = admin.ok("POST", "/admin/deals", {"title": "Engine", "customer_id": customer["id"]})
    activity = {"title": "Call", "type": "call", "deal_id": deal["id"]}
    activity = admin.ok("POST", "/admin/activities", activity)
    admin.ok("DELETE", f"/admin/notes/{gone['id']}")
    deleted = operation(admin.delete(path))
    restored = admin.post(f"/admin/operations/{deleted}/undo", {})
    for back in (
        path,
        f"/admin/notes/{note['id']}",
        f"/admin/deals/{deal['id']}",
        f"/admin/activities/{activity['id']}",
    ):
        admin.ok("GET", back)
    refused(admin.get(f"/admin/notes/{gone['id']}"), 404, "NOTE_NOT_FOUND")
    before = admin.audit(resource_type="customer", action="delete")[0]
    undo_operation(admin, operation(restored))
    after = admin.audit(resource_type="customer", action="delete")[0]
    assert before["new_values"] == after["new_values"], "it is in the trash since the same moment"
    refused(admin.get(f"/admin/activities/{activity['id']}"), 404, "ACTIVITY_NOT_FOUND")


def test_what_was_made_goes_into_the_trash_unless_others_added_to_it(admin: Caller) -> None:
    answer = admin.post("/admin/customers", {"name": "Ada"})
    path = f"/admin/customers/{answer.json()['id']}"
    note = admin.ok("POST", f"{path}/notes", {"content": "Typed by somebody"})
    fields = refused(admin.post(f"/admin/operations/{operation(answer)}/undo", {}), 409, "CHANGED_SINCE")["fields"]
    assert [field["field"] for field in fields] == ["notes"]
    kept = undo_operation(admin, operation(answer), changed_since="keep")
    assert (kept["changed"], [each["field"] for each in kept["kept"]]) == (0, ["notes"])
    admin.ok("DELETE", f"/admin/notes/{note['id']}")
    assert undo_operation(admin, operation(answer))["changed"] == 1
    refused(admin.get(path), 404, "CUSTOMER_NOT_FOUND")


def test_an_agent_takes_its_own_change_back_within_minutes_even_a_move(
    callers: Callers, tenant: str, variant: Callable[..., TestClient[Litestar]]
) -> None:
    agent = callers.person("agent", tenant)
    customer = agent.customer("Ada")
    deal = agent.ok("POST", "/admin/deals", {"title": "Engine", "customer_id": customer["id"]})
    path = f"/admin/deals/{deal['id']}"
    agent.ok("PATCH", path, {"stage": "negotiation"})
    late = callers.person("agent", tenant, user_id=agent.user_id, client=variant(undo_minutes=0))
    entry = {"entry_id": newest(agent, path)["id"]}
    refused(late.post(f"{path}/undo", entry), 403, "STAGE_ROLLBACK_FORBIDDEN")
    assert agent.ok("POST", f"{path}/undo", entry)["stage"] == "prospecting"
    created = {"entry_id": agent.ok("GET", f"{path}/versions")["data"][-1]["id"]}
    refused(late.post(f"{path}/undo", created), 403, "INSUFFICIENT_PERMISSIONS")
    assert agent.ok("POST", f"{path}/undo", created)["deleted_at"] is not None
    other = callers.person("agent", tenant)
    refused(other.post(f"/admin/customers/{customer['id']}/undo", created), 400, "AUDIT_NOT_FOUND")


def test_nobody_takes_back_what_is_another_tenant_s_or_not_there(callers: Callers, admin: Caller) -> None:
    answer = admin.post("/admin/customers", {"name": "Ada"})
    path = f"/admin/customers/{answer.json()['id']}"
    stranger = callers.person("admin", f"other-{uuid4().hex[:8]}")
    refused(stranger.post(f"/admin/operations/{operation(answer)}/undo", {}), 404, "OPERATION_NOT_FOUND")
    refused(stranger.post(f"{path}/undo", {"entry_id": newest(admin, path)["id"]}), 404, "CUSTOMER_NOT_FOUND")
    refused(admin.post(f"/admin/operations/{uuid4()}/undo", {}), 404, "OPERATION_NOT_FOUND")
    refused(admin.post("/admin/operations/1/undo", {}), 400, "INVALID_ID")


def test_an_operation_of_long_ago_stays(
    admin: Caller, variant: Callable[..., TestClient[Litestar]], callers: Callers
) -> None:
    answer = admin.post("/admin/customers", {"name": "Ada"})
    late = callers.person("admin", admin.tenant, client=variant(undo_days=0))
    refused(late.post(f"/admin/operations/{operation(answer)}/undo", {}), 409, "UNDO_EXPIRED")


@pytest.fixture
def cut(settings: Settings) -> Iterator[Callable[[str, int], None]]:
    """Cuts a tenant's log after an entry, as retention does."""
    with psycopg.connect(settings.migration_dsn, autocommit=True) as owner:
        owner.execute("ALTER TABLE audit_cuts NO FORCE ROW LEVEL SECURITY")
        insert = (
            "INSERT INTO audit_cuts (tenant_id, sequence, entry_id, hash, until) VALUES (%s, 1, %s, sha256(''), now())"
        )

        def cut_after(tenant: str, entry: int) -> None:
            owner.execute(insert, [tenant, entry])

        yield cut_after
        owner.execute("DELETE FROM audit_cuts")
        owner.execute("ALTER TABLE audit_cuts FORCE ROW LEVEL SECURITY")


def test_what_retention_cut_can_not_be_told_any_more(admin: Caller, cut: Callable[[str, int], None]) -> None:
    path = f"/admin/customers/{admin.customer('Ada')['id']}"
    entry = newest(admin, path)
    cut(admin.tenant, entry["id"] + 1000)
    refused(admin.get(path, as_of="2026-01-01"), 410, "HISTORY_CUT")
    refused(admin.post(f"{path}/undo", {"entry_id": entry["id"] + 999}), 410, "HISTORY_CUT")
    assert undo(admin, path, entry)["deleted_at"] is not None


def test_an_agent_who_sees_its_own_only_learns_nothing_of_others(
    callers: Callers, tenant: str, own_scope: TestClient[Litestar]
) -> None:
    admin = callers.person("admin", tenant)
    agent = callers.person("agent", tenant, client=own_scope)
    answer = admin.post("/admin/customers", {"name": "Ada"})
    path = f"/admin/customers/{answer.json()['id']}"
    refused(agent.post(f"/admin/operations/{operation(answer)}/undo", {}), 404, "OPERATION_NOT_FOUND")
    refused(agent.get(f"{path}/versions"), 404, "CUSTOMER_NOT_FOUND")
    refused(agent.get(path, as_of="9999-12-31"), 404, "CUSTOMER_NOT_FOUND")
    refused(agent.post(f"{path}/undo", {"entry_id": newest(admin, path)["id"]}), 404, "CUSTOMER_NOT_FOUND")


def test_stages_and_their_order_come_back(admin: Caller) -> None:
    def stages() -> list[tuple[str, int]]:
        return [(stage["name"], stage["order"]) for stage in admin.ok("GET", "/admin/pipeline-stages")["data"]]

    before = stages()
    ids = [stage["id"] for stage in admin.ok("GET", "/admin/pipeline-stages")["data"]]
    steps = [
        admin.put("/admin/pipeline-stages/order", {"ids": ids[::-1]}),
        admin.post("/admin/pipeline-stages", {"name": "new", "display_name": "New", "order": 2}),
        admin.delete(f"/admin/pipeline-stages/{ids[1]}"),
    ]
    for step in reversed(steps):
        undo_operation(admin, operation(step))
    assert stages() == before


@pytest.mark.parametrize("amount", [0, 5])
def test_a_won_deal_keeps_an_amount(admin: Caller, amount: int) -> None:
    customer = admin.customer("Ada")
    deal = admin.ok("POST", "/admin/deals", {"title": "Engine", "customer_id": customer["id"], "amount": amount})
    path = f"/admin/deals/{deal['id']}"
    admin.ok("PATCH", path, {"amount": 10})
    raised = newest(admin, path)
    admin.ok("PATCH", path, {"stage": "closed_won"})
    if amount:
        assert undo(admin, path, raised)["amount"] == amount
    else:
        refused(admin.post(f"{path}/undo", {"entry_id": raised["id"]}), 400, "WON_NEEDS_AMOUNT")


def test_what_is_in_the_trash_is_not_changed_there(callers: Callers, tenant: str) -> None:
    admin, agent = callers.person("admin", tenant), callers.person("agent", tenant)
    path = f"/admin/customers/{agent.customer('Ada')['id']}"
    admin.ok("POST", f"{path}/contacts", {"first_name": "One", "is_primary": True})
    two = admin.post(f"{path}/contacts", {"first_name": "Two", "is_primary": True})
    agent.ok("PATCH", path, {"company": "Engines"})
    renamed = newest(agent, path)
    admin.ok("DELETE", path)
    refused(agent.post(f"{path}/undo", {"entry_id": renamed["id"]}), 404, "CUSTOMER_NOT_FOUND")
    refused(admin.post(f"{path}/undo", {"entry_id": renamed["id"]}), 409, "CHANGED_SINCE")
    refused(admin.post(f"/admin/operations/{operation(two)}/undo", {}), 409, "CHANGED_SINCE")
    assert admin.ok("POST", f"{path}/restore")["company"] == "Engines"


def test_what_others_added_since_a_restore_is_not_taken_along(callers: Callers, tenant: str) -> None:
    admin, agent = callers.person("admin", tenant), callers.person("agent", tenant)
    made = agent.post("/admin/customers", {"name": "Ada"})
    path = f"/admin/customers/{made.json()['id']}"
    gone = agent.post(f"/admin/operations/{operation(made)}/undo", {})
    back = agent.post(f"/admin/operations/{operation(gone)}/undo", {})
    admin.ok("POST", f"{path}/notes", {"content": "Mine"})
    fields = refused(agent.post(f"/admin/operations/{operation(back)}/undo", {}), 409, "CHANGED_SINCE")["fields"]
    assert [field["field"] for field in fields] == ["notes"]


def test_an_agent_who_sees_its_own_only_takes_nothing_of_others_along(
    callers: Callers, tenant: str, own_scope: TestClient[Litestar]
) -> None:
    admin, agent = callers.person("admin", tenant), callers.person("agent", tenant, client=own_scope)
    made = agent.post("/admin/customers", {"name": "Ada"})
    admin.ok("POST", f"/admin/customers/{made.json()['id']}/notes", {"content": "Mine"})
    refused(agent.post(f"/admin/operations/{operation(made)}/undo", {}), 409, "CHANGED_SINCE")


def test_a_tag_that_others_use_stays(callers: Callers, tenant: str) -> None:
    admin, manager = callers.person("admin", tenant), callers.person("manager", tenant)
    made = admin.post("/admin/tags", {"name": "VIP"})
    customer = manager.customer("Ada")["id"]
    manager.ok("POST", f"/admin/customers/{customer}/tags", {"tag_ids": [made.json()["id"]]})
    fields = refused(admin.post(f"/admin/operations/{operation(made)}/undo", {}), 409, "CHANGED_SINCE")["fields"]
    assert [field["field"] for field in fields] == ["customers"]


def test_an_agent_does_not_restore_what_an_admin_deleted(callers: Callers, tenant: str) -> None:
    admin, agent = callers.person("admin", tenant), callers.person("agent", tenant)
    customer = agent.customer("Ada")["id"]
    note = agent.ok("POST", f"/admin/customers/{customer}/notes", {"content": "Mine"})["id"]
    by_admin = operation(admin.delete(f"/admin/notes/{note}"))
    refused(agent.post(f"/admin/operations/{by_admin}/undo", {}), 403, "INSUFFICIENT_PERMISSIONS")
    undo_operation(admin, by_admin)
    undo_operation(agent, operation(agent.delete(f"/admin/notes/{note}")))


def test_of_several_fields_those_that_fit_go_back(admin: Caller) -> None:
    customer = admin.customer("Ada", email="ada@example.com", phone="030 1")
    path = f"/admin/customers/{customer['id']}"
    answer = admin.patch(path, {"email": "lovelace@example.com", "phone": "030 2"})
    admin.customer("Other", email="ada@example.com")
    fields = refused(admin.post(f"/admin/operations/{operation(answer)}/undo", {}), 409, "CHANGED_SINCE")["fields"]
    assert [field["field"] for field in fields] == ["email"]
    result = undo_operation(admin, operation(answer), changed_since="keep")
    assert [kept["field"] for kept in result["kept"]] == ["email"]
    after = admin.ok("GET", path)
    assert (after["email"], after["phone"]) == ("lovelace@example.com", "030 1")


def test_a_tag_is_shown_as_it_was_before_it_was_gone(admin: Caller) -> None:
    tag = admin.tag("VIP")
    undo_operation(admin, operation(admin.delete(f"/admin/tags/{tag['id']}")))
    then = admin.ok("GET", f"/admin/tags/{tag['id']}", as_of=tag["updated_at"])
    assert (then["name"], then["version"]) == ("VIP", 1)
