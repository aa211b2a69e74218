"""The OpenAPI document, made from the routes: their paths, guards, queries, bodies and responses.

Litestar's own document knows neither our envelope nor our bounds; msgspec describes its types exactly, so the little
that is left is put together here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

import msgspec
from litestar import Litestar, MediaType
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream
from litestar.routes import HTTPRoute
from msgspec.structs import fields

from app.access.permissions import Guard, Requires
from app.admin.assistant.schemas import AnswerEvent
from app.admin.assistant.service import BegunAnswer
from app.admin.bulk import BulkChange
from app.admin.dry_run import DryRun
from app.admin.erasure.schemas import Erasure
from app.admin.history.schemas import OperationUndo
from app.admin.http import refuse_dry_run
from app.admin.jobs.schemas import JobStarted
from app.events.live import LiveEvent, Reload
from app.events.notices import NotificationEvent
from app.examples import example
from app.web.errors import Code, ErrorBody
from app.web.event_stream import MEDIA_TYPE, EventStream
from app.web.fields import MAX_VALUES, is_optional_text
from app.web.input import WRITING, InputTypes, choices, input_types
from app.web.large_responses import MadeFile
from app.web.multipart import PART, FilePart
from app.web.paging import NOT_FILTERS, ListQuery
from app.web.structs import Body, View

CONSOLE = "/console"


class Api(NamedTuple):
    """What a document is about: the calls whose addresses begin so, or all but the console's."""

    title: str
    description: str
    begins: str = ""
    # Whether its writes can be tried.
    has_dry_runs: bool = False


