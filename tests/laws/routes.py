"""All routes of the app, and a valid request for each. The laws are generated from them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from copy import deepcopy
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
import psycopg
import pytest
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from msgspec import UNSET, structs, to_builtins
from polyfactory.factories.msgspec_factory import MsgspecFactory
from psycopg.types.json import Jsonb

from app.access.permissions import Permission, Requires
from app.admin.batch.schemas import Batch
from app.admin.bulk import BulkChange
from app.admin.contacts.schemas import ContactCreate
from app.db.roles import SERVICE_ROLE, set_for_transaction
from app.main import create_app
from app.settings import Settings
from app.web.event_stream import EventStream
from app.web.input import input_types
from app.web.structs import Body
from tests.callers import Caller
from tests.tools import Tools

# msgspec works them out anew each time.
fields = cache(structs.fields)

UNKNOWN_ID = 2**62
UNKNOWN_OPERATION = uuid.UUID(int=0)
# Of these, no single field is required, but one of several.
ONE_OF: dict[type[Body], list[str]] = {ContactCreate: ["first_name"]}
# Made-up values of these fields would be refused.
KNOWN = {"first_name": "Grace", "content_type": "text/plain", "size": 5, "stage": "proposal", "default_currency": "EUR"}
# Nobody listens there.
KNOWN |= {"url": "http://127.0.0.1:9/hook", "types": ["customer.*"], "after": 0, "before": 2}
# A report that has all filters; and its schedule.
KNOWN |= {"report": "summary", "every": "day", "at": "07:30"}
KNOWN |= {"email": "expected@example.com", "tool": "mail", "arguments": {}}
# Every made-up record has this letter somewhere.
QUERY: dict[str, object] = {"q": "e", "from": "2026-01-01", "to": "2026-01-31"}


# They need a calendar's server: tests/calendars/test_connections.py has one.
OUTSIDE = tuple(f"/admin/me/connections/{kind}" for kind in ("caldav", "google", "microsoft", "finish"))


class Operation(NamedTuple):
    """One method of one route."""

    path: str
    method: str
    handler: HTTPRouteHandler

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def permission(self) -> Permission | None:
        required = [guard.permission for guard in self.handler.resolve_guards() if isinstance(guard, Requires)]
        return required[0] if len(required) == 1 else None

    @property
    def never_ends(self) -> bool:
        """Whether it answers with events until somebody ends it: tests/admin/test_live_stream.py reads it."""
        return self.handler.parsed_fn_signature.return_type.annotation is EventStream

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"{(\w+)}", self.path)

    def url(self, **ids: object) -> str:
        """With these ids, and values of what its query requires; without one, with a made-up one."""
        query = input_types(self.handler).query
        required = [field.encode_name for field in fields(query) if field.required] if query else []
        values = {name: (QUERY | ids)[name] for name in required}
        unknown = dict.fromkeys(self.parameters, UNKNOWN_ID) | {"operation_id": UNKNOWN_OPERATION}
        path = self.path.format(**unknown | ids)
        return f"{path}?{urlencode(values)}" if values else path

    @property
    def takes_json(self) -> bool:
        return input_types(self.handler).data is not None

    def body(self) -> dict[str, Any] | None:
        """A valid JSON body, if the route takes one."""
        wanted = input_types(self.handler).data
        return None if wanted is None else valid_body(wanted)

    def payload(self) -> dict[str, Any]:
        """A valid body of any kind, as the test client takes it."""
        if file := input_types(self.handler).file:
            chosen = {name: next(iter(known)).value for name, known in file.choices.items()}
            return {"files": {"file": ("hello.csv", b"Name\nHello\n")}, "data": chosen}
        body = self.body()
        return {} if body is None else {"json": body}

    def send(self, caller: Caller, url: str) -> dict[str, Any]:
        """The answer to a valid body."""
        response = caller.call(self.method, url, **self.payload())
        assert response.is_success, f"{self.method} {url}: {response.status_code} {response.text}"
        answered: dict[str, Any] = response.json()
        return answered


def valid_body(kind: type[Body]) -> dict[str, Any]:
    """The required fields with made-up values, or one optional one; of a bulk change, for no record at all."""
    if kind is Batch:
        return {"requests": [{"method": "POST", "path": "/admin/customers", "body": {"name": "Ada"}}]}
    if issubclass(kind, BulkChange):
        return {"filter": {"search": "nothing is like this"}, "action": "update"} | {
            "values": valid_body(kind.values_of["update"])
        }

    made = deepcopy(_made_up(kind))
    required = {field.encode_name for field in fields(kind) if field.required}
    optional = [
        field.encode_name for field in fields(kind) if not field.required and made.get(field.encode_name) is not UNSET
    ]
    return {name: (made | KNOWN)[name] for name in required or ONE_OF.get(kind) or optional[:1]}


@cache
def _made_up(kind: type[Body]) -> dict[str, Any]:
    """A value for each field: the same each time, and it takes long."""

    class Factory(MsgspecFactory[kind]):  # type: ignore[valid-type]  # made for each kind of body
        __model__ = kind
        __random_seed__ = 1
        __randomize_collection_length__ = True
        __min_collection_length__ = 1

    made: dict[str, Any] = to_builtins(Factory.build())
    return made


ROUTES = create_app(Settings(jwt_secret="x" * 32, database_url="postgresql://localhost/none")).routes


def operations() -> list[Operation]:
    # Sorted, since Litestar keeps them in sets.
    return sorted(
        Operation(route.path_format, method, handler)
        for route in ROUTES
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in sorted(handler.http_methods)
        if method != "OPTIONS"
    )


EVERY = operations()
# Those of other protocols, too: the live connections, and the door for AI clients.
HANDLERS = [
    handler
    for route in ROUTES
    for handler in (route.route_handlers if isinstance(route, HTTPRoute) else [route.route_handler])
]
ADMIN = [operation for operation in EVERY if operation.path.startswith("/admin")]
CONSOLE = [operation for operation in EVERY if operation.path.startswith("/console/admin")]


def of_each_kind(operations: Iterable[Operation]) -> pytest.MarkDecorator:
    """The test gets these `operations` of one kind of record at a time, since a test costs more than a request, and its
    tenant costs many. A failure has to name the operation.
    """
    kinds: dict[str, list[Operation]] = {}
    for each in operations:
        prefix, _, rest = each.path.partition("admin/")
        kinds.setdefault(f"{prefix}admin/{rest.split('/')[0]}", []).append(each)
    return pytest.mark.parametrize("operations", kinds.values(), ids=kinds.keys())


# By path parameter, or field of a body: the collection of the record that it refers to.
COLLECTIONS = {
    operation.parameters[0]: operation.path.rsplit("/", 1)[0]
    for operation in ADMIN
    if operation.method in {"GET", "DELETE"} and operation.path.endswith("_id}") and len(operation.parameters) == 1
}


def make(caller: Caller, parameter: str) -> Any:
    """A record of this caller's for a path parameter: created if its collection takes a POST, else found there. For an
    operation, one that has made a customer.
    """
    if parameter == "operation_id":
        return caller.post("/admin/customers", {"name": "Ada"}).headers["X-Operation-Id"]
    if parameter == "job_id":
        return start_job(caller)["id"]
    if parameter == "delivery_id":
        return make_delivery(caller)
    if parameter == "notification_id":
        return make_notification(caller)
    if parameter == "proposal_id":
        return make_proposal(caller)
    if parameter == "server_id":
        return make_server(caller)
    if parameter == "connection_id":
        return make_connection(caller)
    collection = COLLECTIONS[parameter]
    posts = [o for o in ADMIN if o.method == "POST" and o.path.endswith(collection.removeprefix("/admin"))]
    creates = sorted(posts, key=lambda o: o.path != collection)
    if not creates:
        caller.customer()
        return int(caller.ok("GET", collection)["data"][0]["id"])
    return int(create(caller, creates[0])["id"])


def member_id(caller: Caller) -> int:
    """This caller's own membership."""
    caller.ok("GET", "/admin/me")
    members = caller.ok("GET", "/admin/members", page_size=100)["data"]
    return next(int(each["id"]) for each in members if str(each["user_id"]) == caller.user_id)


