"""Reading a request strictly, in the same way for every route: path ids, headers, query and body.

`read_input` is the app's `before_request` hook: it runs before the handler. The handler's signature declares the input
(`filters: SomeQuery`, `data: SomeBody`, `file: FilePart`). All faults are collected into one error. The handler itself
receives a file.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, cast
from urllib.parse import unquote_to_bytes
from uuid import UUID

from litestar import Request
from litestar.exceptions import InternalServerException
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, Struct
from msgspec.structs import FieldInfo, fields

from app.web import strict_json
from app.web.errors import AppError, Code, Fault, Faults
from app.web.fields import Reader, field_reader, filter_reader, is_choice, parameter_reader, read_into
from app.web.multipart import FilePart
from app.web.paging import NOT_FILTERS, ListQuery
from app.web.structs import MAX_ID, Body

PATH_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
PATH_ID = re.compile(r"[0-9]{1,19}")
# Possessive quantifiers (*+), so that matching takes linear time.
JSON_TYPE = re.compile(r'\s*+application/json\s*+(;\s*+charset\s*+=\s*+"?utf-8"?\s*+)?;?\s*+', re.IGNORECASE)
MAX_PARAMETERS = 1000
# A body of this size takes at most some ten milliseconds. Larger ones are read in a thread, one at a time.
LARGE_BODY = 32 * 1024
LARGE_BODY_READER = ThreadPoolExecutor(1, "large-bodies")
WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class InputTypes(Struct, frozen=True):
    """What a handler declares: the types of its query and its body, and whether it receives a file."""

    query: type[Struct] | None
    data: type[Body] | None
    file: type[FilePart] | None = None
    uuids: frozenset[str] = frozenset()
    # Ids that are text, which the route's guard checks.
    texts: frozenset[str] = frozenset()


class Inputs(Struct):
    """The input that was read, for the handler's parameters."""

    query: Any = None
    data: Any = None
    file: FilePart | None = None


class CrmRequest(Request[Any, Any, Any]):
    """A request whose input has been read."""

    @property
    def inputs(self) -> Inputs:
        """The checked query and body."""
        return cast("Inputs", self.scope["state"]["inputs"])

    @property
    def dry_run(self) -> bool:
        """Whether a write is only tried: what it does is shown, and undone."""
        return self.method in WRITING and self.headers.getall("dry-run", []) == ["true"]

    async def json(self) -> Any:
        """The checked body; Litestar's own reading is too lenient."""
        return self.inputs.data


def read_again(document: dict[str, Any], wanted: type[Body]) -> Any:
    """A body that was read before, and kept as JSON. Raises AppError 400 where this release reads it in another way."""
    faults = Faults()
    body = _read_object(document, wanted, faults)
    if faults:
        raise faults.error()
    return body


def provide_filters(request: CrmRequest) -> Any:
    """The checked query, for the parameter `filters` of handlers."""
    return request.inputs.query


def provide_file(request: CrmRequest) -> Any:
    """The file to receive, for the parameter `file` of handlers."""
    return request.inputs.file


async def skip_input_checks(_: Request[Any, Any, Any]) -> None:
    """In place of `read_input`, for routes that are not part of the API."""


async def read_input(request: Request[Any, Any, Any]) -> None:
    """Check what a client sent to this route, in the order of docs/api.md#order-of-refusals.

    Raises AppError 415, 413 or 400.
    """
    wanted = input_types(request.route_handler)
    body = b""
    if wanted.data is not None:
        _require_json(request)
        body = await _whole_body(request)
    faults = Faults()
    inputs = Inputs()
    if wanted.file is not None:
        inputs.file = wanted.file(request, getattr(request.app.state.settings, wanted.file.limited_by))
    _read_headers(request, faults)
    if request.method != "OPTIONS":  # OPTIONS asks what the address can do: which record it is does not matter
        # A new dict, since the router caches its own.
        request.scope["path_params"] = _read_path(request.path_params, wanted, faults)
        inputs.query = _read_query(request.scope["query_string"], wanted.query, faults)
    if wanted.data is not None:
        if len(body) <= LARGE_BODY:
            inputs.data = _read_body(body, wanted.data, faults)
        else:
            read = partial(_read_body, body, wanted.data, faults)
            inputs.data = await asyncio.get_running_loop().run_in_executor(LARGE_BODY_READER, read)
    if faults:
        raise faults.error()
    if request.method == "PATCH" and inputs.data is not None and inputs.data.writes_nothing:
        raise AppError(Code.NO_UPDATES)
    request.scope["state"]["inputs"] = inputs