# What is asked for with these may become a job.
BECOME_JOBS = (BulkChange, OperationUndo, Erasure)
DESCRIPTION = """\
A headless CRM. Every request carries a bearer token of the CMS; its role (admin, manager or agent) and its
organization decide what it may do and see.

Errors have one form, `{code, message, data}`: `code` is stable, `message` is for people, `data` holds details.

To try the calls here, press *Authorize* and paste a token. `make run` prints one, and so does `crm token --role admin`.
"""
CONSOLE_DESCRIPTION = """\
The calls of /admin as the Platform Console makes them: its names, ids as strings, null fields left out. The rules are
those of /admin.
"""
LOGIN_DESCRIPTION = """\
Logging in, for those without a CMS: `crm identity serve`. It issues the tokens that the CRM verifies.

Errors have one form, `{code, message, data}`: `code` is stable, `message` is for people, `data` holds details.
"""
CRM = Api("CRM", DESCRIPTION, has_dry_runs=True)
CONSOLES = Api("CRM for the Platform Console", CONSOLE_DESCRIPTION, begins=CONSOLE)
LOGGING_IN = Api("CRM identity", LOGIN_DESCRIPTION)
# The groups of calls, in the order in which the API reference shows them.
GROUPS = {
    "Customers": "People and companies that somebody sells to: with search, tags, a timeline, and a trash.",
    "Contacts": "The people at a customer, of whom one is the primary contact.",
    "Deals": "What a customer may buy. Changing `stage` moves a deal; the stage history keeps each move.",
    "Pipeline stages": "The stages that an organization's deals go through. Only admins change them.",
    "Projects": "Work larger than a task, with people, days, and tasks of its own.",
    "Activities": "Calls, emails, meetings, tasks and notes, planned or done. Overdue is computed, never stored.",
    "Notes": "Notes on customers, deals, activities and projects.",
    "Tags": "Labels for customers. Only admins change them.",
    "Duplicates": "Customers and contacts that may be the same: dismissing them, and merging them.",
    "Webhooks": "Events that are sent to other systems, signed by the Standard Webhooks specification.",
    "Attachments": "Files on customers, deals, activities and projects, through the service or straight to the store.",
    "Imports": "Records from a file: CSV, XLSX, JSON Lines or vCard.",
    "Search": "Everything at once, best first.",
    "Batch": "Several requests in one transaction, all or none.",
    "Reports": "Overview, deals, funnel, forecast and team. Amounts of different currencies are never added up.",
    "Proposals": "What tools and the assistant would do for me: nothing of it is done until I approve it.",
    "Jobs": "What takes longer than a request: how far it is, and what came of it.",
    "Exports": "Everything of the organization as one file. Only for admins.",
    "History": "Taking back what a request or a job did.",
    "Audit": "Who changed which field from what to what. Only for admins.",
    "Events": "The feed of all changes, in order and without gaps, for other systems, and live for screens.",
    "Trash": "What was deleted and can be restored. Not for agents.",
    "Erasure": "Deleting for good what is known of a person, in the audit log and the store too. Only for admins.",
    "Me": "The person whose token this is.",
    "Notifications": "What others did to what is mine, what is due, and what has ended in the background.",
    "Calendars": "What a person has to do and when, and addresses that calendar programs subscribe to.",
    "Assistant": "Conversations with a language model that reads what its person may read, and proposes changes.",
    "AI clients": "How clients of the Model Context Protocol, which is at `/admin/mcp`, find out where to log in.",
    "Mail": "What the links in mails lead to. No token is needed: they are signed.",
    "Members": "The people of the organization: who is expected, what each may do, and who was shut out.",
    "Users": "The people who were seen in tokens, to assign records to.",
    "Settings": "The organization's currency, timezone and country, and how long it keeps things. Admins change them.",
    "Sessions": "Logging in and out, refreshing, and a person's devices.",
    "People": "Registration, passwords, and who I am.",
    "Organizations": "Where people work, who is there, and who is invited.",
    "Operations": "For monitors and load balancers. No token is needed.",
}
REFS = "#/components/schemas/{name}"
UUID_SCHEMA = {"type": "string", "format": "uuid"}
ID_SCHEMA = {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}
# A signed link stands for a file, and needs no token.
LINK, TOKEN, SECRET, LINK_SCHEMA = "{link}", "{token}", "{secret}", {"type": "string"}
CALENDAR = {"text/calendar": {"schema": {"type": "string"}}}
REFUSALS = {
    400: "A parameter or the body is not valid; `data.fields` names every wrong field",
    401: "No valid token",
    403: "The role or the organization does not allow it, or the record belongs to somebody else",
    404: "No such record",
    405: "The address does not accept this method",
    408: "The body did not arrive in time",
    409: "It conflicts with another record",
    410: "It was deleted by retention, or the link has expired",
    412: "The record has another version than If-Match",
    413: "The body, or the file, is too large",
    415: "The body is not of the right type, or the file's type is not accepted",
    416: "The file ends before the range begins",
    422: "The idempotency key was used for another request",
    429: "Too many requests: try again after Retry-After seconds",
    431: "The headers are larger than 64 KiB, or one of them than 16 KiB",
    500: "An error in the service; its log has the details under the request's id",
    503: "The service can't answer now: try again after Retry-After seconds",
}
# Examples of errors. For other statuses, the first code with that status, without details.
EXAMPLES: dict[int, tuple[Code, Any]] = {
    400: (Code.INVALID_REQUEST, {"fields": [{"field": "name", "message": "is required"}]}),
    401: (Code.INVALID_TOKEN, None),
    404: (Code.CUSTOMER_NOT_FOUND, None),
    409: (Code.EMAIL_EXISTS, {"customer_id": 12}),
    412: (Code.VERSION_CONFLICT, {"current_version": 4}),
    416: (Code.RANGE_NOT_SATISFIABLE, {"size": 48213}),
}
# What issues tokens, of one of the person's organizations.
CHOOSES_ORGANIZATION = ("/login", "/auth/refresh")
# Where `crm identity` keeps answers under an Idempotency-Key.
MAKE_ONCE = ("/auth/organizations", "/auth/organizations/{organization_id}/members")
# Responses with the ETag of the customer that they are about.
OF_CUSTOMER = ("/customers/{customer_id}/tags", "/customers/{customer_id}/reassign")
# OpenAPI 3.1 can't say what the events in a stream are: the schemas LiveEvent, NotificationEvent and Reload do.
EVENTS = {
    MEDIA_TYPE: {
        "schema": {"type": "string"},
        "example": 'id: 1042\nevent: deal.won\ndata: {"sequence": 1042, "type": "deal.won", …}\n\n',
    }
}
# The same of the assistant's answers, of which AnswerEvent says what they are.
ANSWER_EVENTS = {
    MEDIA_TYPE: {
        "schema": {"type": "string", "description": "Events. The data of each is an AnswerEvent as JSON"},
        "example": 'event: text\ndata: {"type":"text","conversation_id":7,"text":"Ada is"}\n\n'
        'event: done\ndata: {"type":"done","conversation_id":7,"message_id":41,"status":"done"}\n\n',
    }
}
# It is sent as it is read: what is in it, the lists of these records say.
DOCUMENT = {
    "application/json": {
        "example": {
            "customer": {"id": 12, "name": "Ada Lovelace"},
            **{name: [] for name in ("contacts", "deals", "projects", "activities", "notes", "attachments", "history")},
        }
    }
}
FILE = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
HEADERS = {
    "Retry-After": {"description": "Seconds to wait before trying again", "schema": {"type": "integer", "minimum": 1}},
    "X-Request-ID": {"description": "Names this request in logs and the audit log", "schema": {"type": "string"}},
    "ETag": {"description": "The record's version, for If-Match", "schema": {"type": "string"}},
    "X-Operation-Id": {
        "description": "Names all that this request changed, for the audit log and for taking it back",
        "schema": {"type": "string", "format": "uuid"},
    },
    "Location": {"description": "The address of the job", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "`true` if this is the stored answer of an earlier request",
        "schema": {"type": "string"},
    },
}