def start_job(caller: Caller) -> dict[str, Any]:
    """A job of this caller's, about customers that are not there."""
    body = {"ids": [*range(1, 1002)], "action": "update", "values": {"contacted": True}, "partial": True}
    job: dict[str, Any] = caller.ok("POST", "/admin/customers/bulk", body)["job"]
    return job


def make_connection(caller: Caller) -> int:
    """A calendar whose server nobody can reach."""
    settings: Settings = caller.client.app.state.settings
    roles = {"role": "%s", "crm.tenant": "%s", "crm.user": "%s"}
    with psycopg.connect(settings.database_dsn) as connection:
        connection.execute(set_for_transaction(roles), [SERVICE_ROLE, caller.tenant, caller.user_id])
        made = connection.execute(
            "INSERT INTO calendar_connections (tenant_id, user_id, provider, account, calendar, calendar_name, secret,"
            " status, vanished) VALUES (%s, %s, 'caldav', 'ada', %s, 'Work', '', 'needs_confirmation', 3) RETURNING id",
            [caller.tenant, caller.user_id, f"http://127.0.0.1:9/{uuid.uuid4()}"],
        ).fetchone()
    assert made is not None
    return int(made[0])


def make_server(caller: Caller) -> int:
    """A server that has a tool, and does not listen."""
    settings: Settings = caller.client.app.state.settings
    with psycopg.connect(settings.database_dsn) as connection:
        connection.execute(set_for_transaction({"role": "%s", "crm.tenant": "%s"}), [SERVICE_ROLE, caller.tenant])
        made = connection.execute(
            "INSERT INTO mcp_servers (tenant_id, name, url, auth, tools) VALUES (%s, %s, %s, 'none', %s) RETURNING id",
            [
                caller.tenant,
                f"server-{uuid.uuid4().hex[:12]}",
                "http://127.0.0.1:9/mcp",
                Jsonb([{"name": "mail", "description": "Sends a mail.", "input_schema": {"type": "object"}}]),
            ],
        ).fetchone()
    assert made is not None
    return int(made[0])


