"""Whatever is given to every kind of record reaches each: what one leaves out stands here, with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from app.admin.exports.archive import TYPES
from app.admin.exports.dossier import PARTS
from app.admin.imports.kinds import KINDS
from app.admin.imports.schemas import ImportKind
from app.background import BULKS
from app.records.resources import CUSTOMERS, RESOURCES, Resource, references
from tests.laws.routes import ADMIN

ID = r"{\w+}"
ADDRESSES = {f"{operation.method} {operation.path}" for operation in ADMIN}


def served(pattern: str) -> Callable[[Resource], bool]:
    """Whether there is such an address; `LIST` is the last part of the address of its list."""

    def there(resource: Resource) -> bool:
        wanted = re.compile(pattern.replace("LIST", str(resource.table.name).replace("_", "-")).replace("ID", ID))
        return any(wanted.fullmatch(address) for address in ADDRESSES)

    return there


# By what it is called: whether a kind of record has it, and what to do if not.
SURFACES: dict[str, tuple[Callable[[Resource], bool], str]] = {
    "list": (served("GET /admin/(.*/)?LIST"), "a route that lists them"),
    "create": (served("POST /admin/(.*/)?LIST"), "a route that creates one"),
    "get": (served("GET /admin/LIST/ID"), "a route that reads one"),
    "change": (served("PATCH /admin/LIST/ID"), "a route that changes one"),
    "delete": (served("DELETE /admin/LIST/ID"), "a route that deletes one"),
    "trash": (
        lambda resource: resource.has_trash and served("POST /admin/LIST/ID/restore")(resource),
        "SoftDeleted to its model, and a route that restores one",
    ),
    "versions": (served("GET /admin/LIST/ID/versions"), "a route that lists its versions"),
    "undo": (served("POST /admin/LIST/ID/undo"), "a route that takes a change back"),
    "bulk": (
        lambda resource: (
            served("POST /admin/LIST/bulk")(resource) and resource.table.name in {bulk.name for bulk in BULKS}
        ),
        "a route that changes many, and its Bulk to BULKS in app/background.py",
    ),
    "export": (served("GET /admin/LIST/export"), "its list to EXPORTS in app/admin/exports/routes.py"),
    "import": (
        lambda resource: resource.table.name in {*ImportKind} & KINDS.keys(),
        "it to ImportKind in app/admin/imports/schemas.py, and to KINDS in app/admin/imports/kinds.py",
    ),
    "search": (lambda resource: resource.searched, "searched to its declaration in app/records/resources.py"),
    "live": (lambda resource: resource.live, "live to its declaration in app/records/resources.py"),
    "archive": (lambda resource: resource.table.name in TYPES, "it to TYPES in app/admin/exports/archive.py"),
    "dossier": (
        lambda resource: resource is CUSTOMERS or resource in {part.resource for part in PARTS},
        "it to PARTS in app/admin/exports/dossier.py",
    ),
}
OF_CUSTOMERS = ("dossier",)
FILE = "the files of an organization come and go with its archive"
FEW = "an organization has few of them, which are made by hand"
BY_NAME = "records name it, and so it comes and goes with them"
NOT_DELETED = "it is never deleted"
FOR_GOOD = "it is deleted for good, and an undo brings it back"
ADMINS = "only admins see it"
# By kind and surface, why it is not there.
EXCEPTIONS: dict[str, dict[str, str]] = {
    "attachment": {
        "change": "other bytes are another file",
        "bulk": "it can't be changed",
        "export": FILE,
        "import": FILE,
        "search": "it is found with what it belongs to",
    },
    "tag": {"trash": FOR_GOOD, "bulk": FEW, "export": BY_NAME, "import": BY_NAME, "search": FEW},
    "pipeline_stage": {"trash": FOR_GOOD, "bulk": FEW, "export": BY_NAME, "import": BY_NAME, "search": FEW},
    "webhook": {"trash": FOR_GOOD, "bulk": FEW, "export": ADMINS, "import": ADMINS, "search": ADMINS, "live": ADMINS},
    "report_schedule": {
        "trash": FOR_GOOD,
        "bulk": FEW,
        "export": FEW,
        "import": FEW,
        "search": FEW,
        "live": "it is shown to its person",
    },
    "member": {
        "trash": "who was seen stays, and an invitation is deleted for good",
        "bulk": "each is a decision about one person",
        "export": "people come from the CMS, and go with the archive",
        "import": "people come from the CMS",
        "search": "it is about customers",
        "live": "nobody looks at it while others change it",
    },
    "settings": dict.fromkeys(
        ("create", "delete", "trash", "bulk", "export", "import", "search"), "an organization has one"
    )
    | {
        "get": "it has no id in its address",
        "change": "it has no id in its address",
        "versions": "it has no id in its address",
        "undo": "it has no id in its address",
        "live": "nobody looks at it while others change it",
    },
}


def faults(resource: Resource) -> Iterator[str]:
    """What is neither there nor left out for a reason; and reasons that no longer hold."""
    left_out = EXCEPTIONS.get(resource.kind, {})
    about_a_customer = resource is CUSTOMERS or any(target is CUSTOMERS for _, target in references(resource))
    for surface, (present, what) in SURFACES.items():
        if surface in OF_CUSTOMERS and not about_a_customer:
            continue
        if present(resource) and surface in left_out:
            yield f"{resource.kind} has it by now: take {surface!r} out of EXCEPTIONS"
        elif not present(resource) and surface not in left_out:
            yield f"add {what} for {resource.table.name}, or say in EXCEPTIONS of tests/laws/test_surfaces.py why not"


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_what_every_kind_of_record_has_is_there_or_left_out_for_a_reason(resource: Resource) -> None:
    assert list(faults(resource)) == []


def test_the_exceptions_are_of_what_there_is() -> None:
    assert EXCEPTIONS.keys() <= {resource.kind for resource in RESOURCES}
    assert {surface for left_out in EXCEPTIONS.values() for surface in left_out} <= SURFACES.keys()
