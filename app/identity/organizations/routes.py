"""Organizations and their members."""

from uuid import UUID

from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec.structs import replace

from app.identity.guards import Allows, Person, Rule
from app.identity.http import transaction
from app.identity.idempotency import made_once
from app.identity.organizations import queries, service
from app.identity.organizations.schemas import (
    ChangedMember,
    ChangedOrganization,
    Invited,
    Member,
    NewMember,
    NewOrganization,
    Organization,
    Organizations,
)
from app.identity.pages import page_of
from app.identity.sessions.service import organizations_of
from app.web.input import CrmRequest
from app.web.paging import Page, PageQuery
from app.web.routing import Routes
from app.web.structs import Message


@get("/me", guards=[Allows(Rule.PERSON)])
async def list_my_organizations(request: CrmRequest) -> Response[Organizations]:
    """Where I may work, and as what."""
    async with transaction(request) as tx:
        data = await organizations_of(tx, request.user.user_id)
    return Response(Organizations(data=data, total=len(data)))


@post("/", guards=[Allows(Rule.PERSON)])
async def create_organization(request: CrmRequest, data: JSONBody[NewOrganization]) -> Response[Organization]:
    """Make another organization, as its owner and first admin."""
    return await made_once(request, lambda tx: service.create(tx, request.user.user_id, data.name))


@patch("/{organization_id:str}", guards=[Allows(Rule.ADMIN)])
async def rename_organization(
    request: CrmRequest, organization_id: FromPath[str], data: JSONBody[ChangedOrganization]
) -> Response[Organization]:
    """Give it another name."""
    assert isinstance(data.name, str)  # noqa: S101 -- an empty PATCH was refused
    async with transaction(request) as tx:
        return Response(await service.rename(tx, request.user, organization_id, data.name))


@get("/{organization_id:str}/members", guards=[Allows(Rule.ADMIN)])
async def list_members(
    request: CrmRequest, organization_id: FromPath[str], filters: NamedDependency[PageQuery]
) -> Response[Page[Member]]:
    """Who is in the organization, and after them who is invited."""
    async with transaction(request) as tx:
        here = {"here": organization_id}
        return Response(await page_of(tx, queries.MEMBERS, filters, here, service.member, request.app.state))


@post("/{organization_id:str}/members", guards=[Allows(Rule.ADMIN)])
async def invite_member(
    request: CrmRequest, organization_id: FromPath[str], data: JSONBody[NewMember]
) -> Response[Invited]:
    """Invite somebody by mail. Where no mail can be sent, the secret of the invitation is in the answer."""
    by_mail = request.app.state.settings.sends_mail
    return await made_once(
        request,
        lambda tx: service.invite(tx, request.user, organization_id, data, by_mail=by_mail),
        lambda invited: replace(invited, invitation=None),
    )


@patch("/{organization_id:str}/members/{user_id:str}", guards=[Allows(Rule.ADMIN)])
async def change_member(
    request: CrmRequest, organization_id: FromPath[str], user_id: FromPath[UUID], data: JSONBody[ChangedMember]
) -> Response[Member]:
    """Give a member another role, from the next refresh on. With a lower one, the CRM accepts no older token."""
    admin: Person = request.user
    async with transaction(request) as tx:
        return Response(await service.change_member(tx, admin, organization_id, user_id, data))


@delete("/{organization_id:str}/members/{user_id:str}", status_code=200, guards=[Allows(Rule.ADMIN)])
async def remove_member(
    request: CrmRequest, organization_id: FromPath[str], user_id: FromPath[UUID]
) -> Response[Message]:
    """Remove a member, who is out of the CRM at once, or withdraw the invitation with this id."""
    async with transaction(request) as tx:
        await service.remove_member(tx, request.user, organization_id, user_id)
    return Response(Message("Member removed successfully"))


router = Routes(
    "/auth/organizations",
    route_handlers=[
        list_my_organizations,
        create_organization,
        rename_organization,
        list_members,
        invite_member,
        change_member,
        remove_member,
    ],
    tags=["Organizations"],
)
