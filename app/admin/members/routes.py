"""/admin/members."""

from typing import Any

from litestar import Response, delete, get, post, route
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.types import Guard
from msgspec import UNSET

from app.access.permissions import Permission, Requires, by_a_person
from app.admin.audit.schemas import AuditEntry, VersionQuery
from app.admin.history import service as history
from app.admin.history.schemas import AsOf, EntryUndo
from app.admin.http import ACCEPTED, CHANGES, answer, list_page, message, transaction
from app.admin.jobs.schemas import JobStarted
from app.admin.members import service
from app.admin.members.queries import LISTING, MEMBERS
from app.admin.members.schemas import HandedOver, Handover, Member, MemberChange, MemberInvite, MemberQuery
from app.web.input import CrmRequest
from app.web.paging import Page
from app.web.routing import Routes
from app.web.structs import Message, RecordId

# Who may do what is decided by people, not by programs in their place.
PEOPLE: list[Guard] = [Requires(Permission.CONFIGURE), by_a_person]


@get("/", guards=[Requires(Permission.READ)])
async def list_members(request: CrmRequest, filters: NamedDependency[MemberQuery]) -> Response[Page[Member]]:
    """The people of the organization by name: who was seen in a token, and who is expected."""
    return await list_page(request, LISTING, filters)


@post("/", guards=PEOPLE)
async def invite_member(request: CrmRequest, data: JSONBody[MemberInvite]) -> Response[Member]:
    """Expect somebody: the first token with this email is that person's. An email of a member is 409 EMAIL_EXISTS."""
    async with transaction(request) as tx:
        invited = answer(tx, await service.invite(tx, data), 201)
    await request.app.state.memberships.catch_up()
    return invited


@get("/{member_id:str}", guards=[Requires(Permission.READ)])
async def get_member(
    request: CrmRequest, member_id: FromPath[RecordId], filters: NamedDependency[AsOf]
) -> Response[Member]:
    """One person, and how much is theirs."""
    if filters.as_of is not UNSET:
        return await history.as_of(request, MEMBERS, member_id, filters.as_of)
    async with transaction(request, one_statement=True) as tx:
        return answer(tx, await MEMBERS.get(tx, member_id))


@route("/{member_id:str}", http_method=CHANGES, guards=PEOPLE)
async def change_member(
    request: CrmRequest, member_id: FromPath[RecordId], data: JSONBody[MemberChange]
) -> Response[Member]:
    """Narrow what a person may do, or shut the person out: everywhere within 5 seconds. You can't do so to yourself,
    nor to the last admin: 409 LAST_ADMIN.
    """
    async with transaction(request) as tx:
        changed = answer(tx, await service.change(tx, member_id, data))
    await request.app.state.memberships.catch_up()
    return changed


@delete("/{member_id:str}", guards=PEOPLE, status_code=200)
async def delete_member(request: CrmRequest, member_id: FromPath[RecordId]) -> Response[Message]:
    """Withdraw an invitation. Who was here stays, since history names them: 409 MEMBER_SEEN."""
    async with transaction(request) as tx:
        await service.withdraw(tx, member_id)
        withdrawn = message(tx, "Invitation withdrawn successfully")
    await request.app.state.memberships.catch_up()
    return withdrawn


@post("/{member_id:str}/sign-out", guards=[Requires(Permission.READ), by_a_person], status_code=200)
async def sign_out_member(request: CrmRequest, member_id: FromPath[RecordId]) -> Response[Member]:
    """End a person's sessions: tokens issued before now are refused, everywhere within 5 seconds. For admins, and for
    the person.
    """
    async with transaction(request) as tx:
        signed_out = answer(tx, await service.sign_out(tx, member_id))
    await request.app.state.memberships.catch_up()
    return signed_out


@post("/{member_id:str}/reassign", guards=PEOPLE, status_code=200)
async def reassign_member(
    request: CrmRequest, member_id: FromPath[RecordId], data: JSONBody[Handover]
) -> Response[HandedOver]:
    """Give a person's customers, and open deals, projects and activities, to another one. More than 1,000 become a job.
    In projects where the person is one of several, the other one takes the place.
    """
    async with transaction(request) as tx:
        done: Any = await service.reassign(tx, member_id, data)
        return answer(tx, done, ACCEPTED if isinstance(done, JobStarted) else 200)


@get("/{member_id:str}/versions", guards=[Requires(Permission.READ)])
async def list_member_versions(
    request: CrmRequest, member_id: FromPath[RecordId], filters: NamedDependency[VersionQuery]
) -> Response[Page[AuditEntry]]:
    """Every change of a membership, newest first. Addresses and user agents are for admins."""
    return await history.versions(request, MEMBERS, member_id, filters)


@post("/{member_id:str}/undo", guards=PEOPLE, status_code=200)
async def undo_member_change(
    request: CrmRequest, member_id: FromPath[RecordId], data: JSONBody[EntryUndo]
) -> Response[Member]:
    """Take one change back; not a sign-out. What was changed again since is 409 CHANGED_SINCE."""
    undone = await history.undo(request, MEMBERS, member_id, data)
    await request.app.state.memberships.catch_up()
    return undone


router = Routes(
    "/members",
    route_handlers=[
        list_members,
        invite_member,
        get_member,
        change_member,
        delete_member,
        sign_out_member,
        reassign_member,
        list_member_versions,
        undo_member_change,
    ],
    tags=["Members"],
)