def make_delivery(caller: Caller) -> int:
    """A delivery of the caller's newest webhook, as if an event was sent."""
    webhook = caller.ok("GET", "/admin/webhooks")["data"][-1]["id"]
    settings: Settings = caller.client.app.state.settings
    with psycopg.connect(settings.database_dsn) as connection:
        connection.execute(set_for_transaction({"role": "%s", "crm.tenant": "%s"}), [SERVICE_ROLE, caller.tenant])
        made = connection.execute(
            "INSERT INTO webhook_deliveries (tenant_id, webhook_id, sequence, type, resource_type, resource_id)"
            " SELECT %s, %s, count(*) + 1, 'tag.created', 'tag', 1 FROM webhook_deliveries RETURNING id",
            [caller.tenant, webhook],
        ).fetchone()
    assert made is not None
    return int(made[0])


def make_notification(caller: Caller) -> int:
    """Something that this caller was told."""
    settings: Settings = caller.client.app.state.settings
    with psycopg.connect(settings.database_dsn) as connection:
        connection.execute(set_for_transaction({"role": "%s", "crm.tenant": "%s"}), [SERVICE_ROLE, caller.tenant])
        made = connection.execute(
            "INSERT INTO notifications (tenant_id, user_id, kind, key, resource_type, resource_id, in_app, by_email)"
            " VALUES (%s, %s, 'assigned', gen_random_uuid(), 'customer', 1, true, false) RETURNING id",
            [caller.tenant, caller.user_id],
        ).fetchone()
    assert made is not None
    return int(made[0])


def make_proposal(caller: Caller) -> int:
    """What a tool would do for this caller: rename a new tag."""
    tag = caller.tag(f"tag-{uuid.uuid4().hex[:12]}")
    made = Tools(caller, "admin").ok("update_record", type="tag", id=tag["id"], values={"name": f"{tag['name']}!"})
    return int(made["proposal_id"])


def make_duplicates(caller: Caller) -> int:
    """A group of two new customers, as if they were found to be alike."""
    ids = [caller.customer()["id"] for _ in range(2)]
    settings: Settings = caller.client.app.state.settings
    with psycopg.connect(settings.database_dsn) as connection:
        connection.execute(set_for_transaction({"role": "%s", "crm.tenant": "%s"}), [SERVICE_ROLE, caller.tenant])
        made = connection.execute(
            "INSERT INTO duplicate_groups (tenant_id, kind, score, reasons, members)"
            " VALUES (%s, 'customers', 60 + %s %% 3, '{same name}', %s) RETURNING id",
            [caller.tenant, ids[0], ids],
        ).fetchone()
    assert made is not None
    return int(made[0])


def make_import_rows(caller: Caller, import_id: int, count: int) -> None:
    """Rows of an import, as if it was checked."""
    settings: Settings = caller.client.app.state.settings
    with psycopg.connect(settings.database_dsn) as connection:
        connection.execute(set_for_transaction({"role": "%s", "crm.tenant": "%s"}), [SERVICE_ROLE, caller.tenant])
        connection.execute(
            "INSERT INTO import_rows (tenant_id, import_id, number, outcome)"
            " SELECT %s, %s, coalesce(max(number), 0) + n, 'unchanged' FROM generate_series(1, %s) AS n"
            " LEFT JOIN import_rows ON import_id = %s GROUP BY n",
            [caller.tenant, import_id, count, import_id],
        )


