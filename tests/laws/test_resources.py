"""Each resource is whole: what app/records/resources.py declares, migrations, lists and routes do. What somebody forgot
is named in a sentence that says what to add where.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from enum import StrEnum
from types import ModuleType
from typing import Any, get_args

import psycopg
import pytest
from litestar.handlers import BaseRouteHandler
from psycopg import errors
from sqlalchemy import Column, Table

import app
from app.admin.audit.queries import VERSIONS
from app.admin.events.queries import SHOWN
from app.admin.history.undo import KINDS
from app.admin.search.kinds import KINDS as FINDABLE
from app.admin.search.schemas import SearchType
from app.models import Record, SoftDeleted
from app.openapi import GROUPS
from app.records.audit_values import ResourceType
from app.records.filters import FoundIn
from app.records.listing import Listing
from app.records.resources import MEMBERS, REPORT_SCHEDULES, RESOURCES, SETTINGS, Resource, references
from app.records.sorting import Order
from tests.callers import Caller
from tests.laws.routes import ADMIN, COLLECTIONS, HANDLERS, fields, make

DECLARATIONS = "app/records/resources.py"
every_resource = pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)


def modules() -> Iterator[ModuleType]:
    for module in pkgutil.walk_packages(app.__path__, "app."):
        if module.name.startswith(("app.admin.", "app.console.")):
            yield importlib.import_module(module.name)


LISTINGS = {each.name: each for module in modules() for each in vars(module).values() if isinstance(each, Listing)}


def triggers(catalog: psycopg.Connection, table: str) -> dict[str, str]:
    """A table's triggers, as they were made."""
    found = catalog.execute(
        "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal",
        [table],
    )
    return dict(found.fetchall())


# ── the declaration ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_table_of_records_is_declared_as_a_resource() -> None:
    declared = {resource.model for resource in RESOURCES}
    for model in Record.__subclasses__():
        assert model in declared, f"declare {model.__name__} as a Resource in {DECLARATIONS}, and add it to RESOURCES"


@every_resource
def test_the_audit_log_knows_the_kind(resource: Resource) -> None:
    missing = f"add {resource.kind.upper()} = {resource.kind!r} to ResourceType in app/records/audit_values.py"
    assert resource.kind in list(ResourceType), missing


@every_resource
def test_the_search_over_everything_finds_the_kind(resource: Resource) -> None:
    if resource.searched:
        name, kind = resource.kind.upper(), repr(resource.kind)
        assert resource.kind in list(SearchType), f"add {name} = {kind} to SearchType in app/admin/search/schemas.py"
        missing = f"add a Findable of resources.{resource.table.name.upper()} to KINDS in app/admin/search/kinds.py"
        assert resource in [each.resource for each in FINDABLE], missing


# What is told of in the log, without being a record: nobody lists, undoes or restores it.
NO_RECORDS = {
    *(ResourceType.AUDIT_LOG, ResourceType.IMPORT),
    *(ResourceType.ASSISTANT_SETTINGS, ResourceType.MCP_SERVER, ResourceType.ACCESS_TOKEN),
}


def test_the_audit_log_knows_no_other_kind() -> None:
    kinds = {resource.kind for resource in RESOURCES}
    for kind in set(ResourceType) - NO_RECORDS:
        assert kind in kinds, f"{DECLARATIONS} has no resource of the kind {kind.value!r} of ResourceType"


@every_resource
def test_what_others_refer_to_is_declared_before_them(resource: Resource) -> None:
    """In the order of locking."""
    before = RESOURCES[: RESOURCES.index(resource)]
    for column, target in references(resource):
        wrong = f"{DECLARATIONS}: in RESOURCES, {target.kind} has to come before {resource.kind}, whose {column} it is"
        assert target in before, wrong


@every_resource
def test_parents_are_references(resource: Resource) -> None:
    columns = {column for column, _ in references(resource)}
    for parent in resource.parents:
        assert parent in columns, f"{parent} of {resource.model.__name__} has no foreign key: give it reference(…)"


# ── what the migrations made ─────────────────────────────────────────────────────────────────────────────────────────


@every_resource
def test_each_change_raises_the_version(resource: Resource, catalog: psycopg.Connection) -> None:
    table = resource.table.name
    assert "version" in triggers(catalog, table), f"let a migration run versioned({table!r})"


@every_resource
def test_each_change_is_audited(resource: Resource, catalog: psycopg.Connection) -> None:
    table, made = resource.table.name, triggers(catalog, resource.table.name)
    # An organization's settings are made by its first request, which is nobody's change.
    events = {"update", "delete"} if resource is SETTINGS else {"insert", "update", "delete"}
    for event in events:
        audited = made.get(f"audit_{event}", "")
        assert f"'{resource.kind}'" in audited, f"let a migration run audited({table!r}, {resource.kind!r})"


