"""A bulk change does to each record what a request for it alone does, with the same rights and refusals."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

import pytest

from app.admin.bulk import BulkChange
from app.background import BULKS
from app.records import searching
from app.records.resources import RESOURCES
from app.web.fields import _leaves
from app.web.input import input_types
from app.web.paging import NOT_FILTERS
from tests.callers import Caller, Callers, refused
from tests.laws.routes import ADMIN, UNKNOWN_ID, create, fields, valid_body


class Bulk(NamedTuple):
    """One action of one bulk route."""

    collection: str
    action: str
    body: type[BulkChange]

    def __str__(self) -> str:
        return f"{self.action} {self.collection}"

    @property
    def values(self) -> dict[str, Any]:
        """Made-up values that any record takes."""
        kind = self.body.values_of.get(self.action)
        if kind is None:
            return {}
        texts = [field.name for field in fields(kind) if field.name in {"name", "first_name", "title", "content"}]
        if self.action == "update" and texts:
            return {texts[0]: "Another"}
        return {name: [] if name == "tag_ids" else value for name, value in valid_body(kind).items()}

    def send(self, caller: Caller, *ids: int, **more: Any) -> Any:
        values = {"values": self.values} if self.action in self.body.values_of else {}
        return caller.post(f"{self.collection}/bulk", {"ids": ids, "action": self.action, **values, **more})

    def send_alone(self, caller: Caller, record_id: int) -> Any:
        """The same by the request for one record."""
        path = f"{self.collection}/{record_id}"
        if self.action == "trash":
            return caller.delete(path)
        if self.action == "restore":
            return caller.post(f"{path}/restore")
        if self.action in {"add_tags", "remove_tags"}:  # none of them
            return caller.post(f"{path}/tags", self.values)
        if self.action == "reassign" and any(o.path == f"{self.collection}/{{customer_id}}/reassign" for o in ADMIN):
            return caller.post(f"{path}/reassign", self.values)
        return caller.patch(path, self.values)


def bulk_actions() -> list[Bulk]:
    found = []
    for operation in ADMIN:
        wanted = input_types(operation.handler).data
        if wanted is not None and issubclass(wanted, BulkChange):
            (actions,) = [field.type for field in fields(wanted) if field.name == "action"]
            found += [Bulk(operation.path.removesuffix("/bulk"), action.value, wanted) for action in actions]
    return found


ACTIONS = bulk_actions()
every_action = pytest.mark.parametrize("bulk", ACTIONS, ids=str)


def make(caller: Caller, bulk: Bulk, admin: Caller) -> int:
    """A record of this caller's for the action: to be restored, an admin has put it into the trash."""
    path = creating(bulk)
    (creates,) = [o for o in ADMIN if o.method == "POST" and o.path == path]
    record = int(create(caller, creates)["id"])
    if bulk.action == "restore":
        admin.ok("DELETE", f"{bulk.collection}/{record}")
    return record


def creating(bulk: Bulk) -> str:
    own = [o.path for o in ADMIN if o.method == "POST" and o.path == bulk.collection]
    return own[0] if own else f"/admin/customers/{{customer_id}}/{bulk.collection.rsplit('/', 1)[1]}"


def test_every_kind_of_record_that_lists_can_filter_can_be_changed_in_bulk() -> None:
    expected = {str(resource.table.name) for resource in RESOURCES if resource.searched}
    assert {bulk.collection.rsplit("/", 1)[1] for bulk in ACTIONS} == expected
    assert {bulk.name for bulk in BULKS} == expected, (
        "a job has to find what a route does: add its BULK to BULKS in app/background.py"
    )
    assert {bulk.body for bulk in BULKS} == {bulk.body for bulk in ACTIONS}


@every_action
def test_it_does_what_the_request_for_one_record_does(bulk: Bulk, admin: Caller) -> None:
    alone, together, more = (make(admin, bulk, admin) for _ in range(3))
    assert bulk.send_alone(admin, alone).is_success
    done = bulk.send(admin, more, together)
    assert done.status_code == 200, done.text
    assert done.json()["matched"] == 2
    name = bulk.collection.removeprefix("/admin/").replace("-", "_")
    (kind,) = [resource.kind for resource in RESOURCES if resource.table.name == name]
    told = [
        [(entry["action"], entry["version"], sorted(entry["changes"])) for entry in entries]
        for record in (alone, together, more)
        if (entries := admin.audit(resource_id=record, resource_type=kind))
    ]
    assert told[0] == told[1] == told[2]
    changed = len(told[0]) > (2 if bulk.action == "restore" else 1)
    assert (done.json()["changed"], done.json()["unchanged"]) == ((2, 0) if changed else (0, 2))
    gone = [admin.get(f"{bulk.collection}/{record}").status_code for record in (alone, together)]
    assert gone == [404 if bulk.action == "trash" else 200] * 2