def create(caller: Caller, operation: Operation, **more: Any) -> dict[str, Any]:
    """A record that this operation creates, with the records that it has to belong to."""
    ids = {name: make(caller, name) for name in operation.parameters}
    wanted = input_types(operation.handler).data
    if wanted is None:
        return operation.send(caller, operation.url(**ids))
    body = valid_body(wanted)
    if "name" in body:
        body["name"] = f"{wanted.__name__.lower()}-{uuid.uuid4().hex[:12]}"
    if "email" in body:
        body["email"] = f"{uuid.uuid4().hex[:12]}@example.com"
    known = {field.name for field in fields(wanted)}
    if "customer_id" in known and not operation.parameters:
        body["customer_id"] = make(caller, "customer_id")
    created: dict[str, Any] = caller.ok("POST", operation.url(**ids), body | more)
    return created


# A field of each kind of record that a test may change, by the record's collection.
TEXTS = {
    "customers": "company",
    "contacts": "position",
    "deals": "title",
    "activities": "title",
    "notes": "content",
    "tags": "name",
    "pipeline-stages": "display_name",
    "webhooks": "description",
    "report-schedules": "name",
}


def change(caller: Caller, url: str, number: int) -> httpx.Response:
    """Change the record at this address: each number makes another change."""
    collection = url.split("/")[2]
    if collection == "settings":
        return caller.put(url, {"timezone": ("Europe/Berlin", "UTC")[number % 2]})
    if collection == "members":
        return caller.patch(url, {"role": ("agent", "manager")[number % 2]})
    if collection in TEXTS:
        return caller.patch(url, {TEXTS[collection]: f"Change {number}"})
    # A file never changes: it goes into the trash, and comes back.
    deleted = caller.delete(url)
    return deleted if deleted.is_success else caller.post(f"{url}/restore")


def make_others(caller: Caller, known: dict[str, Any], **more: Any) -> dict[str, int]:
    """A record of each kind that is not known yet and has its own POST; it refers to the known ones."""
    made = {}
    for parameter, collection in COLLECTIONS.items():
        for operation in ADMIN:
            if parameter not in known and (operation.method, operation.path) == ("POST", collection):
                wanted = input_types(operation.handler).data
                names = {field.encode_name for field in fields(wanted)} if wanted else set()
                given = {name: value for name, value in (known | more).items() if name in names}
                made[parameter] = int(create(caller, operation, **given)["id"])
    return made


def ready(caller: Caller, operation: Operation) -> tuple[str, dict[str, Any]]:
    """The address of a request that succeeds, and its body as the test client takes it."""
    ids = {name: make(caller, name) for name in operation.parameters}
    body = operation.payload()
    if "json" in body:
        body["json"] |= _fitting(caller, operation, ids)
        if "name" in body["json"]:
            body["json"]["name"] = f"seldom-{uuid.uuid4().hex[:12]}"
    if operation.path.endswith("/restore"):
        caller.ok("DELETE", operation.url(**ids).removesuffix("/restore"))
    return operation.url(**ids), body


def _fitting(caller: Caller, operation: Operation, ids: dict[str, int]) -> dict[str, Any]:
    """What a made-up body must say so that it is accepted."""
    wanted = input_types(operation.handler).data
    known = {field.encode_name: field.required for field in fields(wanted)} if wanted else {}
    said: dict[str, Any] = {}
    if known.get("customer_id") or "content" in known or ("contact_id" in ids and "customer_id" in known):
        owner = caller.ok("GET", f"/admin/contacts/{ids['contact_id']}") if "contact_id" in ids else ids
        said["customer_id"] = owner.get("customer_id") or make(caller, "customer_id")
    if "mapping" in known:
        said["mapping"] = {"Name": "name"}
    if operation.path == "/admin/duplicates/dismiss":
        said["ids"] = [caller.customer(name)["id"] for name in ("Ada", "Ada L.")]
    elif known.get("ids"):
        said["ids"] = [stage["id"] for stage in caller.ok("GET", "/admin/pipeline-stages")["data"]]
    if "tag_ids" in known:
        said["tag_ids"] = [caller.tag(f"Seldom {uuid.uuid4().hex[:12]}")["id"]]
    if "entry_id" in known:
        url = operation.url(**ids).removesuffix("/undo")
        assert change(caller, url, 0).is_success
        said["entry_id"] = caller.ok("GET", f"{url}/versions")["data"][0]["id"]
    if known.get("to"):
        said["to"] = member_id(caller)
    if known.get("from"):
        said["from"] = [make(caller, operation.parameters[0])]
    if known.get("confirm"):
        shown = caller.ok("GET", operation.url(**ids).removesuffix("/erase"))
        said["confirm"] = shown.get("name") or f"{shown['first_name']} {shown['last_name'] or ''}"
    return said