@every_resource
def test_what_belongs_to_people_is_hidden_from_others(
    resource: Resource, catalog: psycopg.Connection, service_connection: psycopg.Connection
) -> None:
    table = resource.table.name
    read = catalog.execute(
        """
        SELECT attname FROM pg_policy JOIN pg_depend ON classid = 'pg_policy'::regclass AND objid = pg_policy.oid
        JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
        WHERE polrelid = %s::regclass AND polname = 'own' AND refobjid = polrelid AND attnum > 0
        """,
        [table],
    )
    columns = {name for (name,) in read}
    wrong = f"let a migration run own_only({table!r}, …) by the columns that are owned_by in {DECLARATIONS}"
    assert {*resource.owned_by} == columns, wrong
    try:
        service_connection.execute("SELECT crm_owns(%s, 0)", [table])
        known = True
    except errors.InvalidParameterValue:
        known = False
    assert known is resource.owned, f"crm_owns() does not know {table} as it should: see the policy `own`"


@every_resource
def test_the_live_stream_tells_everybody_of_what_everybody_may_read(resource: Resource) -> None:
    address = f"/admin/{resource.table.name.replace('_', '-')}"
    reads = [o for o in ADMIN if o.method == "GET" and re.fullmatch(rf"{address}/{{\w+}}", o.path)]
    for_all = any(operation.permission == "read" for operation in reads)
    # A screen shows customers and the work for them.
    assert resource.live is (for_all and resource not in {REPORT_SCHEDULES, MEMBERS}), (
        f"{DECLARATIONS}: {resource.kind} is read by everybody, or not: see `live`"
    )


@every_resource
def test_what_belongs_to_a_record_goes_into_the_trash_with_it(resource: Resource, catalog: psycopg.Connection) -> None:
    table = resource.table.name
    children = [
        f"{child.table.name}.{column}"
        for child in RESOURCES
        for column, target in references(child)
        if column in child.parents and target is resource
    ]
    made = triggers(catalog, table).get("trash_update", "")
    for child in children:
        assert f"'{child}'" in made, f"let a migration run cascade_soft_delete({table!r}, {child!r})"
    assert made.count("'") == 2 * len(children), f"{DECLARATIONS}: the trigger has more `parents` than are declared"


@every_resource
def test_the_trash_is_listed_by_time_and_kept_empty_of_what_is_on_hold(
    resource: Resource, catalog: psycopg.Connection
) -> None:
    if not resource.has_trash:
        return
    table, made = resource.table.name, triggers(catalog, resource.table.name)
    assert resource.title, f"{DECLARATIONS}: say by the `title` of {resource.kind} what the trash calls one"
    found = catalog.execute(INDEXES, [table]).fetchall()
    needed = f"let a migration run trashed({table!r})"
    assert (["tenant_id", "deleted_at", "id"], "(deleted_at IS NOT NULL)", False) in found, needed
    assert {"held", "held_delete"} <= made.keys(), needed
    for link in resource.parents:
        assert f"new.{link}" in made["held"], f"{needed} after each cascade_soft_delete(…, '{table}.…')"


@every_resource
def test_rows_are_counted_where_that_is_declared(resource: Resource, catalog: psycopg.Connection) -> None:
    table, made = resource.table.name, triggers(catalog, resource.table.name)
    counted = {f"count_{event}" for event in ("insert", "update", "delete")} <= made.keys()
    assert counted or not resource.counted, f"let a migration run counted({table!r})"
    assert resource.counted or not counted, f"{DECLARATIONS}: {table} is counted: declare it"
    limited = {"quota_insert", "quota_update"} <= made.keys()
    assert limited or not resource.counted, f"let a migration run limited({table!r})"


