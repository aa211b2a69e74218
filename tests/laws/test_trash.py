"""A record in the trash is shown nowhere else: for each type that can be restored, derived from the routes."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.settings import Settings
from app.web.input import input_types
from tests.callers import Caller, Callers, refused
from tests.laws.routes import ADMIN, COLLECTIONS, Operation, fields, make, valid_body

TRASHABLE = sorted(
    operation.parameters[0] for operation in ADMIN if operation.path.endswith("/restore") and operation.method == "POST"
)
every_type = pytest.mark.parametrize("parameter", TRASHABLE)
# Whoever sees the trash sees the history of what is there, and may take its deletion back.
OF_HISTORY = ("/versions", "/undo")
# The audit log and a dossier have everything, and lists can show the trash, which has one of its own.
LOOKS = [
    operation
    for operation in ADMIN
    if operation.method == "GET"
    and not operation.never_ends
    and not operation.path.startswith(("/admin/audit", "/admin/trash"))
    and not operation.path.endswith(("/content", "/dossier", *OF_HISTORY))
    and len(operation.parameters) < 2
]
# What addresses name that has no trash.
BESIDES = """
    stage_id tag_id job_id import_id report_schedule_id conversation_id webhook_id server_id member_id proposal_id
""".split()
# Fields that change on the way into the trash and back, and a link that is signed each time.
PASSING = {"version", "updated_at", "download_url", "generated_at"}


def of_customer(caller: Caller, parameter: str, customer: int) -> int:
    """A new record of this customer's."""
    collection = COLLECTIONS[parameter]
    creates = {o.path: o for o in ADMIN if o.method == "POST"}
    nested = creates.get(f"/admin/customers/{{customer_id}}{collection.removeprefix('/admin')}")
    if nested is not None:
        return int(nested.send(caller, nested.url(customer_id=customer))["id"])
    wanted = input_types(creates[collection].handler).data
    assert wanted is not None
    made: dict[str, Any] = caller.ok("POST", collection, valid_body(wanted) | {"customer_id": customer})
    return int(made["id"])


def everything(caller: Caller, ids: dict[str, int]) -> dict[str, Any]:
    """The answers of all addresses, for these records."""
    seen = {}
    for operation in LOOKS:
        known = {name: ids.get(name) or make(caller, name) for name in operation.parameters}
        answer = caller.call("GET", operation.url(**known))
        assert answer.status_code == 200, f"{operation}: {answer.text}"
        is_json = answer.headers["Content-Type"].startswith("application/json")
        seen[operation.path] = lasting(answer.json()) if is_json else first_cells(answer.text)
    return seen


def first_cells(rows: str) -> list[list[str]]:
    """Of each row of a CSV: an export has ids there."""
    return [row[:1] for row in csv.reader(io.StringIO(rows, newline=""))]


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two answers differ, and how."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for name in one for found in differences(one[name], other[name], f"{place}.{name}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [found for number, (a, b) in pairs for found in differences(a, b, f"{place}[{number}]")]
    return [] if one == other else [f"{place}: {one!r} is now {other!r}"]


def lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: lasting(inner) for name, inner in value.items() if name not in PASSING}
    return [lasting(inner) for inner in value] if isinstance(value, list) else value


class World(NamedTuple):
    """An organization with a record of each kind."""

    admin: Caller
    stays: dict[str, int]
    # What the last test saw at its end, which is how it is until the next one begins; empty after a failure.
    seen: list[dict[str, Any]]


@pytest.fixture(scope="module")
def world(client: TestClient[Litestar], settings: Settings) -> World:
    admin = Callers(client, settings).person("admin", f"tenant-{uuid.uuid4().hex[:12]}")
    customer = make(admin, "customer_id")
    stays = {name: of_customer(admin, name, customer) for name in TRASHABLE if name != "customer_id"}
    stays |= {"customer_id": customer} | {name: make(admin, name) for name in BESIDES}
    return World(admin, stays, [])


@every_type
def test_a_record_in_the_trash_leaves_every_answer_as_if_it_had_never_been(parameter: str, world: World) -> None:
    admin, stays, seen = world
    before = seen.pop() if seen else everything(admin, stays)
    is_customer = parameter == "customer_id"
    record = make(admin, parameter) if is_customer else of_customer(admin, parameter, stays["customer_id"])
    address = f"{COLLECTIONS[parameter]}/{record}"
    alive = everything(admin, stays)
    assert differences(before, alive)
    admin.ok("DELETE", address)
    assert differences(before, everything(admin, stays)) == []
    admin.ok("POST", f"{address}/restore")
    restored = everything(admin, stays)
    assert differences(alive, restored) == []
    seen.append(restored)


def routes_of(parameter: str) -> list[Operation]:
    return [
        o
        for o in ADMIN
        if o.parameters == [parameter] and not o.path.endswith(("/restore", "/erase", "/dossier", *OF_HISTORY))
    ]


@pytest.fixture(scope="module")
def trashed(client: TestClient[Litestar], settings: Settings) -> Iterator[Callable[[str], tuple[Caller, int]]]:
    """An admin and a record in the trash, by a path's parameter: made once, and there still at the end."""
    admin = Callers(client, settings).person("admin", f"tenant-{uuid.uuid4().hex[:12]}")

    records: dict[str, int] = {}

    def in_trash(parameter: str) -> tuple[Caller, int]:
        if parameter not in records:
            records[parameter] = make(admin, parameter)
            admin.ok("DELETE", f"{COLLECTIONS[parameter]}/{records[parameter]}")
        return admin, records[parameter]

    yield in_trash
    for parameter, record in records.items():
        admin.ok("POST", f"{COLLECTIONS[parameter]}/{record}/restore")


@pytest.mark.parametrize("operation", [o for name in TRASHABLE for o in routes_of(name)], ids=str)
def test_a_record_in_the_trash_answers_exactly_as_an_unknown_one(
    operation: Operation, trashed: Callable[[str], tuple[Caller, int]]
) -> None:
    (parameter,) = operation.parameters
    admin, record = trashed(parameter)
    more: dict[str, Any] = {**operation.payload(), "headers": {"X-Request-ID": "same", "If-Match": '"99"'}}
    there = admin.call(operation.method, operation.url(**{parameter: record}), **more)
    unknown = admin.call(operation.method, operation.url(), **more)
    assert there.status_code == 404
    assert there.content == unknown.content


REFERRING = [
    pytest.param(operation, field.encode_name, id=f"{operation} by {field.encode_name}")
    for operation in ADMIN
    if operation.method == "POST" and not operation.parameters and (wanted := input_types(operation.handler).data)
    for field in fields(wanted)
    if field.encode_name in TRASHABLE
]


@pytest.mark.parametrize(("operation", "field"), REFERRING)
def test_a_record_in_the_trash_can_not_be_referred_to(operation: Operation, field: str, admin: Caller) -> None:
    wanted = input_types(operation.handler).data
    assert wanted is not None
    record = make(admin, field)
    admin.ok("DELETE", f"{COLLECTIONS[field]}/{record}")
    body = valid_body(wanted)
    if "customer_id" in {each.encode_name for each in fields(wanted)}:
        body["customer_id"] = make(admin, "customer_id")
    answer = admin.call("POST", operation.url(), json=body | {field: record})
    refused(answer, 400, f"{field.removesuffix('_id').upper()}_NOT_FOUND")
