"""What each handler under /admin does: open the person's transaction, and answer inside it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import uuid4

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.enums import HttpMethod
from litestar.handlers import BaseRouteHandler
from msgspec.structs import replace

from app.access.actor import Actor
from app.access.permissions import REQUIRED
from app.admin.dry_run import DryRunDone, preview
from app.admin.outcome import outcome_of
from app.db.database import Database, Origin
from app.db.errors import translate_errors
from app.records import idempotency, merged
from app.records.bootstrap import TenantBootstrap
from app.records.idempotency import Replay
from app.records.listing import Listing
from app.records.repository import NotLiveError
from app.records.transaction import KeptAnswer, Transaction, constraints_as_refusals, reading, writing
from app.web import strict_json
from app.web.errors import AppError, Code
from app.web.input import CrmRequest
from app.web.large_responses import EncodedRows, encoded_response
from app.web.paging import MAX_PAGE_SIZE, ListQuery, Page
from app.web.preconditions import Precondition, etag
from app.web.structs import Message

# Both change the fields that are present; a PATCH without any is refused when its body is read.
CHANGES = (HttpMethod.PUT, HttpMethod.PATCH)
READING = (HttpMethod.GET, HttpMethod.HEAD)
# The key, in the scope's state of a request inside a batch, of the batch's transaction.
OUTER = "outer"
# Of a request that the service sends itself: by which way it came, and the entries that its dry run would leave.
VIA, TRIED = "via", "tried"
# And the hash of what that dry run did.
OUTCOME = "outcome"
# Something goes on afterwards. What became a job: the answer has it as `job`.
ACCEPTED = 202

T = TypeVar("T")
Row = TypeVar("Row")


@asynccontextmanager
async def transaction(
    request: CrmRequest,
    *,
    content: bytes | None = None,
    ahead: bool = False,
    one_statement: bool = False,
    standby: bool = False,
) -> AsyncIterator[Transaction]:
    """The request's one transaction: read-only for GET; for a POST with an Idempotency-Key, the key's too.

    It is committed before the handler's answer is sent; a dry run is undone. `content` stands for the body of a request
    whose body is not kept. With `ahead` it is a read-only look before the transaction proper; `one_statement` says that
    a read is a single statement, which saves a round trip; `standby` that it may take long, and goes to the standby if
    there is one. Raises Replay, DryRunDone, or AppError.
    """
    if (outer := request.scope["state"].get(OUTER)) is not None:
        # One of a batch's requests: with an If-Match of its own, and everything else is the batch's.
        outer.precondition = Precondition(request.headers.getall("if-match", []))
        try:
            with translate_errors(), constraints_as_refusals():
                yield outer
        except NotLiveError as error:
            raise await merged.explained(outer, error) from None
        return
    actor: Actor = request.user
    database: Database = request.app.state.database
    bootstrap: TenantBootstrap = request.app.state.bootstrap
    await bootstrap.ensure(actor)
    dry_run = request.dry_run and not ahead
    key = request.headers.get("idempotency-key") if request.method == "POST" and not dry_run else None
    read_only = ahead or request.method in READING
    if not read_only:
        # A body can take long to arrive: whoever was shut out meanwhile writes nothing.
        actor = await request.app.state.authenticator.check_again(actor, request.scope["state"][REQUIRED])
    if read_only:
        opened = reading(database, actor, one_statement=one_statement, standby=standby)
    else:
        precondition = Precondition(request.headers.getall("if-match", []))
        opened = writing(database, actor, origin_of(request), precondition, dry_run=dry_run)
    try:
        async with opened as tx:
            if key is not None:
                claim = idempotency.recall if ahead else idempotency.reserve
                await claim(tx, key, _fingerprint(request, await request.body() if content is None else content))
            yield tx
            if dry_run:
                if request.scope["state"].get(VIA) is not None:
                    request.scope["state"][OUTCOME] = await outcome_of(tx)
                raise await preview(tx)
            if key is not None and not ahead:
                assert tx.answer is not None, "a handler answers inside its transaction"  # noqa: S101
                await idempotency.keep(tx, key, tx.answer)
    except NotLiveError as error:
        async with reading(database, actor, one_statement=True) as tx:
            raise await merged.explained(tx, error) from None
    if not read_only:
        request.app.state.report_cache.drop(actor.tenant_id)


def origin_of(request: CrmRequest) -> Origin:
    """Where a request comes from. What it changes is an operation of its own."""
    return Origin(
        operation_id=uuid4(),
        via=request.scope["state"].get(VIA) or ("console" if request.scope["path"].startswith("/console/") else "api"),
        request_id=request.scope["state"]["request_id"],
        ip_address=request.client.host if request.client else None,
        user_agent=(request.headers.get("user-agent") or "")[:500] or None,
    )


async def list_page(
    request: CrmRequest,
    listing: Listing[Row],
    query: ListQuery,
    *,
    scope: Mapping[str, Any] | None = None,
    within: Callable[[Transaction], Awaitable[object]] | None = None,
) -> Response[Page[Row]]:
    """One page of a list. `scope` sets filters that come from the path; `within` checks that its record exists."""
    async with transaction(request) as tx:
        if within is not None:
            await within(tx)
        return await read_page(request, tx, listing, query, scope=scope)


async def read_page(
    request: CrmRequest,
    tx: Transaction,
    listing: Listing[Row],
    query: ListQuery,
    *,
    scope: Mapping[str, Any] | None = None,
    largest_page: int = MAX_PAGE_SIZE,
    show: Callable[[Row], object] = lambda record: record,
    envelope: Callable[[Page[Any]], object] = lambda page: page,
) -> Response[Any]:
    """The answer for a page, read inside the request's transaction. `show` makes of each record what clients see, and
    `envelope` what is around the rows: its JSON begins with the list, or with an object whose first field is `data`.
    """
    state = request.app.state
    with EncodedRows() as rows:
        page = await listing.page(
            tx,
            query,
            lambda record: rows.add(strict_json.encode(show(record))),
            signer=state.cursors,
            default_page_size=state.settings.default_page_size,
            scope=scope or {},
            largest_page=largest_page,
        )
        kept, page.data = page.data, []
        before, bracket, after = strict_json.encode(envelope(page)).partition(b"[")
        return rows.response(before + bracket, kept, after)


def answer(
    tx: Transaction, content: T, status: int = 200, *, version: int | None = None, kept: T | None = None
) -> Response[T]:
    """The content as JSON. The ETag is its version, or `version`, for a part of a record. `kept` stands for it under an
    Idempotency-Key and in a dry run: the content without its secret.
    """
    version = getattr(content, "version", version)
    tag = None if version is None else etag(version)
    body = strict_json.encode(content)
    shown = KeptAnswer(status, body, tag, tx.operation_id)
    tx.answer = shown if kept is None else replace(shown, body=strict_json.encode(kept))
    return _response(shown)


async def answer_afterwards(request: CrmRequest, tx: Transaction, content: T) -> Response[T]:
    """The answer where something went on after the request's transaction `tx`, which is committed. Under an
    Idempotency-Key it takes the place of the one that was kept: what goes on happens once, and its answer may be lost.
    """
    origin = replace(origin_of(request), operation_id=tx.operation_id)
    async with writing(request.app.state.database, tx.actor, origin) as after:
        response = answer(after, content)
        key = request.headers.get("idempotency-key")
        if key is not None and after.answer is not None:
            await idempotency.keep_instead(after, key, after.answer)
    return response


def message(tx: Transaction, text: str) -> Response[Message]:
    """An answer of one sentence, where there is no record to show."""
    return answer(tx, Message(text))


def replay_response(_: Any, replay: Replay) -> Response[Any]:
    """Litestar's handler for Replay."""
    response = _response(replay.answer)
    response.headers["Idempotency-Replayed"] = "true"
    return response


def dry_run_response(request: Request[Any, Any, Any], done: DryRunDone) -> Response[Any]:
    """Litestar's handler for DryRunDone."""
    request.scope["state"][TRIED] = done.entries
    return encoded_response(done.body, done.status, {"Dry-Run": "true"})


async def refuse_dry_run(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A route's guard, after the one of its permission: what it does can't be undone. Raises AppError."""
    if connection.headers.getall("dry-run", []) not in ([], ["false"]):
        raise AppError(Code.DRY_RUN_UNSUPPORTED)


def _response(kept: KeptAnswer) -> Response[Any]:
    headers = {"ETag": kept.etag} if kept.etag else {}
    if kept.operation_id is not None:
        headers["X-Operation-Id"] = str(kept.operation_id)
    if kept.status == ACCEPTED and (job := strict_json.decode_own(kept.body).get("job")):
        headers["Location"] = f"/admin/jobs/{job['id']}"
    return encoded_response(kept.body, kept.status, headers)


def _fingerprint(request: CrmRequest, content: bytes) -> bytes:
    parts = (request.method.encode(), request.scope["path"].encode(), content)
    return hashlib.sha256(b"\0".join(parts)).digest()
