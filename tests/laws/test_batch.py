"""A batch does what its requests do alone; and which they may be is a decision for each route that writes."""

from __future__ import annotations

import re

from app.admin.batch.service import ALLOWED
from app.web.input import input_types
from tests.callers import Caller, Callers, refused
from tests.laws.routes import ADMIN, Operation, of_each_kind

# Written down by hand: routes that do more than to create, change, trash or restore a record, or do it outside the
# transaction.
NOT_IN_A_BATCH = re.compile(
    r".*/(batch|bulk|undo|erase|attachments|uploads|complete|cancel|report-runs|merge|dismiss|sign-out|approve|decline)|/admin/settings"
    r"|/admin/(assistant|imports|exports|webhooks).*|/admin/me/.*",
)
WRITES = [operation for operation in ADMIN if operation.method not in {"GET", "HEAD"}]


def test_a_route_that_writes_is_for_batches_unless_it_is_named_here() -> None:
    allowed = {str(operation) for operation in WRITES if ALLOWED.fullmatch(str(operation))}
    others = {str(operation) for operation in WRITES if not NOT_IN_A_BATCH.fullmatch(operation.path)}
    assert allowed == others, "say which: app/admin/batch/service.py"


@of_each_kind(each for each in WRITES if not input_types(each.handler).file)
def test_a_request_in_a_batch_is_refused_as_it_is_alone_or_not_for_batches(
    operations: list[Operation], callers: Callers, tenant: str
) -> None:
    """It names unknown records, so that it mostly changes nothing."""
    for role in ("admin", "manager", "agent"):
        caller = callers.person(role, tenant)
        for operation in operations:
            request = {"method": operation.method, "path": operation.url(), "body": operation.body()}
            answer = caller.post("/admin/batch", {"requests": [request]})
            if not ALLOWED.fullmatch(f"{operation.method} {operation.path}"):
                data = refused(answer, 400, "INVALID_REQUEST")
                assert (data["index"], data["fields"][0]["field"]) == (0, "path"), operation
            elif not answer.is_success:
                alone = caller.call(operation.method, operation.url(), **operation.payload())
                told = alone.json()
                assert answer.status_code == alone.status_code, operation
                assert answer.json() == told | {"data": (told["data"] or {}) | {"index": 0}}, operation


def test_nothing_is_read_by_a_batch(admin: Caller) -> None:
    for operation in ADMIN:
        if operation not in WRITES:
            request = {"method": operation.method, "path": operation.url()}
            data = refused(admin.post("/admin/batch", {"requests": [request]}), 400, "INVALID_REQUEST")
            assert (data["index"], data["fields"][0]["field"]) == (0, "method")


def test_what_is_done_in_a_batch_is_done_as_if_alone(admin: Caller, stranger: Caller) -> None:
    """The same life of a customer, once by single requests and once by a batch, in two organizations."""
    requests = [
        ("POST", "/admin/customers", {"name": "Ada"}),
        ("PATCH", "/admin/customers/{{0.id}}", {"status": "active"}),
        ("POST", "/admin/deals", {"title": "Engine", "customer_id": "{{0.id}}"}),
        ("DELETE", "/admin/customers/{{0.id}}", None),
        ("POST", "/admin/customers/{{0.id}}/restore", None),
    ]
    answers = stranger.ok(
        "POST",
        "/admin/batch",
        {"requests": [{"method": method, "path": path, "body": body} for method, path, body in requests]},
    )["data"]
    ids: list[int | None] = []
    for method, path, body in requests:
        made = ids[0] if ids else 0
        sent = None if body is None else {name: made if value == "{{0.id}}" else value for name, value in body.items()}
        ids.append(admin.ok(method, path.replace("{{0.id}}", str(made)), sent).get("id"))
    assert [answer.get("id") is None for answer in answers] == [each is None for each in ids]
    told = [
        [(entry["resource_type"], entry["action"], entry["version"], sorted(entry["changes"])) for entry in log]
        for log in (admin.audit(), stranger.audit())
    ]
    assert told[0] == told[1]
