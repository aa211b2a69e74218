"""Files of customers, deals and activities: what goes in comes out again, and nothing else."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.callers import Caller

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 8


@pytest.fixture
def customer(admin: Caller) -> str:
    return f"/admin/customers/{admin.customer()['id']}"


def attached(caller: Caller, path: str, content: bytes = PNG, name: str = "photo.png") -> dict[str, Any]:
    answer = caller.attach(path, content, name)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_what_was_uploaded_is_listed_described_and_downloaded(admin: Caller, customer: str) -> None:
    made = attached(admin, customer)
    assert made["file_name"] == "photo.png"
    assert made["content_type"] == "image/png"
    assert made["size"] == len(PNG)
    assert made["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert made["uploaded_by"] == admin.user_id
    assert f"/admin/customers/{made['customer_id']}" == customer
    assert admin.ok("GET", f"{customer}/attachments")["data"] == [made]
    path = f"/admin/attachments/{made['id']}"
    content = admin.get(f"{path}/content")
    assert (content.status_code, content.content) == (200, PNG)
    assert content.headers["Content-Type"] == "image/png"
    assert content.headers["Content-Disposition"].startswith('attachment; filename="photo.png"')
    assert content.headers["X-Content-Type-Options"] == "nosniff"
    assert content.headers["Content-Length"] == str(len(PNG))
    detail = admin.get(path)
    assert detail.headers["ETag"] == '"1"'
    assert {**made, "download_url": detail.json()["download_url"]} == detail.json()
