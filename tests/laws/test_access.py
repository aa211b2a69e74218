"""What each route under /admin and /console/admin does for each role, and without a valid token."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.access.permissions import PERMISSIONS, Permission, Role
from app.settings import Settings
from tests.callers import Caller, Callers, refused
from tests.laws.routes import ADMIN, CONSOLE, Operation, make, member_id, of_each_kind

# The table of docs/api.md#roles, written down once more by hand.
MAY = {
    "read": {"admin", "manager", "agent"},
    "write": {"admin", "manager", "agent"},
    "delete": {"admin", "manager"},
    "manage_all": {"admin", "manager"},
    "configure": {"admin"},
    "audit": {"admin"},
}

ROUTES = ADMIN + CONSOLE
every_kind = of_each_kind(ROUTES)
ends = of_each_kind(each for each in ROUTES if not each.never_ends)
of_a_record = of_each_kind(each for each in ROUTES if each.parameters)


def expected_permission(method: str, path: str) -> str:
    """The permission that a call needs, by its address below /admin."""
    kind = path.split("/", 1)[0]
    if path.endswith("/dossier"):
        return "manage_all"
    if kind == "exports":
        return "audit"
    if kind in {"audit", "events"}:
        return "read" if path == "events/stream" else "audit"
    if kind == "webhooks" or path.startswith(("assistant/settings", "assistant/mcp-servers")):
        if path.endswith("/calls"):
            return "write"
        return "configure"
    if kind == "members" and method not in {"GET", "HEAD"}:
        return "read" if path.endswith("/sign-out") else "configure"  # one's own
    if kind == "trash":
        return "delete"
    # Who may read a report may have it made as a file.
    if method in {"GET", "HEAD"} or kind == "report-runs":
        return "read"
    if kind in {"tags", "pipeline-stages", "settings"} or path.endswith("/erase"):
        return "configure"
    if path.endswith("/restore"):
        return "delete"
    if path.endswith(("/reassign", "/merge")) or kind == "duplicates":
        return "manage_all"
    if path.startswith("assistant/conversations"):
        return "write"
    # Who made one deletes it, and taking a tag off changes the customer.
    if kind in {"notes", "report-schedules", "imports", "me"} or "/tags/" in path:
        return "write"
    return "delete" if method == "DELETE" else "write"


def test_roles_have_the_documented_permissions() -> None:
    for permission, roles in MAY.items():
        assert {role.value for role in Role if Permission(permission) in PERMISSIONS[role]} == roles


def test_a_route_asks_for_the_expected_permission() -> None:
    """Derived from its address, not from the route itself."""
    expected = {o: expected_permission(o.method, o.path.split("/admin/", 1)[1]) for o in ROUTES}
    assert {str(o): o.permission for o in ROUTES} == {str(o): permission for o, permission in expected.items()}


@ends
def test_each_role_gets_in_or_not_as_declared(operations: list[Operation], callers: Callers, tenant: str) -> None:
    for role in ("admin", "manager", "agent"):
        caller = callers.person(role, tenant)
        for operation in operations:
            assert_gets_in_as_declared(operation, caller, role)


def assert_gets_in_as_declared(operation: Operation, caller: Caller, role: str) -> None:
    answer = caller.call(operation.method, operation.url(), **operation.payload())
    assert operation.permission is not None
    if role in MAY[operation.permission]:
        assert answer.status_code not in {401, 403, 405, 500}, f"{operation}: {answer.text}"
    else:
        refused(answer, 403, "INSUFFICIENT_PERMISSIONS")


@pytest.fixture(scope="module")
def narrowed(client: TestClient[Litestar], settings: Settings) -> dict[str, Caller]:
    """Admins by their tokens, each of whom the organization narrows to a role; and one whom it shuts out."""
    callers, tenant = Callers(client, settings), f"narrowed-{uuid.uuid4().hex[:12]}"
    people = {role: callers.person("admin", tenant) for role in ("manager", "agent", "out")}
    for role, person in people.items():
        theirs = member_id(person)
        change = {"is_active": False} if role == "out" else {"role": role}
        callers.person("admin", tenant, user_id="boss").ok("PATCH", f"/admin/members/{theirs}", change)
    return people


@ends
def test_whom_the_organization_narrows_gets_in_as_that_role_only(
    operations: list[Operation], narrowed: dict[str, Caller]
) -> None:
    for operation in operations:
        for role in ("manager", "agent"):
            assert_gets_in_as_declared(operation, narrowed[role], role)
        answer = narrowed["out"].call(operation.method, operation.url(), **operation.payload())
        refused(answer, 403, "MEMBER_INACTIVE")


@every_kind
def test_without_a_token_or_with_an_unknown_role_nobody_gets_in(
    operations: list[Operation], callers: Callers, tenant: str
) -> None:
    guest = callers.person("guest", tenant)
    for operation in operations:
        nobody = callers.client.request(operation.method, operation.url(), **operation.payload())
        refused(nobody, 401, "MISSING_TOKEN")
        assert nobody.headers["WWW-Authenticate"] == "Bearer", operation
        answer = guest.call(operation.method, operation.url(), **operation.payload())
        refused(answer, 403, "INSUFFICIENT_PERMISSIONS")


@pytest.fixture(scope="module")
def foreign(client: TestClient[Litestar], settings: Settings) -> Iterator[Callable[[str], Any]]:
    """A record of another organization, by a path's parameter: made once, and there still at the end."""
    stranger = Callers(client, settings).person("admin", f"stranger-{uuid.uuid4().hex[:12]}")
    records: dict[str, Any] = {}

    def of_stranger(parameter: str) -> Any:
        if parameter not in records:
            records[parameter] = make(stranger, parameter)
        return records[parameter]

    yield of_stranger
    shown = [
        o for o in ADMIN if o.method == "GET" and len(o.parameters) == 1 and o.path.endswith(f"/{{{o.parameters[0]}}}")
    ]
    for operation in shown:
        (parameter,) = operation.parameters
        if parameter in records:
            stranger.ok("GET", operation.url(**{parameter: records[parameter]}))


