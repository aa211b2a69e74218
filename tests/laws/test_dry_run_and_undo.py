"""What holds for every write: it can be tried without a trace, and taken back."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import httpx
import psycopg
import pytest

from app.admin.http import refuse_dry_run
from app.records.resources import RESOURCES
from app.settings import Settings
from tests.callers import Caller, refused
from tests.laws.routes import ADMIN, OUTSIDE, Operation, ready

WRITES = [each for each in ADMIN if each.method not in {"GET", "HEAD"}]
UNTRIED = [each for each in WRITES if refuse_dry_run in each.handler.resolve_guards()]
TRIED = [each for each in WRITES if each not in UNTRIED and each.path not in OUTSIDE]
# What these do is meant to stay.
FINAL = (
    *("/erase", "/rotate-secret", "/sign-out", "/assistant/settings", "/mcp-servers", "{server_id}"),
    *("/access-tokens", "{token_id}"),
)
# How many writes the random walk has; the nightly run takes 2,000.
STEPS = int(os.environ.get("CRM_WALK_STEPS", "150"))


@pytest.fixture(scope="module")
def owner(settings: Settings) -> Iterator[psycopg.Connection]:
    """One session for all tests: a new one reads the definitions of all tables anew, which takes most of its time."""
    with psycopg.connect(settings.migration_dsn) as connection:
        yield connection


def every_row(owner: psycopg.Connection) -> dict[str, tuple[int, int]]:
    """How many rows each table has, and a hash of who wrote each and where it lies: whatever is written moves, a row
    that was only written anew, too.
    """
    with owner.transaction(force_rollback=True):
        tables = owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        owner.execute("; ".join(f'ALTER TABLE "{table}" NO FORCE ROW LEVEL SECURITY' for (table,) in tables))
        hashed = "SELECT '{0}', count(*), bit_xor(hashtextextended((xmin, ctid)::text, 0)) FROM \"{0}\""
        rows = owner.execute(" UNION ALL ".join(hashed.format(table) for (table,) in tables)).fetchall()
    return {table: (count, seen) for table, count, seen in rows}


def records(owner: psycopg.Connection, tenant: str) -> dict[tuple[str, int], Any]:
    """The tenant's records, but for what each change moves on."""
    found: dict[tuple[str, int], Any] = {}
    with owner.transaction():
        owner.execute("SELECT set_config('crm.tenant', %s, true), set_config('timezone', 'UTC', true)", [tenant])
        for resource in RESOURCES:
            computed = [column.name for column in resource.table.c if column.computed]
            passing = ["version", "updated_at", "stage_entered_at", "changed_in", *computed]
            rows = f"SELECT id, to_jsonb(each) - %s::text[] FROM {resource.table.name} AS each"
            found |= {(resource.kind, record_id): row for record_id, row in owner.execute(rows, [passing])}
        for kind, rows in {
            "tagged": "SELECT customer_id, array_agg(tag_id ORDER BY tag_id) FROM customer_tags WHERE live GROUP BY 1",
            "count": "SELECT 0, jsonb_object_agg(place, rows) FROM (SELECT counted || ':' || facet AS place, sum(rows)"
            " AS rows FROM record_counts WHERE counted <> 'audit_entries' GROUP BY 1 HAVING sum(rows) <> 0) AS counts",
        }.items():
            found |= {(kind, place): row for place, row in owner.execute(rows)}
    return found


def assert_taken_back(before: dict[tuple[str, int], Any], after: dict[tuple[str, int], Any]) -> None:
    """What was there is as it was, and what came is in the trash, or gone."""
    assert {key: after.get(key) for key in before} == before
    assert all(row["deleted_at"] is not None for key, row in after.items() if key not in before)


@pytest.mark.parametrize("operation", TRIED, ids=str)
def test_a_write_is_tried_without_a_trace_does_what_was_shown_and_is_taken_back(
    admin: Caller, owner: psycopg.Connection, operation: Operation
) -> None:
    url, body = ready(admin, operation)
    admin.ok("GET", "/admin/settings")  # the first request makes the settings and stages
    before, stored = records(owner, admin.tenant), every_row(owner)
    tried = admin.call(operation.method, url, headers={"Dry-Run": "true", "Idempotency-Key": "tried"}, **body)
    assert every_row(owner) == stored
    done = admin.call(operation.method, url, headers={"Idempotency-Key": "tried"}, **body)
    assert done.is_success, done.text
    assert (tried.status_code, tried.headers.get("Dry-Run")) == (done.status_code, "true"), tried.text
    shown = tried.json()
    assert shown["result"].keys() == done.json().keys()
    assert "X-Operation-Id" not in tried.headers
    entries = admin.audit(operation_id=done.headers["X-Operation-Id"])[::-1]
    assert shown["more"] == 0
    assert [told(change) for change in shown["changes"]] == [told(entry) for entry in entries]
    if entries and not operation.path.endswith(FINAL):
        admin.ok("POST", f"/admin/operations/{done.headers['X-Operation-Id']}/undo", {})
        assert_taken_back(before, records(owner, admin.tenant))


