"""What an organization may have at most, where the operator set a limit: the database refuses more on every way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.callers import Caller, Callers, refused


@pytest.fixture
def limited(callers: Callers, tenant: str, variant: Callable[..., Any]) -> Callable[..., Caller]:
    """An admin of the organization, where the service has these limits."""
    return lambda **limits: callers.person("admin", tenant, client=variant(**limits))


def test_one_record_more_than_the_limit_is_refused_whatever_it_is(limited: Callable[..., Caller]) -> None:
    admin = limited(max_records=3)
    customer = admin.customer()
    note = {"content": "Called", "customer_id": customer["id"]}
    for _ in range(2):
        admin.ok("POST", "/admin/notes", note)
    for path, body in (("customers", {"name": "Grace"}), ("notes", note)):
        data = refused(admin.post(f"/admin/{path}", body), 409, "QUOTA_EXCEEDED")
        assert data == {"limit": "records", "max": 3}
    assert admin.ok("GET", "/admin/customers")["total"] == 1
    # What is there can be changed, and what is deleted makes room.
    admin.ok("PATCH", f"/admin/customers/{customer['id']}", {"status": "active"})
    admin.ok("DELETE", f"/admin/customers/{customer['id']}")
    grace = admin.customer("Grace")
    # A restore brings back the notes too: together they are one too many.
    refused(admin.post(f"/admin/customers/{customer['id']}/restore"), 409, "QUOTA_EXCEEDED")
    admin.ok("DELETE", f"/admin/customers/{grace['id']}")
    admin.ok("POST", f"/admin/customers/{customer['id']}/restore")


def test_who_is_above_a_new_limit_changes_and_moves_what_is_there(
    limited: Callable[..., Caller], admin: Caller
) -> None:
    customers = [admin.customer(f"Ada {number}")["id"] for number in range(3)]
    late = limited(max_records=1)
    for customer_id in customers:
        late.ok("PATCH", f"/admin/customers/{customer_id}", {"status": "prospect"})
    refused(late.post("/admin/customers", {"name": "Grace"}), 409, "QUOTA_EXCEEDED")


def test_a_batch_that_goes_beyond_the_limit_does_nothing(limited: Callable[..., Caller]) -> None:
    admin = limited(max_records=2)
    made = [{"method": "POST", "path": "/admin/customers", "body": {"name": f"Ada {number}"}} for number in range(3)]
    answer = admin.post("/admin/batch", {"requests": made})
    assert answer.status_code == 409, answer.text
    assert admin.ok("GET", "/admin/customers")["total"] == 0


def test_files_beyond_the_limit_are_refused_and_those_in_the_trash_count(limited: Callable[..., Caller]) -> None:
    admin = limited(max_storage_bytes=12)
    path = f"/admin/customers/{admin.customer()['id']}"
    first = admin.attach(path, b"Hello").json()
    admin.attach(path, b"World")
    expected = {"limit": "bytes", "max": 12}
    assert refused(admin.attach(path, b"Again"), 409, "QUOTA_EXCEEDED") == expected
    planned = {"file_name": "a.txt", "content_type": "text/plain", "size": 3}
    assert refused(admin.post(f"{path}/attachments/uploads", planned), 409, "QUOTA_EXCEEDED") == expected
    admin.ok("DELETE", f"/admin/attachments/{first['id']}")
    refused(admin.attach(path, b"Again"), 409, "QUOTA_EXCEEDED")
    assert admin.attach(path, b"!!").status_code == 201


def test_the_database_refuses_files_too_that_nobody_looked_at_before(
    limited: Callable[..., Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def looks_at_nothing(*_: object) -> None:
        pass

    monkeypatch.setattr("app.admin.attachments.service.require_room", looks_at_nothing)
    admin = limited(max_storage_bytes=4)
    path = f"/admin/customers/{admin.customer()['id']}"
    refused(admin.attach(path, b"Hello"), 409, "QUOTA_EXCEEDED")
    assert admin.ok("GET", f"{path}/attachments")["total"] == 0


def test_one_member_more_is_neither_invited_nor_let_in(
    limited: Callable[..., Caller], callers: Callers, tenant: str
) -> None:
    admin = limited(max_members=2)
    member = admin.ok("POST", "/admin/members", {"email": "ada@x.example"})
    expected = {"limit": "members", "max": 2}
    assert refused(admin.post("/admin/members", {"email": "bo@x.example"}), 409, "QUOTA_EXCEEDED") == expected
    somebody = callers.person("agent", tenant, client=admin.client)
    assert refused(somebody.get("/admin/customers"), 409, "QUOTA_EXCEEDED") == expected
    # Who was expected comes in; who is deactivated makes room.
    ada = callers.person("agent", tenant, client=admin.client, email="ada@x.example")
    ada.ok("GET", "/admin/customers")
    admin.ok("PATCH", f"/admin/members/{member['id']}", {"is_active": False})
    somebody.ok("GET", "/admin/customers")
    refused(admin.patch(f"/admin/members/{member['id']}", {"is_active": True}), 409, "QUOTA_EXCEEDED")