@of_a_record
def test_another_organizations_record_answers_exactly_as_an_unknown_one(
    operations: list[Operation], admin: Caller, foreign: Callable[[str], Any]
) -> None:
    for operation in operations:
        ids = {name: foreign(name) for name in operation.parameters}
        body, headers = operation.payload(), {"X-Request-ID": "same", "If-Match": '"99"'}
        theirs = admin.call(operation.method, operation.url(**ids), **body, headers=headers)
        unknown = admin.call(operation.method, operation.url(), **body, headers=headers)
        assert theirs.status_code == 404, operation
        assert (theirs.status_code, theirs.content) == (unknown.status_code, unknown.content), operation


@of_a_record
def test_an_id_is_a_positive_63_bit_integer(operations: list[Operation], admin: Caller) -> None:
    """Each route refuses some ids, and one of each kind of record all that look like one."""
    for operation in operations:
        code = "INVALID_ID" if len(operation.parameters) == 1 else "INVALID_REQUEST"
        more = ("-1", "1.5", "%D9%A1", "1e3", "+1") if operation is operations[0] else ()
        for bad in ("0", "abc", str(2**63), *more):
            url = operation.path.format(**dict.fromkeys(operation.parameters, bad))
            refused(admin.call(operation.method, url, **operation.payload()), 400, code)


@every_kind
def test_an_unknown_parameter_is_named(operations: list[Operation], admin: Caller) -> None:
    for operation in operations:
        url = operation.url()
        answer = admin.call(operation.method, f"{url}{'&' if '?' in url else '?'}colour=red", **operation.payload())
        data = refused(answer, 400, "INVALID_REQUEST")
        assert operation.method == "HEAD" or data["fields"][0]["field"] == "colour", operation


@of_each_kind(each for each in ROUTES if each.takes_json)
def test_a_body_must_be_json_of_the_right_size_and_fields(operations: list[Operation], admin: Caller) -> None:
    """Each route refuses each of these, and one of each kind of record all that is not JSON."""

    def send(operation: Operation, content: bytes, **headers: str) -> Any:
        sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        return admin.call(operation.method, operation.url(), content=content, headers=sent)

    for operation in operations:
        refused(send(operation, b"{}", Content_Type="text/plain"), 415, "UNSUPPORTED_MEDIA_TYPE")
        refused(send(operation, b"{}", Content_Encoding="gzip"), 415, "UNSUPPORTED_MEDIA_TYPE")
        refused(send(operation, b" " * (1024 * 1024 + 1)), 413, "PAYLOAD_TOO_LARGE")
        every = (b"", b"{", b'"x"', b"\xff", b'{"a":NaN}', b"[" * 100_000) if operation is operations[0] else ()
        for field, content in {"colour": b'{"colour":1}', "x": b'{"x":"\\u0000"}'}.items():
            assert refused(send(operation, content), 400, "INVALID_REQUEST")["fields"][0]["field"] == field
        for broken in (b"[]", b'{"a":1,"a":2}', *every):
            assert refused(send(operation, broken), 400, "INVALID_REQUEST")["fields"][0]["field"] == "body"


@every_kind
def test_a_route_opens_no_door_to_other_methods(operations: list[Operation], callers: Callers) -> None:
    urls = {operation.path: operation.url() for operation in operations}
    for path, url in urls.items():
        allowed = {other.method for other in operations if other.path == path}
        answer = callers.client.request("TRACE", url)
        refused(answer, 405, "METHOD_NOT_ALLOWED")
        for told in (answer, callers.client.options(url)):
            assert set(told.headers["Allow"].split(", ")) - {"OPTIONS"} == allowed, path


def test_an_unknown_address_is_not_found_before_anybody_looks_at_the_token(callers: Callers) -> None:
    refused(callers.client.get("/admin/nothing"), 404, "NOT_FOUND")