def document(app: Litestar, api: Api = CRM) -> dict[str, Any]:
    """The whole document as JSON values."""
    # Sorted, because Litestar keeps methods in sets.
    is_consoles = api.begins == CONSOLE
    operations = sorted(
        (each for each in _operations(app) if each[0].startswith(CONSOLE) is is_consoles), key=lambda each: each[:2]
    )
    kinds = {ErrorBody, *([DryRun] if api.has_dry_runs else [])} | {
        kind for _, _, handler in operations for kind in _kinds(handler)
    }
    ordered = sorted(kinds, key=lambda kind: getattr(kind, "__name__", str(kind)))
    _, schemas = msgspec.json.schema_components(ordered, ref_template=REFS)
    for kind in ordered:
        if isinstance(kind, type) and issubclass(kind, Body):
            _allow_empty(kind, schemas[kind.__name__])
    schemas = _as_on_the_wire(schemas)
    for kind in ordered:
        if isinstance(kind, type) and issubclass(kind, BulkChange):
            schemas[_filter_name(kind)] = _filter_schema(kind.query)
            schemas[kind.__name__] = _by_action(kind, schemas[kind.__name__])
    for kind in ordered:
        if not (isinstance(kind, type) and issubclass(kind, Body | ErrorBody)):
            reference = _schema(kind).get("$ref", "").removeprefix(REFS.format(name=""))
            if reference in schemas:
                schemas[reference]["examples"] = [example(kind)]
    paths: dict[str, dict[str, Any]] = {}
    for path, method, handler in operations:
        paths.setdefault(path, {})[method.lower()] = _operation(path, method, handler)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": api.title,
            "version": "1",
            "description": api.description,
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [
            {"name": name, "description": text}
            for name, text in GROUPS.items()
            if any(name in operation["tags"] for path in paths.values() for operation in path.values())
        ],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "headers": HEADERS,
            "responses": {str(status): _refusal(status, text) for status, text in REFUSALS.items()},
        },
    }


