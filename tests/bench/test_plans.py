"""Every order and filter of every list has a plan that neither goes through a whole table nor sorts one.

On a tenant of some thousands, with what is cheap only while tables are small switched off: so that the plans are those
of millions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, get_args
from unittest.mock import patch

import psycopg
import pytest
from litestar.testing import TestClient
from msgspec.structs import fields

from app.admin.reports import from_sums
from app.web.input import input_types
from app.web.paging import ListQuery
from tests.bench import world
from tests.bench.cases import BY_NAME, CASES, OF_OWN, Case
from tests.bench.load import Sent, recorded, watched
from tests.bench.server import OPTIONS, Bench, own_records_only, settings_for
from tests.laws.routes import Operation
from tests.laws.test_lists import EVERY_ORDER, LISTS

SIZE = 5_000
MANY = 300
# Of a page, whatever the size of the tenant: from 100,000 on (jit_above_cost) a server may compile a statement first.
DEAREST = 10_000
LARGE = {*world.TABLES, "report_sums", "report_changes", "customer_values"}
# What belongs to one record is few, people are few, and neither order nor filter of theirs needs an index.
OF_FEW = {"/admin/users", "/admin/settings/versions"}
MEASURED = [operation for operation in LISTS if not operation.parameters and operation.path not in OF_FEW]
VALUES = {
    "assigned_to": "agent-1",
    "owner_id": "agent-1",
    "author_id": "agent-1",
    "user_id": "agent-1",
    "stage": "proposal",
    "currency": "EUR",
    "type": "note",
    "search": "zyxm",
    "amount_min": "99000",
    "amount_max": "200",
    "resource_type": "customer",
    "action": "create",
    "request_id": "none",
    "operation_id": "6f9619ff-8b86-4d11-b42d-00c04fc964ff",
    "deleted": "only",
}
PAGING = {"page", "page_size", "cursor", "sort_by", "sort_order"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A database with trigrams and a tenant of this size; no service, since plans are asked for by hand."""
    with settings_for(tmp_path_factory.mktemp("plans"), OPTIONS) as (settings, superuser, server):
        # To compile what runs once takes longer than to run it.
        with psycopg.connect(superuser, autocommit=True, options="-c jit=off") as connection:
            world.fill(connection, [SIZE])
        yield Bench("", settings, superuser, [SIZE], server, [], 0.0)


def value_of(name: str, kind: Any) -> str:
    """Something to filter by."""
    if name in VALUES:
        return VALUES[name]
    choices = [part for part in walk_types(kind) if isinstance(part, type) and issubclass(part, StrEnum)]
    if choices:
        return str(next(iter(choices[0])).value)
    if bool in walk_types(kind):
        return "true"
    return "1" if name.endswith("_id") or name == "tags" else "2026-01-01"


def walk_types(kind: Any) -> Iterator[Any]:
    yield kind
    for part in get_args(kind):
        yield from walk_types(part)


EVERY_FILTER = [
    pytest.param(operation, field.encode_name, field.type, id=f"{operation.path} {field.encode_name}")
    for operation in MEASURED
    for field in fields(input_types(operation.handler).query or ListQuery)
    if field.encode_name not in PAGING
]

FILTERED = list(dict.fromkeys(each.values[0] for each in EVERY_FILTER))


@pytest.fixture(scope="module")
def recording(bench: Bench) -> Iterator[tuple[TestClient[Any], list[str]]]:
    """The service, and what it sends."""
    with recorded(bench, SIZE) as both:
        yield both


@pytest.fixture(scope="module")
def planner(bench: Bench) -> Iterator[Planner]:
    with psycopg.connect(bench.settings.database_url) as connection:
        yield Planner(connection)


@pytest.fixture
def check(planner: Planner, recording: tuple[TestClient[Any], list[str]]) -> Callable[..., None]:
    """Fails where a statement of a request, or of the page after it, has a plan that would not last."""
    client, sent = recording

    def check(operation: Operation, **query: str) -> None:
        sent.clear()
        page = client.get(operation.path, params=query)
        assert page.status_code == 200, page.text
        if cursor := page.json()["next_cursor"]:
            assert client.get(operation.path, params={"cursor": cursor}).status_code == 200
        planner.check(sent)

    return check