@cache
def input_types(handler: HTTPRouteHandler) -> InputTypes:
    """The input that a handler's signature declares."""
    parameters = handler.parsed_fn_signature.parameters
    return InputTypes(
        query=parameters["filters"].annotation if "filters" in parameters else None,
        data=parameters["data"].annotation if "data" in parameters else None,
        file=parameters["file"].annotation if "file" in parameters else None,
        uuids=frozenset(name for name, parameter in parameters.items() if parameter.annotation is UUID),
        texts=frozenset(name for name, parameter in parameters.items() if parameter.annotation is str),
    )


def _require_json(request: Request[Any, Any, Any]) -> None:
    types = request.headers.getall("content-type", [])
    encodings = request.headers.getall("content-encoding", [])
    if len(types) != 1 or not JSON_TYPE.fullmatch(types[0]) or encodings not in ([], ["identity"]):
        raise AppError(Code.UNSUPPORTED_MEDIA_TYPE)


async def _whole_body(request: Request[Any, Any, Any]) -> bytes:
    try:
        return await request.body()
    except InternalServerException:  # Litestar's error for a client that hung up
        raise AppError(Code.INVALID_REQUEST, "The connection ended before the body did") from None


def _read_path(parameters: dict[str, Any], wanted: InputTypes, faults: Faults) -> dict[str, Any]:
    ids: dict[str, Any] = {}
    for name, text in parameters.items():
        if name in wanted.texts:
            ids[name] = text
        elif name in wanted.uuids:
            if PATH_UUID.fullmatch(text):
                ids[name] = UUID(text)
            else:
                faults.append(Fault(name, "must be a UUID", Code.INVALID_ID))
        elif PATH_ID.fullmatch(text) and 1 <= int(text) <= MAX_ID:
            ids[name] = int(text)
        else:
            faults.append(Fault(name, "must be a positive integer", Code.INVALID_ID))
    return ids


def _read_headers(request: Request[Any, Any, Any], faults: Faults) -> None:
    keys = request.headers.getall("idempotency-key", [])
    if request.method in WRITING and request.headers.getall("dry-run", []) not in ([], ["true"], ["false"]):
        faults.append(Fault("Dry-Run", "must be one header, true or false"))
    if request.method == "POST" and keys and not (len(keys) == 1 and IDEMPOTENCY_KEY.fullmatch(keys[0])):
        faults.append(Fault("Idempotency-Key", "must be one header of 1 to 255 visible ASCII characters"))


def _read_query(raw: bytes, wanted: type[Struct] | None, faults: Faults) -> Struct | None:
    known = _parameters(wanted) if wanted else {}
    values: dict[str, Any] = {}
    seen: set[str] = set()
    parts = list(filter(None, raw.split(b"&")))
    if len(parts) > MAX_PARAMETERS:
        faults.append(Fault("query", f"has {len(parts)} parameters: at most {MAX_PARAMETERS} are allowed"))
    for part in parts[:MAX_PARAMETERS]:
        name, text = (_decoded(piece) for piece in (*part.split(b"=", 1), b"")[:2])
        if name is None or name not in known:
            faults.append(Fault(name or "query", "is not a parameter of this address"))
        elif name in seen:
            faults.append(Fault(name, "is given more than once"))
        elif text is None:
            faults.append(Fault(name, "must be UTF-8 without NUL"))
        elif text:  # an empty filter counts as absent
            field, reader = known[name]
            read_into(values, faults, name=name, field=field.name, value=text, reader=reader)
        if name:
            seen.add(name)
    for name, (field, _) in known.items():
        if field.required and values.get(field.name, UNSET) is UNSET and not faults.name(name):
            faults.append(Fault(name, "is required"))
    return wanted(**values) if wanted and not faults else None


