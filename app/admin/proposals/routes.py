"""/admin/proposals."""

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import Guard
from msgspec import UNSET

from app.access.permissions import Permission, Requires, by_a_person
from app.admin.http import answer, answer_afterwards, list_page, transaction
from app.admin.proposals import queries, service
from app.admin.proposals.schemas import ApprovedProposal, Proposal, ProposalQuery, ProposalStatus
from app.web.input import CrmRequest
from app.web.paging import Page
from app.web.routing import Routes
from app.web.structs import RecordId

# What proposes does not decide.
PEOPLE: list[Guard] = [Requires(Permission.WRITE), by_a_person]


@get("/", guards=[Requires(Permission.READ)])
async def list_proposals(request: CrmRequest, filters: NamedDependency[ProposalQuery]) -> Response[Page[Proposal]]:
    """What waits for me, newest first; with `status` also what became of others, for a day."""
    if filters.status is UNSET and filters.cursor is UNSET:
        filters.status = [ProposalStatus.PENDING]
    return await list_page(request, queries.LISTING, filters, scope=queries.OF_ME)


@get("/{proposal_id:str}", guards=[Requires(Permission.READ)])
async def get_proposal(request: CrmRequest, proposal_id: FromPath[RecordId]) -> Response[Proposal]:
    """One proposal of mine."""
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await queries.get(tx, proposal_id))


@post("/{proposal_id:str}/approve", guards=PEOPLE, status_code=200)
async def approve_proposal(request: CrmRequest, proposal_id: FromPath[RecordId]) -> Response[ApprovedProposal]:
    """Do what it says, as a request of mine. If a record that it would change was changed since, 409 PROPOSAL_OUTDATED;
    after 15 minutes 409 PROPOSAL_EXPIRED.
    """
    async with transaction(request) as tx:
        approved = await service.approve(request, tx, proposal_id)
        response = answer(tx, approved)
    if service.goes_outside(approved.proposal):
        approved.result = await service.call_outside(request, approved.proposal)
        return await answer_afterwards(request, tx, approved)
    return response


@post("/{proposal_id:str}/decline", guards=PEOPLE, status_code=200)
async def decline_proposal(request: CrmRequest, proposal_id: FromPath[RecordId]) -> Response[Proposal]:
    """Never do it."""
    async with transaction(request) as tx:
        return answer(tx, await service.decline(tx, proposal_id))


router = Routes(
    "/proposals", route_handlers=[list_proposals, get_proposal, approve_proposal, decline_proposal], tags=["Proposals"]
)