class Planner:
    """Plans the statements of requests on one connection, and none of them twice."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self._lasting: set[tuple[str, str, int, int]] = set()

    def check(self, sent: list[str], *, dearest: int = DEAREST, many: int = MANY) -> None:
        who, *_ = sent  # each statement is asked as the same person
        asked = [statement for statement in sent if statement != who]
        assert asked
        new = [each for each in asked if (who, each, dearest, many) not in self._lasting]
        with self.connection.transaction(force_rollback=True):
            self.connection.execute(who.encode())
            for statement in new:
                cost = plan_of(self.connection, statement)["Total Cost"]
                assert cost < dearest, f"is estimated to cost {cost}: {statement}"
            self.connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
            for statement in new:
                for node in nodes(plan_of(self.connection, statement)):
                    kind, table = node["Node Type"], node.get("Relation Name")
                    assert not (kind == "Seq Scan" and table in LARGE), f"goes through {table}: {statement}"
                    assert not (kind == "Sort" and node["Plan Rows"] > many), f"sorts too much: {statement}"
                    assert "ROW(" not in node.get("Filter", ""), f"reads all that is before a cursor: {statement}"
        self._lasting.update((who, each, dearest, many) for each in new)


def plan_of(connection: psycopg.Connection, statement: str) -> dict[str, Any]:
    row = connection.execute(b"EXPLAIN (FORMAT json) " + statement.encode()).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


@pytest.mark.parametrize(("operation", "key", "order"), [each for each in EVERY_ORDER if each.values[0] in MEASURED])
def test_an_order_is_read_off_an_index(check: Callable[..., None], operation: Operation, key: str, order: str) -> None:
    check(operation, sort_by=key, sort_order=order)


@pytest.mark.parametrize(("operation", "name", "kind"), EVERY_FILTER)
def test_a_filter_needs_no_whole_table(check: Callable[..., None], operation: Operation, name: str, kind: Any) -> None:
    check(operation, **{name: value_of(name, kind)})


@pytest.mark.parametrize(
    ("path", "query", "begins"),
    [
        ("/admin/tasks", {"sort_by": "type"}, "type_rank ="),
        ("/admin/activities", {"type": "note,email", "sort_by": "type"}, "type_rank >="),
        ("/admin/activities", {"priority": "high", "sort_by": "priority"}, "priority_rank ="),
        ("/admin/activities", {"status": "scheduled"}, "due_date >="),
        ("/admin/customers", {"status": "churned", "sort_by": "status"}, "status_rank ="),
        ("/admin/projects", {"status": "cancelled", "sort_by": "status"}, "status_rank ="),
    ],
)
def test_an_order_is_read_from_where_its_filter_begins(
    planner: Planner, recording: tuple[TestClient[Any], list[str]], path: str, query: dict[str, str], begins: str
) -> None:
    client, sent = recording
    sent.clear()
    assert client.get(path, params=query).status_code == 200
    rows = next(statement for statement in sent if "sort_id" in statement)
    with planner.connection.transaction(force_rollback=True):
        planner.connection.execute(sent[0].encode() + b"; SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        conditions = [node.get("Index Cond", "") for node in nodes(plan_of(planner.connection, rows))]
    assert any(begins in condition for condition in conditions), conditions


@pytest.mark.parametrize("operation", FILTERED, ids=lambda operation: operation.path)
def test_a_filter_is_planned_for_what_it_asks_for(
    recording: tuple[TestClient[Any], list[str]], operation: Operation
) -> None:
    """A plan that is kept is made for any value, and goes through a million rows for one that few have."""
    client, _ = recording
    sent: list[Sent] = []
    with watched(sent.append):
        for filtered, name, kind in (each.values for each in EVERY_FILTER):
            if filtered is operation and name != "deleted":
                answer = client.get(operation.path, params={str(name): value_of(str(name), kind)})
                assert answer.status_code == 200, answer.text
    # Rows, and how many there are where nobody keeps count.
    of_rows = [statement for statement in sent if "sort_id" in statement.sql or "count(*)" in statement.sql]
    assert of_rows
    assert {statement.prepare for statement in of_rows} == {False}


@pytest.mark.parametrize("operation", [each.values[0] for each in EVERY_FILTER if each.values[1] == "deleted"])
def test_a_list_with_its_trash_needs_no_whole_table(check: Callable[..., None], operation: Operation) -> None:
    check(operation, deleted="include")


@pytest.mark.parametrize("q", ["zyxm", "zy", "e", "ada lovelace", "030 12345", "deal 4711"])
def test_the_search_over_everything_needs_no_whole_table(
    planner: Planner, recording: tuple[TestClient[Any], list[str]], q: str
) -> None:
    client, sent = recording
    sent.clear()
    assert client.get("/admin/search", params={"q": q}).status_code == 200
    # Some hundreds of each kind are put in order, and what may be done for each of them costs most, in estimates.
    planner.check(sent, dearest=4 * DEAREST, many=SIZE // 2)


def test_the_search_over_everything_is_planned_once(recording: tuple[TestClient[Any], list[str]]) -> None:
    client, _ = recording
    sent: list[Sent] = []
    with watched(sent.append):
        assert client.get("/admin/search", params={"q": "ada"}).status_code == 200
    assert {statement.prepare for statement in sent if "crm_search" in statement.sql} == {None}


def check_report(bench: Bench, planner: Planner, recording: tuple[TestClient[Any], list[str]], case: Case) -> None:
    client, sent = recording
    sent.clear()
    assert client.get(case.at(bench, SIZE), headers=case.headers).status_code == 200
    # Of each person some twenty sums are looked up, and at the ends of a period a day's rows are read.
    planner.check(sent, dearest=3 * DEAREST, many=SIZE)


@pytest.mark.parametrize("case", [case for case in CASES if case.report], ids=str)
def test_a_report_needs_no_whole_table(
    bench: Bench, planner: Planner, recording: tuple[TestClient[Any], list[str]], case: Case
) -> None:
    check_report(bench, planner, recording, case)


@pytest.fixture(scope="module")
def of_own(bench: Bench) -> Iterator[tuple[TestClient[Any], list[str]]]:
    """The same for an agent who sees only own records, of which there are many."""
    with patch.object(from_sums, "FEW", -1), recorded(own_records_only(bench), SIZE) as both:
        yield both


@pytest.mark.parametrize("case", OF_OWN, ids=str)
def test_a_report_of_own_records_needs_no_whole_table(
    bench: Bench, planner: Planner, of_own: tuple[TestClient[Any], list[str]], case: Case
) -> None:
    check_report(bench, planner, of_own, case)


def test_a_customers_detail_reads_its_own_records_only(
    bench: Bench, planner: Planner, recording: tuple[TestClient[Any], list[str]]
) -> None:
    with psycopg.connect(bench.superuser, autocommit=True) as owner:
        owner.execute("VACUUM projects")  # which the server knows to be empty from then on
    client, sent = recording
    sent.clear()
    assert client.get(BY_NAME["one customer with all that hangs on it"].at(bench, SIZE)).status_code == 200
    *_, who, statement = sent  # before them a worker may have read its members anew
    with planner.connection.transaction(force_rollback=True):
        planner.connection.execute(who.encode())
        read = [node for node in nodes(plan_of(planner.connection, statement)) if "Relation Name" in node]
    assert {node["Relation Name"] for node in read if node["Plan Rows"] > MANY} == set()


def test_how_much_each_member_has_is_not_counted_anew(
    planner: Planner, recording: tuple[TestClient[Any], list[str]]
) -> None:
    client, sent = recording
    sent.clear()
    assert client.get("/admin/members").status_code == 200
    with planner.connection.transaction(force_rollback=True):
        planner.connection.execute(sent[0].encode())
        plans = [plan_of(planner.connection, statement) for statement in sent if "sort_id" in statement]
    read = {node.get("Relation Name") for plan in plans for node in nodes(plan)}
    assert read & LARGE == {"report_sums", "report_changes"}


def test_a_calendar_needs_no_whole_table(planner: Planner, recording: tuple[TestClient[Any], list[str]]) -> None:
    client, sent = recording
    sent.clear()
    people = {"from": "2026-01-01", "to": "2026-04-01", "user_id": "agent-1,agent-2"}
    assert client.get("/admin/me/calendar", params=people).status_code == 200
    # At most 5,000 entries are put in order.
    planner.check(sent, many=SIZE)
    with planner.connection.transaction(force_rollback=True):
        planner.connection.execute(sent[0].encode())
        plans = [plan_of(planner.connection, statement) for statement in sent if "starts_at" in statement]
    by_index = " ".join(str(node.get("Index Cond")) for plan in plans for node in nodes(plan))
    for time in ("due_date", "next_follow_up_at", "expected_close_date"):
        assert time in by_index
    feed = client.post("/admin/me/calendar/feeds", json={"name": "My work"}).json()
    sent.clear()
    assert client.get(f"/public/calendar/{feed['url'].rsplit('/', 1)[1]}").status_code == 200
    # The first two ask, as nobody, whose it is.
    planner.check(sent[2:], many=SIZE)
