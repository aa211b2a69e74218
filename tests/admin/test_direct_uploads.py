"""Files that a client puts straight into the store."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.admin.attachments import service
from tests.callers import Caller, Callers, refused
from tests.processes import fetch, wait_until

CONTENT = b"name,amount\nAda,1\n"
FILE = {"file_name": "../prices.csv", "content_type": "text/csv", "size": len(CONTENT)}


@pytest.fixture
def customer(admin: Caller) -> str:
    return f"/admin/customers/{admin.customer()['id']}"


@pytest.fixture
def incoming(data_dir: Path) -> Callable[[str], list[str]]:
    return lambda tenant: [str(path) for path in (data_dir / "objects/crm/incoming" / tenant).glob("*")]


def begun(caller: Caller, customer: str, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = caller.ok("POST", f"{customer}/attachments/uploads", FILE | fields)
    return made


def put(upload: dict[str, Any], content: bytes = CONTENT) -> int:
    return fetch(upload["upload_url"], "PUT", content=content, headers=upload["headers"]).status_code


def test_a_file_is_listed_once_it_was_put_and_completed(
    admin: Caller, customer: str, incoming: Callable[[str], list[str]]
) -> None:
    upload = begun(admin, customer)
    assert set(upload) == {"id", "upload_url", "headers", "expires_at"}
    path = f"/admin/attachments/{upload['id']}"
    refused(admin.post(f"{path}/complete"), 409, "UPLOAD_INCOMPLETE")
    assert put(upload) == 200
    assert len(incoming(admin.tenant)) == 1
    for hidden in (path, f"{path}/content"):
        refused(admin.get(hidden), 404, "ATTACHMENT_NOT_FOUND")
    refused(admin.delete(path), 404, "ATTACHMENT_NOT_FOUND")
    assert admin.ok("GET", f"{customer}/attachments", deleted="include")["total"] == 0
    assert [event["type"] for event in admin.ok("GET", f"{customer}/timeline")["data"]] == ["created"]
    completed = admin.ok("POST", f"{path}/complete")
    assert (completed["id"], completed["file_name"], completed["content_type"]) == (
        upload["id"],
        "prices.csv",
        "text/csv",
    )
    assert admin.ok("GET", f"{customer}/attachments")["data"] == [completed]
    assert admin.get(f"{path}/content").content == CONTENT
    assert incoming(admin.tenant) == []
    assert admin.ok("POST", f"{path}/complete") == completed
    (entry,) = admin.audit(resource_type="attachment")
    assert (entry["action"], entry["resource_id"]) == ("create", upload["id"])


def test_a_second_use_of_the_url_changes_nothing_that_is_listed(admin: Caller, customer: str) -> None:
    upload = begun(admin, customer)
    put(upload)
    completed = admin.ok("POST", f"/admin/attachments/{upload['id']}/complete")
    assert put(upload, b"other,amount\nBob,2") == 200
    assert admin.get(f"/admin/attachments/{upload['id']}/content").content == CONTENT
    assert admin.ok("POST", f"/admin/attachments/{upload['id']}/complete") == completed


def test_the_url_takes_no_other_length_type_or_method(admin: Caller, customer: str) -> None:
    upload = begun(admin, customer)
    assert put(upload, CONTENT + b"more") == 403
    assert put(upload, CONTENT[:-1]) == 403
    assert put(upload | {"headers": {"Content-Type": "text/html"}}) == 403
    assert fetch(upload["upload_url"]).status_code == 403
    refused(admin.post(f"/admin/attachments/{upload['id']}/complete"), 409, "UPLOAD_INCOMPLETE")


def test_an_expired_url_gets_nothing_and_takes_nothing(
    admin: Caller, customer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "URL_SECONDS", 1)
    upload = begun(admin, customer)
    made = admin.attach(customer).json()
    link = admin.ok("GET", f"/admin/attachments/{made['id']}")["download_url"]
    wait_until(lambda: not fetch(link).is_success, "the later of both URLs expired")
    taken = fetch(upload["upload_url"], "PUT", content=CONTENT, headers=upload["headers"])
    for answer in (taken, fetch(link)):
        assert answer.status_code in {400, 403}
        assert "<Code>AccessDenied</Code>" in answer.text
    refused(admin.post(f"/admin/attachments/{upload['id']}/complete"), 409, "UPLOAD_INCOMPLETE")


def test_what_was_put_is_looked_at_not_believed(admin: Caller, customer: str, data_dir: Path) -> None:
    content = b"MZ\x90\0" + b"\0" * 60
    upload = begun(admin, customer, size=len(content))
    assert put(upload, content) == 200
    refused(admin.post(f"/admin/attachments/{upload['id']}/complete"), 415, "UNSUPPORTED_MEDIA_TYPE")
    assert list((data_dir / "objects/crm" / admin.tenant).glob("*")) == []


def test_an_upload_of_a_wrong_kind_is_refused_at_once(admin: Caller, customer: str) -> None:
    uploads = f"{customer}/attachments/uploads"
    refused(admin.post(uploads, FILE | {"size": 0}), 400, "EMPTY_FILE")
    refused(admin.post(uploads, FILE | {"size": 10**9}), 413, "PAYLOAD_TOO_LARGE")
    refused(admin.post(uploads, FILE | {"content_type": "text/html"}), 415, "UNSUPPORTED_MEDIA_TYPE")
    refused(admin.post(uploads, FILE | {"size": "5"}), 400, "INVALID_REQUEST")


def test_nobody_else_completes_an_upload(admin: Caller, stranger: Caller, agent: Caller, customer: str) -> None:
    upload = begun(admin, customer)
    put(upload)
    path = f"/admin/attachments/{upload['id']}/complete"
    refused(stranger.post(path), 404, "ATTACHMENT_NOT_FOUND")
    refused(agent.post(path), 404, "ATTACHMENT_NOT_FOUND")
    assert admin.post(path).status_code == 200


def test_limited_to_its_own_an_agent_uploads_to_what_it_sees(
    own_scope: TestClient[Litestar], callers: Callers, tenant: str, admin: Caller, customer: str
) -> None:
    limited = callers.person("agent", tenant, client=own_scope)
    own = f"/admin/customers/{admin.customer(assigned_to=limited.user_id)['id']}"
    upload = begun(limited, own)
    put(upload)
    assert limited.ok("POST", f"/admin/attachments/{upload['id']}/complete")["uploaded_by"] == limited.user_id
    refused(limited.post(f"{customer}/attachments/uploads", FILE), 404, "CUSTOMER_NOT_FOUND")


def test_an_upload_to_a_record_that_went_into_the_trash_is_not_completed(admin: Caller, customer: str) -> None:
    upload = begun(admin, customer)
    put(upload)
    admin.ok("DELETE", customer)
    refused(admin.post(f"/admin/attachments/{upload['id']}/complete"), 409, "PARENT_DELETED")
    admin.ok("POST", f"{customer}/restore")
    assert admin.post(f"/admin/attachments/{upload['id']}/complete").status_code == 200


def test_completed_ten_times_at_once_it_is_one_attachment_with_one_object(
    admin: Caller, customer: str, data_dir: Path
) -> None:
    upload = begun(admin, customer)
    put(upload)
    with ThreadPoolExecutor(10) as pool:
        path = f"/admin/attachments/{upload['id']}/complete"
        answers = list(pool.map(lambda _: admin.post(path), range(10)))
    # Whoever comes when the first has cleared up finds nothing there any more.
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert admin.ok("GET", f"{customer}/attachments")["total"] == 1
    assert admin.get(f"/admin/attachments/{upload['id']}/content").content == CONTENT
    assert len(list((data_dir / "objects/crm" / admin.tenant).glob("*"))) == 1


def test_browsers_get_links_to_the_public_name_of_the_store(
    variant: Any, callers: Callers, tenant: str, customer: str
) -> None:
    public = callers.person("admin", tenant, client=variant(s3_public_endpoint_url="https://files.example.com"))
    assert begun(public, customer)["upload_url"].startswith("https://files.example.com/crm/incoming/")
    made = public.attach(customer).json()
    link = public.ok("GET", f"/admin/attachments/{made['id']}")["download_url"]
    assert link.startswith("https://files.example.com/crm/")
    assert public.get(f"/admin/attachments/{made['id']}/content").content == b"Hello"


def test_without_a_store_no_upload_begins(variant: Any, callers: Callers, tenant: str, customer: str) -> None:
    bare = callers.person("admin", tenant, client=variant(s3_bucket=""))
    refused(bare.post(f"{customer}/attachments/uploads", FILE), 503, "SERVICE_UNAVAILABLE")
