"""What an organization may have at most, where the operator set a limit: the database refuses more on every way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.callers import Caller, Callers, refused
from tests.processes import fetch, wait_until


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


def test_what_comes_back_from_the_trash_at_once_counts_too(limited: Callable[..., Caller]) -> None:
    admin = limited(max_records=3)
    ids = [admin.customer(f"Ada {number}")["id"] for number in range(3)]
    admin.ok("POST", "/admin/customers/bulk", {"ids": ids[:2], "action": "trash"})
    (operation,) = {entry["operation_id"] for entry in admin.audit(action="delete")}
    admin.customer("Grace")
    back = {"ids": ids[:2], "action": "restore"}
    data = refused(admin.post("/admin/customers/bulk", back), 409, "BULK_REFUSED")
    assert {each["code"] for each in data["refused"]} == {"QUOTA_EXCEEDED"}
    undone = admin.post(f"/admin/operations/{operation}/undo", {})
    assert refused(undone, 409, "QUOTA_EXCEEDED") == {"limit": "records", "max": 3}
    assert admin.ok("GET", "/admin/customers")["total"] == 2


def test_a_merge_whose_records_no_longer_have_room_is_not_taken_back(limited: Callable[..., Caller]) -> None:
    admin = limited(max_records=2)
    one, other = (admin.customer(name)["id"] for name in ("Ada", "Ada L."))
    admin.ok("POST", f"/admin/customers/{one}/merge", {"from": [other]})
    admin.customer("Grace")
    (entry, *_) = admin.audit(action="merge")
    undone = admin.post(f"/admin/operations/{entry['operation_id']}/undo", {})
    assert refused(undone, 409, "QUOTA_EXCEEDED") == {"limit": "records", "max": 2}
    assert admin.ok("GET", "/admin/customers")["total"] == 2


def test_direct_uploads_that_were_begun_at_the_same_time_count_when_they_are_completed(
    limited: Callable[..., Caller],
) -> None:
    admin = limited(max_storage_bytes=7)
    path = f"/admin/customers/{admin.customer()['id']}/attachments"
    planned = {"file_name": "a.txt", "content_type": "text/plain", "size": 5}
    begun = [admin.ok("POST", f"{path}/uploads", planned) for _ in range(2)]
    for upload in begun:
        assert fetch(upload["upload_url"], "PUT", content=b"Hello", headers=upload["headers"]).status_code == 200
    first, second = (f"/admin/attachments/{upload['id']}/complete" for upload in begun)
    admin.ok("POST", first)
    assert refused(admin.post(second), 409, "QUOTA_EXCEEDED") == {"limit": "bytes", "max": 7}
    assert admin.ok("GET", path)["total"] == 1


@pytest.mark.slow
def test_an_import_beyond_the_limit_is_taken_back(limited: Callable[..., Caller]) -> None:
    admin = limited(max_records=2, jobs_in_service=True)

    def result(job: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def is_over() -> bool:
            found.update(admin.ok("GET", f"/admin/jobs/{job['id']}"))
            return found["finished_at"] is not None

        wait_until(is_over, "the end of the job")
        return found

    files = {"file": ("people.csv", b"Name\nAda\nBo\nCy\n")}
    made = admin.call("POST", "/admin/imports", files=files, data={"kind": "customers"}).json()
    path = f"/admin/imports/{made['id']}"
    assert result(admin.ok("PUT", f"{path}/plan", {"mapping": {"Name": "name"}})["job"])["status"] == "done"
    error = result(admin.ok("POST", f"{path}/run", {})["job"])["error"]
    assert (error["code"], error["data"]["row"]) == ("IMPORT_STOPPED", 4)
    assert "as many records as it may" in error["message"]
    assert admin.ok("GET", "/admin/customers")["total"] == 0
