"""Deciding proposals."""

from __future__ import annotations

from app.admin.assistant.queries import note_changed
from app.admin.http import origin_of
from app.admin.inside import Sender
from app.admin.proposals import queries
from app.admin.proposals.schemas import ApprovedProposal, Proposal, ProposalStatus
from app.records.transaction import Transaction
from app.web.errors import AppError, Code
from app.web.input import CrmRequest


async def approve(request: CrmRequest, tx: Transaction, proposal_id: int) -> ApprovedProposal:
    """Do what was proposed, if all is as it was shown. Raises AppError PROPOSAL_NOT_FOUND, PROPOSAL_DECIDED,
    PROPOSAL_EXPIRED, PROPOSAL_OUTDATED, and as the request itself.
    """
    locked = await _undecided(tx, proposal_id)
    await queries.require_versions(tx, locked.versions)
    await queries.comes_by(tx, locked.via)
    proposal = await queries.get(tx, proposal_id)
    origin = origin_of(request)
    sender = Sender(
        app=request.app,
        actor=tx.actor,
        request_id=request.scope["state"]["request_id"],
        via=locked.via,
        ip_address=origin.ip_address,
        user_agent=origin.user_agent,
    )
    asked = proposal.request
    answer = await sender.send(asked.method, asked.path, body=asked.body, outer=tx)
    if answer.refused:
        raise answer.refusal()
    await queries.decide(tx, proposal_id, ProposalStatus.APPROVED, tx.operation_id)
    if proposal.conversation_id is not None:
        await note_changed(tx, proposal.conversation_id)
    return ApprovedProposal(await queries.get(tx, proposal_id), answer.document())


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