@every_action
@pytest.mark.parametrize("role", ["admin", "manager", "agent"])
def test_each_role_may_do_to_many_what_it_may_do_to_one(
    bulk: Bulk, role: str, admin: Caller, stranger: Caller, callers: Callers, tenant: str
) -> None:
    caller = callers.person(role, tenant)
    for whose, maker in {"unknown": None, "own": caller, "others": admin, "foreign": stranger}.items():
        one = many = UNKNOWN_ID
        if maker is not None:
            one, many = (make(maker, bulk, stranger if maker is stranger else admin) for _ in range(2))
        alone, together = bulk.send_alone(caller, one), bulk.send(caller, many)
        said = f"{whose}: {alone.text} / {together.text}"
        if alone.is_success:
            assert together.status_code == 200, said
        elif together.status_code == 409:
            (told,) = refused(together, 409, "BULK_REFUSED")["refused"]
            assert (told["code"], told["message"]) == (alone.json()["code"], alone.json()["message"]), said
        else:  # the role alone is refused, whatever the records are
            refused(together, 403, "INSUFFICIENT_PERMISSIONS")
            assert alone.status_code in {403, 404}, said


@every_action
def test_a_refused_one_is_told_beside_those_that_were_changed(bulk: Bulk, admin: Caller) -> None:
    record = make(admin, bulk, admin)
    done = bulk.send(admin, UNKNOWN_ID, record, partial=True)
    assert done.status_code == 200, done.text
    assert [each["id"] for each in done.json()["refused"]] == [UNKNOWN_ID]
    assert done.json()["changed"] + done.json()["unchanged"] == 1


SAMPLES = {"search": "an", "deleted": "include", "stage": "prospecting", "currency": "USD", "assigned_to": "me"}


def sample(name: str, kind: Any) -> Any:
    """A value of a filter."""
    leaves = {leaf for leaf in _leaves(kind) if isinstance(leaf, type)}
    choices = [leaf for leaf in leaves if issubclass(leaf, StrEnum)]
    if name in SAMPLES:
        return SAMPLES[name]
    if choices:
        return next(iter(choices[0])).value
    if name.endswith(("_from", "_to", "_since")):
        return "2026-01-31"
    return True if bool in leaves else 1 if leaves & {int, Decimal} else "x"


@pytest.mark.parametrize("body", list(dict.fromkeys(bulk.body for bulk in ACTIONS)))
@pytest.mark.parametrize("by_index", [False, True])
def test_each_filter_matches_what_the_list_shows(
    body: type[BulkChange], by_index: bool, admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_index:  # as a search does that finds few of many rows
        monkeypatch.setattr(searching, "SAMPLE", 1)
        monkeypatch.setattr(searching, "WORTH_WALKING", 2)
    bulk = next(bulk for bulk in ACTIONS if bulk.body is body and bulk.action == "update")
    for _ in range(2):
        make(admin, bulk, admin)
    admin.ok("DELETE", f"{bulk.collection}/{make(admin, bulk, admin)}")
    for field in fields(body.query):
        if field.encode_name not in NOT_FILTERS:
            name, value = field.encode_name, sample(field.encode_name, field.type)
            listed = admin.get(bulk.collection, **{name: str(value).lower() if value is True else value})
            assert listed.status_code == 200, listed.text
            change = {"filter": {name: value}, "action": "update", "values": bulk.values, "partial": True}
            done = admin.post(f"{bulk.collection}/bulk", change)
            assert done.status_code == 200, f"{name}: {done.text}"
            assert done.json()["matched"] == listed.json()["total"], name


def test_the_actions_are_those_of_the_records() -> None:
    operations = {(operation.method, operation.path) for operation in ADMIN}
    for bulk in ACTIONS:
        parameter = next(o.parameters[0] for o in ADMIN if o.path.startswith(f"{bulk.collection}/{{"))
        assert ("PATCH", f"{bulk.collection}/{{{parameter}}}") in operations, bulk
        assert ("POST", f"{bulk.collection}/{{{parameter}}}/restore") in operations, bulk
