"""Conversations as the database reads and keeps them: a person's own only."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Select,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal_column,
    not_,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from app.admin.assistant.schemas import Conversation, ConversationQuery
from app.admin.proposals.queries import GOES_OUTSIDE, STATUS
from app.admin.proposals.queries import c as proposal
from app.assistant.turns import Kept
from app.db.database import Database
from app.models import AuditEntry, ConversationCall, ConversationMessage, Proposal, TenantSettings
from app.models import Conversation as Row
from app.records.filters import user_in
from app.records.json_columns import JsonColumn, selected, view_columns
from app.records.listing import Listing
from app.records.transaction import Transaction
from app.web.errors import AppError, Code
from app.web.paging import SortOrder

PRUNED_AT_ONCE = 1000
# What the model is told of at once.
MOST_OUTCOMES = 50
# More than a call outside may take.
ANSWER_SECONDS = 60
# A worker that is silent for so long is dead, and its answer interrupted.
SILENT_SECONDS = 15

c = Row.__table__.c
m = ConversationMessage.__table__.c
sent = ConversationCall.__table__.c
_is_alive = c.alive_at > func.now() - text(f"interval '{SILENT_SECONDS} seconds'")
ANSWERING = func.coalesce(and_(c.run.is_not(None), _is_alive), False)
COLUMNS = view_columns(Conversation, Row.__table__, answering=ANSWERING.label("answering"))
LISTING = Listing(
    "conversations",
    Conversation,
    COLUMNS,
    Row.__table__,
    key=c.id,
    query=ConversationQuery,
    scope={"of": user_in(c.user_id)},
    default_sort=("updated_at", SortOrder.DESC),
)
OF_ME = {"of": ["me"]}

_id = bindparam("conversation_id", type_=BigInteger)
_run = bindparam("run_id", type_=Uuid)
_mine = (c.id == _id, c.run == _run)
ONE: Select[Any] = select(*selected(COLUMNS)).where(c.id == _id)
LOCKED: Select[Any] = select(c.title, ANSWERING, c.told).where(c.id == _id).with_for_update()
MAKE = insert(Row).values({name: bindparam(name) for name in ("tenant_id", "user_id", "title")}).returning(c.id)
TRY = insert(Row).values({name: bindparam(name) for name in ("tenant_id", "id", "user_id", "title")}).returning(c.id)
RENAME = update(Row).where(c.id == _id).values(title=bindparam("new_title", type_=Text)).returning(c.id)
REMOVE = delete(Row).where(c.id == _id).returning(c.id)
CANCEL = update(Row).where(c.id == _id).values(cancelled=c.run.is_not(None)).returning(c.run)

# ── an answer ────────────────────────────────────────────────────────────────────────────────────────────────────────

_newly = c.mentions.op("||")(bindparam("newly", type_=ARRAY(Text)))
_mentions = func.array(select(func.unnest(_newly)).distinct().correlate(Row).scalar_subquery(), type_=ARRAY(Text))
BEGIN = (
    update(Row)
    .where(c.id == _id)
    .values(
        run=_run,
        alive_at=func.now(),
        updated_at=func.now(),
        cancelled=False,
        title=bindparam("new_title", type_=Text),
        told=c.told.op("||")(bindparam("newly_told", type_=ARRAY(BigInteger))),
        mentions=_mentions,
    )
)
# What is left of an answer whose worker is dead.
INTERRUPT = (
    update(ConversationMessage)
    .where(m.conversation_id == _id, m.status == "running")
    .values(status="interrupted", error=bindparam("reason", type_=JSONB))
)
# Whether the person has cancelled it; nothing where it is no longer this answer's turn.
BEAT = update(Row).where(*_mine).values(alive_at=func.now(), updated_at=func.now()).returning(c.cancelled)
END = update(Row).where(*_mine).values(run=None, updated_at=func.now()).returning(c.id)
KEPT = ("tenant_id", "conversation_id", "role", "status", "parts", "context", "until")
SAY = insert(ConversationMessage).values({name: bindparam(name) for name in KEPT}).returning(m.id)
_message = m.id == bindparam("message_id", type_=BigInteger)
_parts = bindparam("new_parts", type_=JSONB)
# While it comes: it may have come to its end meanwhile.
GROW = update(ConversationMessage).where(_message, m.status == "running").values(parts=_parts)
GO_ON = (
    update(ConversationMessage)
    .where(_message)
    .values(
        parts=_parts,
        status=bindparam("new_status", type_=Text),
        error=bindparam("reason", type_=JSONB),
        input_tokens=func.coalesce(bindparam("tokens_in", type_=BigInteger), m.input_tokens),
        output_tokens=func.coalesce(bindparam("tokens_out", type_=BigInteger), m.output_tokens),
    )
)
MENTION = update(Row).where(*_mine).values(mentions=_mentions)
SENT = (
    *("tenant_id", "conversation_id", "message_id", "provider", "model", "system"),
    *("tools", "sent", "shortened", "letters"),
)
NOTE_SENT = insert(ConversationCall).values({name: bindparam(name) for name in SENT})

# ── what was said ────────────────────────────────────────────────────────────────────────────────────────────────────

MESSAGE_COLUMNS = (
    *(m.id, m.role, m.status, JsonColumn(m.parts, list[Kept], empty="[]").column),
    *(m.context, m.error, m.input_tokens, m.output_tokens, m.created_at),
)
# Not so a turn that was too long for the model, and was asked for again with less.
_SAYS = or_(m.parts != literal_column("'[]'::jsonb"), m.status != "done")
_some = (
    select(m.id, func.octet_length(cast(m.parts, Text)).label("bytes"))
    .where(m.conversation_id == _id, m.id > bindparam("after", type_=BigInteger), m.role != "summary", _SAYS)
    .order_by(m.id)
    .limit(bindparam("most", type_=BigInteger))
    .subquery("some")
)
_before = func.sum(_some.c.bytes).over(order_by=_some.c.id) - _some.c.bytes
_weighed = select(_some.c.id, _before.label("before"), func.count().over().label("all")).subquery("weighed")
# The last column is how many there would be, were they not so large.
MESSAGES: Select[Any] = (
    select(*MESSAGE_COLUMNS, _weighed.c.all)
    .select_from(ConversationMessage)
    .join(_weighed, _weighed.c.id == m.id)
    .where(_weighed.c.before < bindparam("most_bytes", type_=BigInteger))
    .order_by(m.id)
)
_TURN = (m.id, m.role, JsonColumn(m.parts, list[Kept], empty="[]").column, m.until)
# The last of them; the newest summary says what was before.
_summed_up = (
    select(func.max(m.until)).where(m.conversation_id == _id, m.role == "summary").correlate(None).scalar_subquery()
)
_newest = (
    select(m.id, func.octet_length(cast(m.parts, Text)).label("bytes"))
    .where(m.conversation_id == _id, m.id > func.coalesce(_summed_up, 0))
    .order_by(m.id.desc())
    .limit(bindparam("most", type_=BigInteger))
    .subquery("newest")
)
_after = func.sum(_newest.c.bytes).over(order_by=_newest.c.id.desc()) - _newest.c.bytes
_near = select(_newest.c.id, _after.label("after")).subquery("near")
TURNS: Select[Any] = (
    select(*_TURN)
    .select_from(ConversationMessage)
    .join(_near, _near.c.id == m.id)
    .where(_near.c.after < bindparam("most_bytes", type_=BigInteger))
    .order_by(m.id)
)
TURNS_BY_ID: Select[Any] = (
    select(*_TURN)
    .where(m.conversation_id == _id, m.id == func.any(bindparam("ids", type_=ARRAY(BigInteger))))
    .order_by(m.id)
)
CALLS: Select[Any] = (
    select(
        *(sent.id, sent.created_at, sent.message_id, sent.provider, sent.model, sent.system),
        *(sent.tools, sent.sent, sent.shortened, sent.letters),
    )
    .where(sent.conversation_id == _id, sent.id > bindparam("after", type_=BigInteger))
    .order_by(sent.id)
    .limit(bindparam("most", type_=BigInteger))
)

# ── proposals ────────────────────────────────────────────────────────────────────────────────────────────────────────

audit = AuditEntry.__table__.c
_name = audit.resource_type + literal_column("':'") + cast(audit.resource_id, Text)
_changed = select(func.array_agg(_name.distinct())).where(audit.operation_id == proposal.operation_id)
# A call outside has so long to answer before nobody knows what came of it.
_is_late = proposal.decided_at < func.now() - text(f"interval '{ANSWER_SECONDS} seconds'")
_is_called = and_(proposal.status == "approved", GOES_OUTSIDE, proposal.answer.is_(None))
OUTCOMES: Select[Any] = (
    select(
        *(proposal.id, proposal.tool, STATUS, _changed.correlate(Proposal).scalar_subquery(), proposal.answer),
        _is_called.label("is_unknown"),
    )
    .where(
        proposal.conversation_id == _id,
        literal_column("'pending'") != STATUS,
        proposal.id != func.all(bindparam("told_before", type_=ARRAY(BigInteger))),
        or_(not_(_is_called), _is_late),
    )
    .order_by(proposal.id)
    .limit(MOST_OUTCOMES)
)
_by_operation = select(func.array_agg(_name)).where(audit.operation_id == bindparam("operation_id", type_=Uuid))
NOTE_CHANGED = (
    update(Row)
    .where(c.id == _id)
    .values(
        mentions=c.mentions.op("||")(func.coalesce(_by_operation.scalar_subquery(), literal_column("'{}'::text[]")))
    )
)

# ── who asks ─────────────────────────────────────────────────────────────────────────────────────────────────────────

SITUATION = select(TenantSettings.default_currency, TenantSettings.timezone)

PRUNE = text("SELECT crm_prune_conversations(:days, :most)")


async def get(tx: Transaction, conversation_id: int) -> Conversation:
    """Raises AppError CONVERSATION_NOT_FOUND, also for somebody else's."""
    row = (await tx.connection.execute(ONE, {"conversation_id": conversation_id})).one_or_none()
    if row is None:
        raise AppError(Code.CONVERSATION_NOT_FOUND)
    return Conversation(*row)


async def note_changed(tx: Transaction, conversation_id: int) -> None:
    """Note that a conversation is about the records that this transaction changed: an erasure of one empties it."""
    given = {"conversation_id": conversation_id, "operation_id": tx.operation_id}
    await tx.connection.execute(NOTE_CHANGED, given)


async def prune_conversations(database: Database, days: int) -> int:
    """Delete some of what was said so many days ago; returns how many. Raises AppError."""
    async with database.maintenance() as session:
        return int((await session.execute(PRUNE, {"days": days, "most": PRUNED_AT_ONCE})).scalar_one())