def _allow_empty(kind: type[Body], form: dict[str, Any]) -> None:
    """Allow an empty text in each field where it means that the field is absent, or that it is cleared."""
    taken = choices(kind) | {
        field.encode_name for field in fields(kind) if is_optional_text(field.type) and _refuses_empty(field.type)
    }
    for name, schema in form["properties"].items():
        if (kind.empty_is_absent or name in taken) and name not in form.get("required", ()):
            kinds = schema.pop("anyOf", None)
            about = {} if kinds is None else schema
            form["properties"][name] = about | {"anyOf": [{"const": ""}, *(kinds or [schema])]}


def _refuses_empty(kind: Any) -> bool:
    """Whether the pattern or format of a text refuses an empty one."""
    options = _schema(kind).get("anyOf", [])
    return any("format" in option or not re.search(option.get("pattern", ""), "") for option in options)


def _by_action(kind: type[BulkChange], form: dict[str, Any]) -> dict[str, Any]:
    """What the body of a bulk change looks like for each of its actions."""
    (actions,) = [field.type for field in fields(kind) if field.name == "action"]
    known = {name: schema for name, schema in form["properties"].items() if name != "values"}
    known["filter"] = {"$ref": REFS.format(name=_filter_name(kind))}
    forms = []
    for action in actions:
        properties = {"action": {"const": action.value}} | {n: s for n, s in known.items() if n != "action"}
        values = kind.values_of.get(action.value)
        if values is not None:
            properties["values"] = {"$ref": REFS.format(name=values.__name__)}
        required = ["action", *(["values"] if values else [])]
        forms.append(form | {"title": action.value, "properties": properties, "required": required})
    return {"title": form["title"], "description": form["description"], "oneOf": forms}


def _filter_name(kind: type[BulkChange]) -> str:
    return kind.query.__name__.replace("Query", "Filter")


def _filter_schema(query: type[ListQuery]) -> dict[str, Any]:
    """The filters of a list as a JSON object: one value, or several as a list."""
    properties: dict[str, Any] = {}
    for field in fields(query):
        if field.encode_name in NOT_FILTERS:
            continue
        schema = _schema(field.type)
        if schema.get("type") == "array":
            several = schema | {"minItems": 1, "maxItems": MAX_VALUES}
            item = schema["items"]
            if "maxLength" in item:
                several["items"], item = item | {"minLength": 1}, _listed_text(item["maxLength"])
            schema = {name: several.pop(name) for name in ["description"] if name in several}
            schema["anyOf"] = [item, several]
        properties[field.encode_name] = schema
    about = f"The filters of the list, as {query.__name__.removesuffix('Query').lower()} lists have them"
    return {"description": about, "type": "object", "properties": properties, "additionalProperties": False}


def _listed_text(most: int) -> dict[str, Any]:
    """Comma-separated values. One in double quotes is taken literally."""
    text = f'([^,"]{{0,{most}}}|"[^"]{{0,{most - 2}}}")'
    return {"type": "string", "pattern": f"^{text}(,{text})*$"}