@every_resource
def test_a_search_finds_what_is_declared_as_searched(
    resource: Resource, catalog: psycopg.Connection, service_connection: psycopg.Connection, admin: Caller
) -> None:
    table = resource.table.name
    searched = [each for each in LISTINGS.values() if each.source is resource.table and _is_searched(each)]
    assert resource.searched or not searched, f"{DECLARATIONS}: the list of {table} is searched: declare it"
    if not resource.searched:
        return
    assert searched, f"give the list of {table} the filter 'search': found_in({table!r}, …)"
    policy = catalog.execute("SELECT FROM pg_policy WHERE polrelid = %s::regclass AND polname = 'search'", [table])
    assert policy.fetchone() is not None, f"let a migration run searchable({table!r}, …)"
    path = f"/admin/{table.replace('_', '-')}"
    (parameter,) = [name for name, collection in COLLECTIONS.items() if collection == path]
    made = admin.ok("GET", f"{path}/{make(admin, parameter)}")
    text = next(made[name] for name in ("name", "title", "content", "first_name") if made.get(name))[:100].split()[0]
    service_connection.execute("SELECT set_config('crm.tenant', %s, false)", [admin.tenant])
    search = "SELECT crm_search(%s, ARRAY[lower(%s)], true, false, NULL)"
    found = service_connection.execute(search, [table, text]).fetchall()
    assert (made["id"],) in found, f"crm_search() does not find what searchable({table!r}, …) says"
    assert made["id"] in [row["id"] for row in admin.ok("GET", path, search=text)["data"]]


def _is_searched(listing: Listing[Any]) -> bool:
    return isinstance(listing.filters.get("search"), FoundIn)


@every_resource
def test_an_external_id_is_of_one_live_record(resource: Resource, catalog: psycopg.Connection) -> None:
    if "external_id" in resource.table.c:
        made = catalog.execute(INDEXES, [resource.table.name]).fetchall()
        needed = f"CREATE UNIQUE INDEX {resource.external_id_key} … (tenant_id, external_id) WHERE deleted_at IS NULL"
        assert (["tenant_id", "external_id"], LIVE, True) in made, f"let a migration run {needed}"


@every_resource
def test_what_a_refusal_is_declared_for_is_a_constraint(resource: Resource, catalog: psycopg.Connection) -> None:
    for constraint in resource.refusals:
        # A unique index refuses under its name, too.
        names = (
            "SELECT conname FROM pg_constraint UNION SELECT indexrelid::regclass::name FROM pg_index WHERE indisunique"
        )
        found = catalog.execute(f"SELECT FROM ({names}) AS known (name) WHERE name = %s", [constraint]).fetchone()
        assert found is not None, (
            f"{DECLARATIONS}: no table has the constraint {constraint}, which {resource.kind} names"
        )


# ── routes and lists ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_soft_deleted_table_has_a_route_that_restores() -> None:
    restorable = {operation.path.split("/")[2].replace("-", "_") for operation in ADMIN if "/restore" in operation.path}
    trashable = {str(model.__table__) for model in Record.__subclasses__() if issubclass(model, SoftDeleted)}
    for table in trashable - restorable:
        pytest.fail(f"add a route POST /admin/{table.replace('_', '-')}/{{id}}/restore")
    assert restorable == trashable


def test_each_handler_is_in_a_router_of_the_app() -> None:
    served = {handler.fn for handler in HANDLERS}
    for module in modules():
        for name, handler in vars(module).items():
            if isinstance(handler, BaseRouteHandler) and handler.fn.__module__ == module.__name__:
                router = f"the router of {module.__name__}, and that router to ADMIN in app/main.py"
                assert handler.fn in served, f"add {name} to {router}"


def test_each_group_of_calls_is_described() -> None:
    tags = {tag for operation in ADMIN for tag in operation.handler.resolve_tags()}
    for tag in tags:
        assert tag in GROUPS, f"add {tag!r} to GROUPS in app/openapi.py, with a sentence about it"


def test_a_counted_table_has_a_list_that_uses_the_counts() -> None:
    """That the lists of a repository do is up to Listing.of."""
    listed = {each.source for each in LISTINGS.values()}
    for resource in RESOURCES:
        assert not resource.counted or resource.table in listed, f"{resource.table.name} is counted, and never listed"


# ── indexes ──────────────────────────────────────────────────────────────────────────────────────────────────────────

OF_TABLES = [
    pytest.param(listing, listing.source, id=listing.name)
    for listing in LISTINGS.values()
    # The versions of one record are found by audit_entries_resource_idx, in the order of their ids.
    if isinstance(listing.source, Table) and listing is not VERSIONS
]
INDEXES = """
    SELECT array(SELECT coalesce(attname, '') FROM unnest(indkey) WITH ORDINALITY AS key (number, place)
                 LEFT JOIN pg_attribute ON attrelid = indrelid AND attnum = number
                 WHERE place <= indnkeyatts ORDER BY place),
           coalesce(pg_get_expr(indpred, indrelid), ''), indisunique
    FROM pg_index WHERE indrelid = %s::regclass
"""
RANKED = "SELECT generation_expression FROM information_schema.columns WHERE table_name = %s AND column_name = %s"
LIVE = "(deleted_at IS NULL)"
# Notifications that are only mailed are in no list.
IN_APP = "in_app"


