"""Deciding proposals."""

from __future__ import annotations

import re
from typing import Any

from app.admin.assistant.queries import note_changed
from app.admin.http import origin_of
from app.admin.inside import Sender
from app.admin.outcome import outcome_of
from app.admin.proposals import queries
from app.admin.proposals.schemas import ApprovedProposal, Proposal, ProposalStatus
from app.db.database import Origin
from app.records.transaction import Transaction, writing
from app.web.errors import AppError, Code
from app.web.input import CrmRequest


async def approve(request: CrmRequest, tx: Transaction, proposal_id: int) -> ApprovedProposal:
    """Do what was proposed, if all is as it was shown. Raises AppError PROPOSAL_NOT_FOUND, PROPOSAL_DECIDED,
    PROPOSAL_EXPIRED, PROPOSAL_OUTDATED, and as the request itself. A call outside is left to `call_outside`.
    """
    locked = await _undecided(tx, proposal_id)
    await queries.require_versions(tx, locked.versions)
    await queries.comes_by(tx, locked.via)
    proposal = await queries.get(tx, proposal_id)
    if goes_outside(proposal):
        await queries.decide(tx, proposal_id, ProposalStatus.APPROVED)
        return ApprovedProposal(await queries.get(tx, proposal_id), None)
    asked = proposal.request
    answer = await _sender(request, locked.via).send(asked.method, asked.path, body=asked.body, outer=tx)
    if answer.refused:
        raise answer.refusal()
    # More than was shown may have come about: what belongs to a record since, or what a name stands for now.
    if locked.outcome is not None and await outcome_of(tx) != locked.outcome:
        raise AppError(Code.PROPOSAL_OUTDATED)
    await queries.decide(tx, proposal_id, ProposalStatus.APPROVED, tx.operation_id)
    if proposal.conversation_id is not None:
        await note_changed(tx, proposal.conversation_id)
    return ApprovedProposal(await queries.get(tx, proposal_id), answer.document())


def goes_outside(proposal: Proposal) -> bool:
    """Whether it is a call of another service. What that does can't be undone, and takes long: it is called after the
    decision is stored, and so once at most.
    """
    return re.fullmatch(queries.OUTSIDE, proposal.request.path) is not None


async def call_outside(request: CrmRequest, proposal: Proposal) -> Any:
    """Do what was approved, and keep what came of it. Not within a transaction."""
    asked = proposal.request
    answer = await _sender(request, proposal.via).send(asked.method, asked.path, body=asked.body)
    if answer.refused:
        result: Any = {"untrusted": answer.refusal().message, "is_error": True}
    else:
        result = answer.document()
    async with writing(request.app.state.database, request.user, Origin()) as tx:
        await queries.keep_answer(tx, proposal.id, result)
    return result


def _sender(request: CrmRequest, via: str) -> Sender:
    origin = origin_of(request)
    return Sender(
        app=request.app,
        actor=request.user,
        request_id=request.scope["state"]["request_id"],
        via=via,
        ip_address=origin.ip_address,
        user_agent=origin.user_agent,
    )


async def decline(tx: Transaction, proposal_id: int) -> Proposal:
    """Never do it. Raises AppError PROPOSAL_NOT_FOUND, PROPOSAL_DECIDED, PROPOSAL_EXPIRED."""
    await _undecided(tx, proposal_id)
    await queries.decide(tx, proposal_id, ProposalStatus.DECLINED)
    return await queries.get(tx, proposal_id)


async def _undecided(tx: Transaction, proposal_id: int) -> queries.Locked:
    locked = await queries.lock(tx, proposal_id)
    if locked.status != ProposalStatus.PENDING:
        raise AppError(Code.PROPOSAL_DECIDED, data={"status": locked.status})
    if locked.is_expired:
        raise AppError(Code.PROPOSAL_EXPIRED)
    return locked