def _decoded(piece: bytes) -> str | None:
    try:
        text = unquote_to_bytes(piece.replace(b"+", b" ")).decode()
    except UnicodeDecodeError:
        return None
    return None if strict_json.UNSTORABLE.search(text) else text


def _read_body(raw: bytes, wanted: type[Body], faults: Faults) -> Body | None:
    try:
        document, unstorable = strict_json.decode(raw), {}
    except strict_json.UnstorableError as error:
        document, unstorable = error.document, error.places
        for place in unstorable.values():
            faults.append(Fault(place or "body", str(error)))
    except ValueError as error:
        faults.append(Fault("body", str(error)))
        return None
    if not isinstance(document, dict):
        if unstorable:
            return None
        faults.append(Fault("body", "must be a JSON object"))
        return None
    return _read_object(document, wanted, faults, unstorable=unstorable)


def _read_object(
    document: dict[str, Any],
    wanted: type[Body],
    faults: Faults,
    *,
    within: str = "",
    unstorable: Collection[str] = (),
) -> Body | None:
    """An object of a body; `within` says where it is. Members that are unstorable have their fault already."""
    known = _body_fields(wanted)
    chosen = choices(wanted)
    document = {name: value for name, value in wanted.sent(document).items() if value != "" or name not in chosen}
    ignored = wanted.ignored_fields()
    parts = wanted.parts(document)
    values: dict[str, Any] = {}
    before = len(faults) - len(unstorable)
    for name, value in document.items():
        place = f"{within}{name}"
        if name in unstorable:
            continue
        if name in parts:
            values[name] = _read_part(value, parts[name], faults, place)
        elif name in known:
            field, reader = known[name]
            read_into(values, faults, name=place, field=field.name, value=value, reader=reader)
        elif name not in ignored:
            faults.append(Fault(place, "is not a field of this request"))
    for name, (field, _) in known.items():
        if field.required and name not in document:
            faults.append(Fault(f"{within}{name}", "is required"))
    return wanted(**values) if len(faults) == before else None


def _read_part(value: Any, wanted: type[Body | ListQuery], faults: Faults, place: str) -> Struct | None:
    """An object in a body: with the fields of another body, or the filters of a list."""
    if not isinstance(value, dict):
        faults.append(Fault(place, "must be an object"))
        return None
    if issubclass(wanted, Body):
        return _read_object(value, wanted, faults, within=f"{place}.")
    known = _filters(wanted)
    values: dict[str, Any] = {}
    for name, given in value.items():
        if name in known:
            field, reader = known[name]
            read_into(values, faults, name=f"{place}.{name}", field=field.name, value=given, reader=reader)
        else:
            faults.append(Fault(f"{place}.{name}", "is not a filter of this list"))
    return wanted(**values)


@cache
def _parameters(wanted: type[Struct]) -> dict[str, tuple[FieldInfo, Reader]]:
    return {field.encode_name: (field, parameter_reader(field.type)) for field in fields(wanted)}


@cache
def _filters(wanted: type[ListQuery]) -> dict[str, tuple[FieldInfo, Reader]]:
    return {
        field.encode_name: (field, filter_reader(field.type))
        for field in fields(wanted)
        if field.encode_name not in NOT_FILTERS
    }


@cache
def choices(wanted: type[Body]) -> frozenset[str]:
    """The fields in which empty text means that the field was left out."""
    return frozenset(field.encode_name for field in fields(wanted) if is_choice(field.type))


@cache
def _body_fields(wanted: type[Body]) -> dict[str, tuple[FieldInfo, Reader]]:
    return {field.encode_name: (field, field_reader(field.type)) for field in fields(wanted)}