def indexes(catalog: psycopg.Connection, table: Table, column: str) -> Iterator[list[str]]:
    """The columns of each index that has all rows, all live rows, all that are shown, or all that have this column."""
    for keys, predicate, _ in catalog.execute(INDEXES, [table.name]).fetchall():
        if predicate in {"", LIVE, IN_APP, f"({column} IS NOT NULL)"}:
            yield keys


@pytest.mark.parametrize(("listing", "table"), OF_TABLES)
def test_each_sort_has_its_index(listing: Listing[Any], table: Table, catalog: psycopg.Connection) -> None:
    # What only a path sets narrows every such list.
    scopes = [
        getattr(narrowing.column, "name", name)
        for name, narrowing in listing.filters.items()
        if name not in listing.query.__struct_fields__
    ]
    for key, order in listing.sorts.items():
        for column in columns_of(order):
            for scope in scopes or [""]:
                # Rows without an id have the key that they are sorted by.
                wanted = ["tenant_id", *([scope] if scope else []), column, *(["id"] if "id" in table.c else [])]
                needed = f"CREATE INDEX ON {table.name} ({', '.join(wanted)}) WHERE deleted_at IS NULL"
                found = wanted in indexes(catalog, table, scope or column)
                assert found, f"the sort {key!r} of {listing.name} has no index: let a migration run {needed}"


def columns_of(order: Order) -> list[str]:
    """What an order goes by, where that is columns of a table."""
    count = order.segments if isinstance(order.segments, int) else 0
    columns = [order.segment(index).column for index in range(count)]
    return [column.name for column in columns if isinstance(column, Column)]


@pytest.mark.parametrize(("listing", "table"), OF_TABLES)
def test_each_filter_that_lets_few_rows_through_has_its_index(
    listing: Listing[Any], table: Table, catalog: psycopg.Connection
) -> None:
    few = {field.name for field in fields(listing.query) if has_few_values(field.type)}
    for name, narrowing in listing.filters.items():
        column = narrowing.column
        if isinstance(column, Column) and name not in few:
            # Before it, an index may have what has few values.
            made = [[key for key in keys if key not in few] for keys in indexes(catalog, table, column.name)]
            needed = f"CREATE INDEX ON {table.name} (tenant_id, {column.name}, …) WHERE deleted_at IS NULL"
            found = any(keys[:2] == ["tenant_id", column.name] for keys in made)
            assert found, f"the filter {name!r} of {listing.name} has no index: let a migration run {needed}"


@pytest.mark.parametrize(("listing", "table"), OF_TABLES)
def test_a_rank_is_the_place_among_the_values(listing: Listing[Any], table: Table, catalog: psycopg.Connection) -> None:
    kinds = {field.encode_name: field.type for field in fields(listing.query)}
    for name, narrowing in listing.filters.items():
        rank = narrowing.implied and narrowing.implied[0]
        if isinstance(rank, Column) and rank.name.endswith("_rank"):
            (values,) = [part for part in walk(kinds[name]) if isinstance(part, type) and issubclass(part, StrEnum)]
            row = catalog.execute(RANKED, [table.name, rank.name]).fetchone()
            assert row is not None
            found = re.findall(r"'(\w+)'", row[0])
            assert found == list(values), f"{table.name}.{rank.name} goes by other values than {values.__name__}"


def has_few_values(kind: Any) -> bool:
    """Whether a filter is by one of a few words, each of which many rows have."""
    return any(isinstance(part, type) and issubclass(part, StrEnum) for part in walk(kind))


def walk(kind: Any) -> list[Any]:
    """A type, and what it is made of."""
    return [kind, *get_args(kind), *(inner for part in get_args(kind) for inner in get_args(part))]


# ── history ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_each_resource_has_its_history_and_can_be_taken_back(resource: Resource) -> None:
    assert resource.kind in KINDS, f"add {resource.table.name.upper()} to KINDS in app/admin/history/undo.py"
    collection = f"/admin/{resource.table.name.replace('_', '-')}"
    for method, last in (("GET", "versions"), ("POST", "undo")):
        found = [o for o in ADMIN if o.method == method and o.path.startswith(collection) and o.path.endswith(last)]
        assert found, f"add {method} {collection}/…/{last} to its routes: docs/adding-a-resource.md shows it"


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_each_resource_is_shown_in_the_change_feed(resource: Resource) -> None:
    assert resource.kind in SHOWN, f"add {resource.table.name.upper()} to SHOWN in app/admin/events/queries.py"