def _operations(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if handler.resolve_include_in_schema():
                    for method in sorted(handler.http_methods):
                        yield route.path_format, method, handler


def _kinds(handler: HTTPRouteHandler) -> Iterator[Any]:
    wanted = input_types(handler)
    if wanted.data is not None:
        yield wanted.data
        if issubclass(wanted.data, BulkChange):
            yield from wanted.data.values_of.values()
        else:
            yield from wanted.data.parts({}).values()
        if issubclass(wanted.data, BECOME_JOBS):
            yield JobStarted
    if _never_ends(handler):
        yield from (AnswerEvent, BegunAnswer) if _is_answered(handler) else (LiveEvent, NotificationEvent, Reload)
    if isinstance(answer := _answer(handler), type) or get_args(answer):
        yield answer
    if (accepted := _accepted(handler)) is not None:
        yield accepted


def _accepted(handler: HTTPRouteHandler) -> Any:
    """The type of a handler's answer 202, if it has two answers: `Response[…] | Response[…]`."""
    annotation = handler.parsed_fn_signature.return_type.annotation
    return get_args(get_args(annotation)[1])[0] if get_origin(annotation) in {Union, UnionType} else None


def _answer(handler: HTTPRouteHandler) -> Any:
    """The type inside a handler's `Response[…]`, of the first one if there are two."""
    annotation = handler.parsed_fn_signature.return_type.annotation
    if get_origin(annotation) in {Union, UnionType}:
        annotation = get_args(annotation)[0]
    (answer,) = get_args(annotation) or (annotation,)
    is_file = answer is bytes or _streams(handler) or _makes(handler)
    return None if is_file or _never_ends(handler) else answer


def _streams(handler: HTTPRouteHandler) -> bool:
    """Whether a handler answers with a file that is kept, or parts of it."""
    return handler.parsed_fn_signature.return_type.annotation is Stream


def _makes(handler: HTTPRouteHandler) -> bool:
    """Whether a handler answers with a file that it makes."""
    return handler.parsed_fn_signature.return_type.annotation is MadeFile


def _never_ends(handler: HTTPRouteHandler) -> bool:
    """Whether a handler answers with events as they happen."""
    return handler.parsed_fn_signature.return_type.annotation is EventStream


def _is_answered(handler: HTTPRouteHandler) -> bool:
    """Whether its events are the assistant's answer to what is sent, which ends; a repetition is answered as JSON."""
    return _never_ends(handler) and "POST" in handler.http_methods


def _operation(path: str, method: str, handler: HTTPRouteHandler) -> dict[str, Any]:
    wanted = input_types(handler)
    guards = handler.resolve_guards()
    guarded = any(isinstance(guard, Requires) for guard in guards)
    needs_token = any(isinstance(guard, Guard) and guard.needs_token for guard in guards)
    # The console does not ask for it.
    tried = guarded and method in WRITING and refuse_dry_run not in guards and not path.startswith(CONSOLE)
    name = handler.fn.__name__
    if len(handler.http_methods) > 1:
        name = f"{name}_by_{method.lower()}"
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [_group(path)] if path.startswith(CONSOLE) else sorted(handler.resolve_tags()),
        "summary": name.replace("_", " ").capitalize(),
        "description": inspect.getdoc(handler.fn),
        "parameters": list(
            _parameters(
                *(path, method, wanted),
                guarded=guarded,
                tried=tried,
                streams=_streams(handler),
                resumes=_never_ends(handler) and not _is_answered(handler),
            )
        ),
        "responses": _responses(path, method, handler, guarded=guarded),
    }
    if wanted.data is not None:
        operation["requestBody"] = {"required": True, "content": _json(wanted.data)}
    if wanted.file is not None:
        operation["requestBody"] = {"required": True, "content": _form(wanted.file)}
    if not needs_token:
        operation["security"] = []
    return operation


def _form(file: type[FilePart]) -> dict[str, Any]:
    """A form with a file, and what is to be chosen beside it."""
    texts = {name: {"type": "string", "enum": [each.value for each in known]} for name, known in file.choices.items()}
    return {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {PART: {"type": "string", "format": "binary"}, **texts},
                "required": [PART, *texts],
                "additionalProperties": False,
            }
        }
    }


def _group(path: str) -> str:
    """The group of a console's call: the last collection in its address."""
    return [part.capitalize() for part in path.split("/") if part.capitalize() in GROUPS and part != "me"][-1]


