"""Proposals as the database keeps them: row-level security shows a person's own only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import Struct, convert, to_builtins
from msgspec.structs import asdict
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Text,
    any_,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal_column,
    not_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import BigInteger

from app.admin.audit.schemas import AuditEntry
from app.admin.dry_run import Change
from app.admin.proposals.schemas import Proposal, ProposalQuery, ProposalStatus, ProposedRequest
from app.db.database import Database
from app.models import Proposal as Row
from app.records.audit_values import AuditAction
from app.records.filters import one_of, user_in
from app.records.json_columns import JsonColumn, selected, view_columns
from app.records.listing import Listing
from app.records.resources import RESOURCES, Resource
from app.records.transaction import Transaction
from app.web import strict_json
from app.web.errors import AppError, Code, fitting
from app.web.paging import SortOrder

MINUTES = 15
# So many may wait for one person of what came by one way: a client of others does not stop the assistant.
MOST_PENDING = 100
# So long is what one of them sends, with its address, and what all that wait send.
MOST_REQUEST_BYTES, MOST_PENDING_BYTES = 257 * 1024, 2 * 1024 * 1024
# What is kept of the changes of one.
MOST_CHANGES, MOST_CHANGE_BYTES = 100, 64 * 1024
PRUNED_AT_ONCE = 500

c = Row.__table__.c


# Routes that call outside of the service.
OUTSIDE = "/admin/assistant/mcp-servers/[0-9]+/calls"
GOES_OUTSIDE: ColumnElement[bool] = c.request["path"].astext.regexp_match(f"^{OUTSIDE}$")

IS_PENDING = c.status == literal_column("'pending'")
IS_EXPIRED: ColumnElement[bool] = c.expires_at <= func.now()
STATUS: ColumnElement[str] = case((IS_PENDING & IS_EXPIRED, literal_column("'expired'")), else_=c.status)
COLUMNS = view_columns(
    Proposal,
    Row.__table__,
    status=STATUS,
    request=JsonColumn(c.request, ProposedRequest),
    changes=JsonColumn(c.changes, list[Change]),
)
LISTING = Listing(
    "proposals",
    Proposal,
    COLUMNS,
    Row.__table__,
    key=c.id,
    query=ProposalQuery,
    filters={"status": one_of(STATUS)},
    scope={"of": user_in(c.user_id)._replace(column=c.user_id)},
    default_sort=("created_at", SortOrder.DESC),
)
OF_ME = {"of": ["me"]}
_one = c.id == bindparam("proposal_id", type_=BigInteger)
ONE: Select[Any] = select(*selected(COLUMNS)).where(_one)
OUTCOME = c.request["outcome"].astext
LOCKED: Select[Any] = select(c.status, IS_EXPIRED, c.via, c.versions, OUTCOME).where(_one).with_for_update()
DECIDE = (
    update(Row)
    .where(_one)
    .values(status=bindparam("decision"), decided_at=func.now(), operation_id=bindparam("operation"))
)
ANSWERED = update(Row).where(_one).values(answer=bindparam("given", type_=JSONB))
# Entries in the audit log say by which way the change was proposed.
CAME_BY = select(
    func.set_config(
        "crm.actor",
        cast(
            cast(func.current_setting("crm.actor"), JSONB).op("||")(
                func.jsonb_build_object("via", bindparam("via", type_=Text))
            ),
            Text,
        ),
        true(),
    )
)
COUNT = select(func.count(), func.coalesce(func.sum(func.octet_length(cast(c.request, Text))), 0)).where(
    IS_PENDING, not_(IS_EXPIRED), c.via == bindparam("by", type_=Text)
)
KEEP = (
    insert(Row)
    .values(
        {
            name: bindparam(name)
            for name in (
                *("tenant_id", "user_id", "via", "tool", "summary", "title", "request", "changes", "more", "versions"),
                "conversation_id",
            )
        }
        | {"expires_at": func.now() + timedelta(minutes=MINUTES)}
    )
    .returning(c.id, c.expires_at)
)
PRUNE = text("SELECT crm_prune_proposals(:most)")


class Version(Struct, frozen=True):
    """The version of a record when its change was proposed."""

    type: str
    id: int
    version: int


class Kept(NamedTuple):
    """A proposal that waits for the person."""

    id: int
    expires_at: datetime
    summary: str
    title: str | None


class Locked(NamedTuple):
    """A proposal that is about to be decided."""

    status: str
    is_expired: bool
    via: str
    versions: list[Version]
    # What its dry run did: see `outcome_of`. None for a call outside.
    outcome: str | None


async def keep(
    tx: Transaction,
    *,
    via: str,
    tool: str,
    summary: str,
    title: str | None,
    request: ProposedRequest,
    changes: Sequence[dict[str, Any]],
    more: int,
    versions: Sequence[Version],
    outcome: str | None,
    conversation_id: int | None,
) -> Kept:
    """Keep what a tool would do for this person. Raises AppError LIMIT_REACHED."""
    asked = asdict(request)
    size = len(strict_json.encode(asked))
    if size > MOST_REQUEST_BYTES:
        raise AppError(Code.PAYLOAD_TOO_LARGE, f"The request is too large: {MOST_REQUEST_BYTES} bytes at most")
    pending, waiting = (await tx.connection.execute(COUNT, {"by": via})).one()
    if pending >= MOST_PENDING or waiting + size > MOST_PENDING_BYTES:
        raise AppError(Code.LIMIT_REACHED, "Too many proposals wait for this person", data={"max": MOST_PENDING})
    shown = list(changes[:MOST_CHANGES])
    while len(shown) > 1 and len(strict_json.encode(shown)) > MOST_CHANGE_BYTES:
        shown = shown[: len(shown) // 2]
    values = {
        "tenant_id": tx.actor.tenant_id,
        "user_id": tx.actor.user_id,
        "via": via,
        "tool": tool,
        "summary": summary,
        "title": title,
        "request": asked | {"outcome": outcome},
        "changes": shown,
        "more": more + len(changes) - len(shown),
        "versions": to_builtins(versions),
        "conversation_id": conversation_id,
    }
    proposal_id, expires_at = (await tx.connection.execute(KEEP, values)).one()
    return Kept(proposal_id, expires_at, summary, title)


async def get(tx: Transaction, proposal_id: int) -> Proposal:
    """One of this person's. Raises AppError PROPOSAL_NOT_FOUND."""
    row = (await tx.connection.execute(ONE, {"proposal_id": proposal_id})).one_or_none()
    if row is None:
        raise AppError(Code.PROPOSAL_NOT_FOUND)
    return Proposal(*row)