def told(change: dict[str, Any]) -> tuple[str, str, list[str]]:
    return change["resource_type"], change["action"], sorted(change["changes"])


@pytest.mark.parametrize("operation", UNTRIED, ids=str)
def test_what_can_not_be_undone_is_not_tried(admin: Caller, operation: Operation) -> None:
    for value in ("true", "perhaps"):
        answer = admin.call(operation.method, operation.url(), headers={"Dry-Run": value}, **operation.payload())
        refused(answer, 400, "DRY_RUN_UNSUPPORTED")


def test_a_dry_run_has_no_ids_for_what_would_be_new(admin: Caller) -> None:
    customer = admin.customer("Ada")
    body = {"customer_id": customer["id"], "title": "Engine"}
    tried = admin.post("/admin/deals", body, headers={"Dry-Run": "true"}).json()
    assert (tried["result"]["id"], tried["result"]["customer"]["id"]) == (None, customer["id"])
    (change,) = tried["changes"]
    assert (change["resource_type"], change["resource_id"], change["action"]) == ("deal", None, "create")
    assert change["changes"]["title"] == {"old": None, "new": "Engine"}


def test_a_dry_run_is_refused_as_the_request_would_be(admin: Caller) -> None:
    admin.customer("Ada", email="ada@example.com")
    headers = {"Dry-Run": "true"}
    refused(
        admin.post("/admin/customers", {"name": "A", "email": "ADA@example.com"}, headers=headers), 409, "EMAIL_EXISTS"
    )
    refused(admin.post("/admin/customers", {}, headers=headers), 400, "INVALID_REQUEST")


def test_another_value_of_the_header_writes_nothing(admin: Caller) -> None:
    for value in ("yes", "TRUE", "true, false", ""):
        answer = admin.post("/admin/customers", {"name": "Ada"}, headers={"Dry-Run": value})
        (fault,) = refused(answer, 400, "INVALID_REQUEST")["fields"]
        assert fault["field"] == "Dry-Run"
    assert admin.ok("GET", "/admin/customers")["total"] == 0
    assert admin.post("/admin/customers", {"name": "Ada"}, headers={"Dry-Run": "false"}).status_code == 201


