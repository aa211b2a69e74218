"""What only people may do, a program does not do by taking something back."""

from __future__ import annotations

import pytest

from app.admin.history import operations
from tests.access.test_access_tokens import program
from tests.callers import Caller, refused


def test_a_program_takes_back_nothing_that_only_people_may_do(admin: Caller) -> None:
    hook = {"url": "https://8.8.8.8/hook", "types": ["customer.created"]}
    made = admin.post("/admin/webhooks", hook)
    assert made.status_code == 201, made.text
    path = f"/admin/webhooks/{made.json()['id']}"
    gone = admin.delete(path).headers["X-Operation-Id"]
    mine = program(admin)
    refused(mine.post(f"/admin/operations/{gone}/undo", {}), 403, "INSUFFICIENT_PERMISSIONS")
    assert admin.get(path).status_code == 404
    customer = admin.post("/admin/customers", {"name": "Ada"}).headers["X-Operation-Id"]
    assert mine.post(f"/admin/operations/{customer}/undo", {}).is_success
    assert admin.post(f"/admin/operations/{gone}/undo", {}).is_success


def test_nor_by_a_job_that_takes_back_a_large_operation(admin: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    made = admin.post("/admin/webhooks", {"url": "https://8.8.8.8/hook", "types": ["customer.created"]})
    customer = admin.post("/admin/customers", {"name": "Ada"}).headers["X-Operation-Id"]
    monkeypatch.setattr(operations, "MOST_ENTRIES", 0)
    mine = program(admin)
    path = f"/admin/operations/{made.headers['X-Operation-Id']}/undo"
    refused(mine.post(path, {}), 403, "INSUFFICIENT_PERMISSIONS")
    assert mine.post(f"/admin/operations/{customer}/undo", {}).status_code == admin.post(path, {}).status_code == 202