async def lock(tx: Transaction, proposal_id: int) -> Locked:
    """One of this person's, locked to decide it. Raises AppError PROPOSAL_NOT_FOUND."""
    row = (await tx.connection.execute(LOCKED, {"proposal_id": proposal_id})).one_or_none()
    if row is None:
        raise AppError(Code.PROPOSAL_NOT_FOUND)
    status, is_expired, via, versions, outcome = row
    return Locked(status, is_expired, via, convert(versions, list[Version]), outcome)


async def decide(tx: Transaction, proposal_id: int, decision: ProposalStatus, operation_id: UUID | None = None) -> None:
    """Note what the person decided."""
    values = {"proposal_id": proposal_id, "decision": decision.value, "operation": operation_id}
    await tx.connection.execute(DECIDE, values)


async def keep_answer(tx: Transaction, proposal_id: int, answer: Any) -> None:
    """Keep what a call outside has answered, for the conversation that it came up in."""
    await tx.connection.execute(ANSWERED, {"proposal_id": proposal_id, "given": answer})


async def comes_by(tx: Transaction, via: str) -> None:
    """What is changed from here on came by this way."""
    await tx.connection.execute(CAME_BY, {"via": via})


def versions_of(entries: Sequence[AuditEntry]) -> list[Version]:
    """The versions that records had before these entries of one operation; of new ones there is none."""
    first: dict[tuple[str, int], AuditEntry] = {}
    for entry in entries:
        first.setdefault((entry.resource_type, entry.resource_id), entry)
    return [
        # What is deleted for good has its last version in the log, what is changed its new one.
        Version(kind, record_id, entry.version - (entry.new_values is not None))
        for (kind, record_id), entry in first.items()
        if entry.action != AuditAction.CREATE and entry.version is not None and kind in BY_KIND
    ]


async def require_versions(tx: Transaction, versions: Sequence[Version]) -> None:
    """Lock these records, and raise AppError PROPOSAL_OUTDATED if one has another version or is gone."""
    changed: list[dict[str, Any]] = []
    for resource in RESOURCES:
        shown = {each.id: each.version for each in versions if each.type == resource.kind}
        if shown:
            found = await tx.connection.execute(_locking(resource), {"ids": sorted(shown)})
            now = dict(iter(found))
            changed += [
                {"type": resource.kind, "id": record_id}
                for record_id, version in shown.items()
                if now.get(record_id) != version
            ]
    if changed:
        raise AppError(Code.PROPOSAL_OUTDATED, data={"records": fitting(changed)})


BY_KIND: dict[str, Resource] = {resource.kind: resource for resource in RESOURCES}


@cache
def _locking(resource: Resource) -> Select[Any]:
    columns = resource.table.c
    wanted = columns.id == any_(bindparam("ids", type_=ARRAY(BigInteger)))
    return select(columns.id, columns.version).where(wanted).order_by(columns.id).with_for_update()


async def prune(database: Database) -> int:
    """Delete a batch of proposals of yesterday; returns how many. Raises AppError."""
    async with database.maintenance() as session:
        return int((await session.execute(PRUNE, {"most": PRUNED_AT_ONCE})).scalar_one())