class Walker:
    """Makes random writes. Refused ones are fine: what matters is what the others leave behind."""

    def __init__(self, caller: Caller, seed: int) -> None:
        self.caller = caller
        self.random = random.Random(seed)
        self.ids: dict[str, list[int]] = {}

    def pick(self, collection: str) -> int | None:
        known = self.ids.get(collection)
        return self.random.choice(known) if known else None

    def word(self) -> str:
        return self.random.choice(["Ada", "Grace", "Alan", "Kay", "Edsger", "Barbara"]) + str(self.random.randrange(40))

    def step(self) -> httpx.Response:
        choices, weights = zip(*self.CHOICES, strict=True)
        answer: httpx.Response = self.random.choices(choices, weights)[0](self)
        return answer

    def create(self) -> httpx.Response:
        customer, deal, contact = self.pick("customers"), self.pick("deals"), self.pick("contacts")
        choice = self.random.randrange(9)
        if choice == 0 or customer is None:
            email = f"{self.word()}@example.com".lower() if self.random.random() < 0.5 else None
            return self.made("customers", {"name": self.word(), "email": email, "tag_ids": None} | {})
        if choice == 1:
            body = {"first_name": self.word(), "is_primary": self.random.random() < 0.5}
            return self.made("contacts", body, f"/admin/customers/{customer}/contacts")
        if choice in {2, 3}:
            amount = self.random.randrange(3) * 10
            return self.made(
                "deals",
                # Not in a new stage: one that deals have been in can't be taken back any more.
                {"title": self.word(), "customer_id": customer, "contact_id": contact, "amount": amount}
                | {"stage": "prospecting"},
            )
        if choice == 4:
            kind = self.random.choice(["call", "task", "meeting"])
            links = {"customer_id": customer, "deal_id": deal, "project_id": self.pick("projects")}
            return self.made("activities", {"title": self.word(), "type": kind, **links})
        if choice == 5:
            return self.made("tags", {"name": self.word()})
        if choice == 6:
            name = self.word()
            kind = self.random.choice(["open", "won", "lost"])
            body = {"name": name.lower(), "display_name": name, "kind": kind, "order": self.random.randrange(1, 8)}
            return self.made("pipeline-stages", body)
        if choice == 7:
            return self.made("projects", {"name": self.word(), "customer_id": customer})
        return self.made("notes", {"content": self.word(), "customer_id": customer, "deal_id": deal})

    def made(self, collection: str, body: dict[str, Any], path: str = "") -> httpx.Response:
        body = {name: value for name, value in body.items() if value is not None}
        answer = self.caller.post(path or f"/admin/{collection}", body)
        if answer.is_success:
            self.ids.setdefault(collection, []).append(answer.json()["id"])
        return answer

    def change(self) -> httpx.Response:
        collection = self.random.choice(list(self.BODIES))
        record = self.pick(collection)
        if collection == "settings":
            return self.caller.put("/admin/settings", {"timezone": self.random.choice(["UTC", "Asia/Tokyo"])})
        return self.caller.patch(f"/admin/{collection}/{record or 1}", self.BODIES[collection](self))

    def move(self) -> httpx.Response:
        stage = self.random.choice(["prospecting", "qualification", "proposal", "closed_won", "closed_lost"])
        return self.caller.patch(f"/admin/deals/{self.pick('deals') or 1}", {"stage": stage})

    def delete(self) -> httpx.Response:
        collection = self.random.choice(
            ["customers", "contacts", "deals", "activities", "notes", "tags", "pipeline-stages"]
        )
        return self.caller.delete(f"/admin/{collection}/{self.pick(collection) or 1}")

    def restore(self) -> httpx.Response:
        collection = self.random.choice(["customers", "contacts", "deals", "activities", "notes"])
        return self.caller.post(f"/admin/{collection}/{self.pick(collection) or 1}/restore")

    def tag(self) -> httpx.Response:
        tags = self.random.sample(known, min(len(known), 2)) if (known := self.ids.get("tags")) else []
        return self.caller.put(f"/admin/customers/{self.pick('customers') or 1}/tags", {"tag_ids": tags})

    def arrange(self) -> httpx.Response:
        ids = [stage["id"] for stage in self.caller.ok("GET", "/admin/pipeline-stages")["data"]]
        self.random.shuffle(ids)
        return self.caller.put("/admin/pipeline-stages/order", {"ids": ids})

    def many(self) -> httpx.Response:
        ids = self.random.sample(known, min(len(known), 5)) if (known := self.ids.get("customers")) else [1]
        action = self.random.choice(["trash", "restore", "update"])
        values = {"values": {"company": self.word(), "contacted": True}} if action == "update" else {}
        return self.caller.post("/admin/customers/bulk", {"ids": ids, "action": action, "partial": True, **values})

    BODIES: ClassVar[dict[str, Callable[[Walker], dict[str, Any]]]] = {
        "customers": lambda self: {
            "status": self.random.choice(["lead", "active"]),
            "name": self.word(),
            "assigned_to": 7,
        },
        "contacts": lambda self: {"is_primary": self.random.random() < 0.5, "last_name": self.word()},
        "deals": lambda self: {
            "amount": self.random.randrange(50),
            "customer_id": self.pick("customers"),
            "contact_id": None,
        },
        "projects": lambda self: {
            "status": self.random.choice(["in_progress", "completed"]),
            "complete_tasks": self.random.random() < 0.5,
            "assignees": self.random.sample([7, 8, "x"], self.random.randrange(4)),
        },
        "activities": lambda self: {"status": self.random.choice(["scheduled", "completed"]), "title": self.word()},
        "notes": lambda self: {"content": self.word()},
        "tags": lambda self: {"name": self.word()},
        "pipeline-stages": lambda self: {"is_active": self.random.random() < 0.7, "order": self.random.randrange(1, 8)},
        "settings": lambda _: {},
    }
    CHOICES = (
        *((create, 8), (change, 8), (move, 3), (delete, 4), (restore, 4)),
        *((tag, 2), (arrange, 1), (many, 1)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_random_walk_taken_back_step_by_step_ends_where_it_began(
    admin: Caller, owner: psycopg.Connection, seed: int
) -> None:
    walker = Walker(admin, seed)
    for _ in range(30):
        walker.create()
    before = records(owner, admin.tenant)
    answers = [walker.step() for _ in range(STEPS)]
    assert all(answer.status_code < 500 for answer in answers)
    done = [answer.headers["X-Operation-Id"] for answer in answers if answer.is_success]
    undone = 0
    for operation in reversed(done):
        answer = admin.post(f"/admin/operations/{operation}/undo", {})
        assert answer.is_success or answer.json()["code"] == "OPERATION_NOT_FOUND", f"{operation}: {answer.text}"
        undone += answer.is_success
    assert undone > len(answers) // 4
    assert_taken_back(before, records(owner, admin.tenant))