def _parameters(
    path: str, method: str, wanted: InputTypes, *, guarded: bool, tried: bool, streams: bool, resumes: bool
) -> Iterator[dict[str, Any]]:
    for part in path.split("/"):
        if part.startswith("{"):
            name = part.strip("{}")
            is_text = part in {LINK, TOKEN, SECRET} or name in wanted.texts
            kind = LINK_SCHEMA if is_text else UUID_SCHEMA if name in wanted.uuids else ID_SCHEMA
            yield {"name": name, "in": "path", "required": True, "schema": kind}
    for field in fields(wanted.query) if wanted.query else ():
        schema = _schema(field.type)
        # An empty parameter counts as absent.
        absent = "required" if field.required else "allowEmptyValue"
        parameter: dict[str, Any] = {"name": field.encode_name, "in": "query", absent: True, "schema": schema}
        if "description" in schema:
            parameter["description"] = schema.pop("description")
        if schema.get("type") == "array":
            if "maxLength" in schema["items"]:
                # Any text is a list with one item, so a type `array` could refuse nothing: the pattern does.
                parameter["schema"] = _listed_text(schema["items"]["maxLength"])
            else:
                parameter |= {"style": "form", "explode": False}
        yield parameter
    if guarded or path.endswith(CHOOSES_ORGANIZATION):
        yield _header("X-Organization-Id", "Which organization, for tokens that work in several", maxLength=64)
    if streams and method == "GET":
        yield _header("Range", "A part of the file", examples=["bytes=0-1023"])
    if resumes:
        yield _header("Last-Event-ID", "The id of the last event that you have got", pattern="^[0-9]{1,19}$")
    if method == "POST" and (guarded or path in MAKE_ONCE):
        yield _header("Idempotency-Key", "Makes trying again safe for 24 hours", pattern="^[!-~]{1,255}$")
    if tried:
        about = "`true`: only show what the request would do. The answer is then a DryRun, and nothing is kept"
        yield _header("Dry-Run", about, enum=["true", "false"])
    if guarded and method in {"PUT", "PATCH", "DELETE"}:
        yield _header("If-Match", "The ETag of the version that you mean to change", examples=['"3"'])


def _header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string", **schema}}


def _responses(path: str, method: str, handler: HTTPRouteHandler, *, guarded: bool) -> dict[str, Any]:
    statuses = {400, 431, 500}
    if guarded:
        statuses |= {401, 403, 429, 503}
        statuses |= {404} if "{" in path else set()
        statuses |= {410} if path == "/admin/events" else set()
        # It is refused as one of its requests is.
        statuses |= {404, 405, 412} if path == "/admin/batch" else set()
        statuses |= {"POST": {409, 422}, "PUT": {409, 412}, "PATCH": {409, 412}, "DELETE": {409, 412}}.get(
            method, set()
        )
        statuses |= {408, 413, 415} if input_types(handler).data is not None or input_types(handler).file else set()
        statuses |= {416} if _streams(handler) and method == "GET" else set()
    elif any(isinstance(guard, Guard) for guard in handler.resolve_guards()):
        statuses |= {401, 403, 429, 503} | ({404} if "{" in path else set())
        statuses |= {409} if method in WRITING else set()
        statuses |= {422} if method == "POST" and path in MAKE_ONCE else set()
        statuses |= {408, 413, 415} if input_types(handler).data is not None else set()
    if path.startswith("/public/"):
        statuses |= {404, 503}
        statuses |= {410} if LINK in path else {429} if SECRET in path else set()
    answer = _answer(handler)
    headers = {
        name: {"$ref": f"#/components/headers/{name}"}
        for name in _answer_headers(method, path, answer, guarded=guarded, streams=_streams(handler) or SECRET in path)
    }
    success: dict[str, Any] = {"description": "Done", "headers": headers}
    if _streams(handler):
        success |= {} if method == "HEAD" else {"content": FILE}
    elif _never_ends(handler):
        success["content"] = ANSWER_EVENTS | _json(BegunAnswer) if _is_answered(handler) else EVENTS
    elif LINK in path or _makes(handler):
        success["content"] = DOCUMENT if handler.media_type == MediaType.JSON else FILE
    elif SECRET in path:
        success |= {} if method == "HEAD" else {"content": CALENDAR}
    elif handler.media_type == MediaType.HTML:
        success["content"] = {"text/html": {"schema": {"type": "string"}}}
    elif answer is None:
        success["content"] = {"text/plain": {"schema": {"type": "string"}}}
    else:
        success["content"] = _json(answer)
    wanted = input_types(handler).data
    accepted: dict[str, Any] = {}
    if wanted is not None and issubclass(wanted, BECOME_JOBS):
        location = {"Location": {"$ref": "#/components/headers/Location"}}
        about = "It became a job: the address in Location shows how far it is"
        accepted["202"] = {"description": about, "headers": headers | location, "content": _json(JobStarted)}
    if (later := _accepted(handler)) is not None:
        accepted["202"] = {"description": "Accepted: a mail says the rest", "headers": headers, "content": _json(later)}
    refusals: dict[str, Any] = {
        str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)
    }
    if not guarded and handler.fn.__name__ in {"health", "ready"}:
        refusals["503"] = success | {"description": "Not now"}
    if _streams(handler) and method == "GET":
        refusals["206"] = success | {"description": "The range that was asked for"}
    if SECRET in path:
        refusals["304"] = {"description": "It is as the If-None-Match says", "headers": headers}
    return dict(sorted(({str(handler.status_code): success} | accepted | refusals).items()))


