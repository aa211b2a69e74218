"""What holds for every list: pages, cursors, orders."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from app.records import walking
from app.records.listing import sort_keys
from app.settings import Settings
from app.web.input import input_types
from app.web.paging import ListQuery
from tests.callers import Caller, Callers, refused
from tests.laws.routes import (
    ADMIN,
    Operation,
    change,
    create,
    fields,
    make,
    make_delivery,
    make_duplicates,
    make_import_rows,
    make_notification,
    make_proposal,
    start_job,
)

ROWS = 11
VERSIONS = "/versions"
IMPORT_ROWS = "/imports/{import_id}/rows"

LISTS = [
    operation
    for operation in ADMIN
    if (wanted := input_types(operation.handler).query) is not None and issubclass(wanted, ListQuery)
]


EVERY_ORDER = [
    pytest.param(operation, key, order, id=f"{operation.path} by {key} {order}")
    for operation in LISTS
    if (wanted := input_types(operation.handler).query) is not None and issubclass(wanted, ListQuery)
    for key in sort_keys(wanted)
    for order in ("asc", "desc")
]
every_list = pytest.mark.parametrize("operation", LISTS, ids=str)


def fill(operation: Operation, admin: Caller, callers: Callers) -> str:
    """Creates rows for a list, some with equal or null sort keys, so that only the ids differ. Returns its address."""
    ids = {name: make(admin, name) for name in operation.parameters}
    url = operation.url(**ids)
    if operation.path.endswith(VERSIONS):
        for number in range(ROWS + 1):
            assert change(admin, url.removesuffix(VERSIONS), number).is_success
        return url
    if operation.path.endswith(IMPORT_ROWS):
        make_import_rows(admin, ids["import_id"], ROWS)
        return url
    collection = operation.path.replace("/timeline", "/notes")  # what a timeline tells of
    creates = [o for o in ADMIN if (o.method, o.path) == ("POST", collection)] or [
        o for o in ADMIN if o.method == "POST" and o.path.endswith("/" + operation.path.rsplit("/", 1)[1])
    ]
    for number in range(ROWS):
        if operation.path == "/admin/users":
            name = None if number % 3 else "Same"
            callers.person("agent", admin.tenant, name=name).ok("GET", "/admin/me")
        elif operation.path == "/admin/trash":
            admin.ok("DELETE", f"/admin/customers/{admin.customer()['id']}")
        elif operation.path.endswith("/deliveries"):
            make_delivery(admin)
        elif operation.path == "/admin/me/notifications":
            make_notification(admin)
        elif operation.path == "/admin/proposals":
            make_proposal(admin)
        elif operation.path == "/admin/duplicates":
            make_duplicates(admin)
        elif operation.path == "/admin/jobs":
            start_job(admin)
        elif operation.parameters and creates[0].path == collection:
            creates[0].send(admin, creates[0].url(**ids))
        elif creates:
            more = {"name": f"Name {number // 4}"} if operation.path == "/admin/customers" and number % 2 else {}
            create(admin, creates[0], **more)
        else:
            admin.customer(f"Name {number}")
    return url


@pytest.fixture(scope="module")
def filled(client: TestClient[Litestar], settings: Settings) -> Callable[[Operation], tuple[Caller, str]]:
    """A list with rows, in its own organization: created once for all tests that only read it."""
    callers = Callers(client, settings)

    @cache
    def fill_once(operation: Operation) -> tuple[Caller, str]:
        admin = callers.person("admin", f"tenant-{uuid.uuid4().hex[:12]}")
        return admin, fill(operation, admin, callers)

    return fill_once


def fill_one(operation: Operation, url: str, admin: Caller, callers: Callers) -> None:
    """One more row."""
    if operation.path.endswith(VERSIONS):
        assert change(admin, url.removesuffix(VERSIONS), ROWS + 1).is_success
        return
    if operation.path.endswith(IMPORT_ROWS):
        make_import_rows(admin, int(url.split("/")[-2]), 1)
        return
    callers.person("agent", admin.tenant, name="Aa").ok("GET", "/admin/me")
    for other in ADMIN:
        if (other.method, other.path) == ("POST", operation.path.replace("/timeline", "/notes")):
            if other.parameters:
                other.send(admin, url.replace("/timeline", "/notes"))
            else:
                create(admin, other)


def identity(row: dict[str, Any]) -> object:
    """Events of a timeline have no id of their own."""
    return row["id"] if "id" in row else json.dumps(row, sort_keys=True)


def walk(caller: Caller, path: str, **query: Any) -> Iterator[dict[str, Any]]:
    """Its pages, by cursors."""
    page = caller.ok("GET", path, **query)
    yield page
    while page["next_cursor"]:
        page = caller.ok("GET", path, cursor=page["next_cursor"], page_size=query["page_size"])
        yield page


@every_list
def test_a_walk_by_page_or_cursor_meets_every_row_once_in_the_same_order(
    operation: Operation, filled: Callable[[Operation], tuple[Caller, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, url = filled(operation)
    wanted = input_types(operation.handler).query
    assert wanted is not None
    assert issubclass(wanted, ListQuery)
    for key, order in product(sort_keys(wanted), ("asc", "desc")):
        asked = f"{url} by {key} {order}"
        query = {"sort_by": key, "sort_order": order, "page_size": 4}  # a first page, a middle one and a last one
        first, *more = walk(admin, url, **query)
        by_cursor = [identity(row) for page in (first, *more) for row in page["data"]]
        assert len(set(by_cursor)) == len(by_cursor) == first["total"] >= ROWS, asked
        # The second time, pages that are far from the start are found in another way, from the nearer end.
        for deep in (walking.DEEP_OFFSET, 2):
            with monkeypatch.context() as patch:
                patch.setattr(walking, "DEEP_OFFSET", deep)
                others = [admin.ok("GET", url, page=number, **query) for number in range(2, first["total_pages"] + 1)]
            assert by_cursor == [identity(row) for page in (first, *others) for row in page["data"]], asked
            assert [page["total"] for page in others] == [first["total"]] * len(more), asked
            assert [page["next_cursor"] is None for page in others] == [False] * (len(more) - 1) + [True], asked
    for deep in (walking.DEEP_OFFSET, 2):
        monkeypatch.setattr(walking, "DEEP_OFFSET", deep)
        past = admin.ok("GET", url, page=first["total_pages"] + 1, **query)
        assert (past["data"], past["total"]) == ([], first["total"])


@pytest.mark.parametrize(
    "operation",
    [each if each.path == "/admin/customers" else pytest.param(each, marks=pytest.mark.slow) for each in LISTS],
    ids=str,
)
def test_rows_that_arrive_during_a_walk_neither_repeat_nor_hide_the_others(
    operation: Operation, admin: Caller, callers: Callers
) -> None:
    url = fill(operation, admin, callers)
    old = {identity(row) for page in walk(admin, url, page_size=100) for row in page["data"]}
    seen: list[Any] = []
    for number, page in enumerate(walk(admin, url, page_size=3)):
        seen += [identity(row) for row in page["data"]]
        if number < 2:
            fill_one(operation, url, admin, callers)
    assert len(seen) == len(set(seen))
    assert old <= set(seen)


@every_list
def test_a_lists_answer_has_the_documented_form(
    operation: Operation, filled: Callable[[Operation], tuple[Caller, str]]
) -> None:
    admin, url = filled(operation)
    page = admin.ok("GET", url)
    assert set(page) == {"data", "total", "page", "page_size", "total_pages", "next_cursor"}
    assert (page["page"], page["page_size"]) == (1, 20)


@every_list
def test_a_bad_paging_parameter_is_named(
    operation: Operation, filled: Callable[[Operation], tuple[Caller, str]]
) -> None:
    admin, _ = filled(operation)
    for query in (
        "page=0",
        "page=x",
        "page=1.5",
        "page_size=0",
        "page_size=-1",
        "sort_by=password",
        "sort_order=up",
        "page=1&page=2",
        "page=%ff",
        "sort_by=%00",
    ):
        data = refused(admin.call("GET", f"{operation.url()}?{query}"), 400, "INVALID_REQUEST")
        assert [fault["field"] for fault in data["fields"]] == [query.split("=", maxsplit=1)[0]]


@every_list
def test_every_filter_refuses_nonsense_or_takes_text(
    operation: Operation, filled: Callable[[Operation], tuple[Caller, str]]
) -> None:
    admin, url = filled(operation)
    query = input_types(operation.handler).query
    assert query is not None
    for field in fields(query):
        answer = admin.get(url, **{field.encode_name: "no such value"})
        if answer.status_code != 200:
            codes = {"cursor": "INVALID_CURSOR", "stage": "INVALID_STAGE", "currency": "INVALID_CURRENCY"}
            code = codes.get(field.name, "INVALID_REQUEST")
            refused(answer, 400, code)