def _answer_headers(method: str, path: str, answer: Any, *, guarded: bool, streams: bool) -> list[str]:
    of_record = streams or (guarded and (_is_record(path, answer) or path.endswith(OF_CUSTOMER)))
    replayed = method == "POST" and (guarded or path in MAKE_ONCE)
    writes = guarded and method in WRITING
    return [
        "X-Request-ID",
        *(["X-Operation-Id"] if writes else []),
        *(["ETag"] if of_record else []),
        *(["Idempotency-Replayed"] if replayed else []),
    ]


def _is_record(path: str, answer: Any) -> bool:
    """Whether an answer is one record with a version. For the console, the version is only in the header."""
    sign = "created_at" if path.startswith(CONSOLE) else "version"
    return isinstance(answer, type) and issubclass(answer, View) and sign in answer.__struct_fields__


def _refusal(status: int, text: str) -> dict[str, Any]:
    code, data = EXAMPLES.get(status) or (next(code for code in Code if code.status == status), None)
    names = ["X-Request-ID", *(["Retry-After"] if status in {429, 503} else [])]
    return {
        "description": text,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {
            "application/json": _json(ErrorBody)["application/json"]
            | {"example": {"code": code.name, "message": code.message, "data": data}}
        },
    }


def _json(kind: Any) -> dict[str, Any]:
    return {"application/json": {"schema": _schema(kind)}}


def _schema(kind: Any) -> dict[str, Any]:
    """A reference to a struct; small types, such as the enumerations of queries, are written out."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template=REFS)
    inlined: dict[str, Any] = _as_on_the_wire(_inlined(schema, components))
    return inlined


def _as_on_the_wire(schema: Any) -> Any:
    """Correct msgspec's schemas: our decimals are numbers, and times may be sent as dates."""
    if isinstance(schema, list):
        return [_as_on_the_wire(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "decimal":
        schema = {name: value for name, value in schema.items() if name != "format"} | {"type": "number"}
    if schema.get("format") == "date-time" and "anyOf" in schema:
        schema = {name: value for name, value in schema.items() if name != "format"}
    if schema.get("type") == "string" and "anyOf" in schema:
        # Each choice must say its type, because generators of client types read them one by one.
        schema = schema | {"anyOf": [{"type": "string"} | choice for choice in schema["anyOf"]]}
    return {name: _as_on_the_wire(value) for name, value in schema.items()}


def _inlined(schema: Any, components: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(item, components) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema and "enum" in (target := components[schema["$ref"].rsplit("/", 1)[1]]):
        return {name: value for name, value in target.items() if name != "title"}
    return {name: _inlined(value, components) for name, value in schema.items()}
