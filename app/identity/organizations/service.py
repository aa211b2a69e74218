"""Organizations, who is in them, and who is invited."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid4

from msgspec import convert
from msgspec.structs import replace

from app.access.permissions import RANK, Role
from app.db.result import RowMapping
from app.identity import mails
from app.identity.database import Transaction
from app.identity.events import Kind, note, refuse_many
from app.identity.guards import Person
from app.identity.links import give_secret
from app.identity.organizations import queries
from app.identity.organizations.schemas import ChangedMember, Invited, Member, NewMember, Organization
from app.identity.tokens import hash_of
from app.web.email import fold_email
from app.web.errors import AppError, Code

MOST_PLACES = 500


async def create(tx: Transaction, user_id: UUID, name: str, organization_id: str | None = None) -> Organization:
    """A new organization, of which this person is the owner and first admin."""
    await _require_place(tx, user_id)
    organization_id = organization_id or str(uuid4())
    about = {"new_id": organization_id, "called": name, "person": user_id}
    await tx.execute(queries.CREATE, about)
    await tx.execute(queries.JOIN, {"here": organization_id, "person": user_id, "as_role": Role.ADMIN.value})
    await note(tx, Kind.ORGANIZATION_CREATED, user_id=user_id, organization_id=organization_id, name=name)
    return Organization(id=organization_id, name=name, role=Role.ADMIN)


async def _require_place(tx: Transaction, user_id: UUID) -> None:
    """Raises AppError LIMIT_REACHED. Every session's answer has all of a person's organizations."""
    if (await tx.execute(queries.PLACES, {"person": user_id})).scalar_one() >= MOST_PLACES:
        raise AppError(
            Code.LIMIT_REACHED, f"Nobody is in more than {MOST_PLACES} organizations", data={"max": MOST_PLACES}
        )


async def rename(tx: Transaction, admin: Person, organization_id: str, name: str) -> Organization:
    """Call it otherwise."""
    before = (await tx.execute(queries.NAME, {"here": organization_id})).scalar_one()
    if before != name:
        await tx.execute(queries.RENAME, {"here": organization_id, "called": name})
        about: dict[str, Any] = {"user_id": admin.user_id, "organization_id": organization_id}
        await note(tx, Kind.ORGANIZATION_RENAMED, **about, old=before, new=name)
    return Organization(id=organization_id, name=name, role=admin.role)


def member(row: RowMapping) -> Member:
    """Somebody of the list."""
    return convert({name: row[name] for name in Member.__struct_fields__}, Member)


async def invite(tx: Transaction, admin: Person, organization_id: str, new: NewMember, *, by_mail: bool) -> Invited:
    """Invite somebody, by mail if it can be sent. An invitation from before is not good any more.

    Raises AppError MEMBER_EXISTS, and RATE_LIMITED for who invites too many in a minute.
    """
    await refuse_many(tx, Kind.MEMBER_INVITED, new.email)
    await tx.execute(queries.FORGET_USELESS, {"here": organization_id})
    folded = fold_email(new.email)
    if (await tx.execute(queries.IS_MEMBER, {"here": organization_id, "folded": folded})).all():
        raise AppError(Code.MEMBER_EXISTS)
    invited = {
        "here": organization_id,
        "to": new.email,
        "folded": folded,
        "as_role": new.role.value,
        "inviter": admin.user_id,
    }
    invitation_id, expires_at = (await tx.execute(queries.INVITE, invited)).one()
    await note(
        tx,
        Kind.MEMBER_INVITED,
        user_id=admin.user_id,
        email=new.email,
        organization_id=organization_id,
        role=new.role.value,
    )
    secret = None
    if by_mail:
        await mails.make(tx, mails.INVITATION, new.email, {"invitation": str(invitation_id)})
    else:
        secret = await give_secret(tx, invitation_id)
    return Invited(email=new.email, role=new.role, expires_at=expires_at, invitation=secret)


async def is_invited(tx: Transaction, email: str, secret: str) -> bool:
    """Whether this secret invites the person with this email."""
    about = {"hash": hash_of(secret), "folded": fold_email(email)}
    return bool((await tx.execute(queries.IS_INVITED, about)).all())


async def join(tx: Transaction, user_id: UUID, email: str, secret: str) -> str:
    """Let somebody into the organization whose invitation this is; returns which one. Raises AppError INVALID_LINK."""
    about = {"hash": hash_of(secret), "folded": fold_email(email)}
    found = (await tx.execute(queries.USE_INVITATION, about)).first()
    if found is None:
        raise AppError(Code.INVALID_LINK, "This invitation was used or withdrawn, is too old, or is for somebody else")
    organization_id, role = found
    await _require_place(tx, user_id)
    await tx.execute(queries.ACCEPT, {"here": organization_id, "person": user_id, "as_role": role})
    await note(tx, Kind.MEMBER_JOINED, user_id=user_id, email=email, organization_id=organization_id, role=role)
    if await _has_crm(tx):
        actor = _actor(tx, user_id, email, Role(role))
        await tx.execute(queries.LET_IN, {"tenant": organization_id, "person": str(user_id), "actor": actor})
    return str(organization_id)


async def change_member(
    tx: Transaction, admin: Person, organization_id: str, user_id: UUID, changed: ChangedMember
) -> Member:
    """Give a member another role. With a lower one, tokens from before are not accepted by the CRM any more.

    Raises AppError MEMBER_NOT_FOUND, LAST_ADMIN, OWNER_STAYS.
    """
    member = await _find(tx, organization_id, user_id)
    before, role = member.role, changed.role
    if role != before:
        if member.is_owner and admin.user_id != user_id and RANK[role] < RANK[before]:
            raise AppError(Code.OWNER_STAYS, "Only the owner of an organization gives up being its admin")
        await tx.execute(queries.CHANGE, {"here": organization_id, "person": user_id, "as_role": role.value})
        about: dict[str, Any] = {"user_id": user_id, "email": member.email, "organization_id": organization_id}
        await note(tx, Kind.MEMBER_CHANGED, **about, by=str(admin.user_id), old=before, new=role.value)
        if RANK[role] < RANK[before]:
            await _shut_out(tx, _admin(tx, admin), organization_id, member, for_good=False)
    return replace(member, role=role)


async def remove_member(tx: Transaction, admin: Person, organization_id: str, user_id: UUID) -> None:
    """Remove a member, who is out of the CRM at once, or withdraw the invitation with this id.

    Raises AppError MEMBER_NOT_FOUND, LAST_ADMIN, OWNER_STAYS.
    """
    about: dict[str, Any] = {"organization_id": organization_id}
    withdrawn = await tx.execute(queries.WITHDRAW, {"here": organization_id, "invitation_id": user_id})
    if (invited := withdrawn.scalar_one_or_none()) is not None:
        await note(tx, Kind.INVITATION_WITHDRAWN, user_id=admin.user_id, email=invited, **about)
        return
    member = await _find(tx, organization_id, user_id)
    await tx.execute(queries.REMOVE, {"here": organization_id, "person": user_id})
    about |= {"user_id": user_id, "email": member.email}
    await note(tx, Kind.MEMBER_REMOVED, **about, by=str(admin.user_id))
    await _shut_out(tx, _admin(tx, admin), organization_id, member, for_good=True)


async def sign_out(tx: Transaction, organization_ids: Iterable[str], user_id: UUID, by: str) -> None:
    """From now on the CRM accepts no token from before in these organizations; `by` says who wants that."""
    for organization_id in organization_ids:
        member = await _find(tx, organization_id, user_id)
        await _shut_out(tx, json.dumps({"user_name": by}), organization_id, member, for_good=False)


async def _find(tx: Transaction, organization_id: str, user_id: UUID) -> Member:
    rows = (await tx.execute(queries.MEMBER, {"here": organization_id, "person": user_id})).mappings()
    found = rows.first()
    if found is None:
        raise AppError(Code.MEMBER_NOT_FOUND)
    return member(found)


async def _shut_out(tx: Transaction, actor: str, organization_id: str, member: Member, *, for_good: bool) -> None:
    await tx.execute(queries.FORGET_INVITED_BY, {"here": organization_id, "person": member.user_id})
    if not await _has_crm(tx):
        return
    shut_out = {
        "tenant": organization_id,
        "person": str(member.user_id),
        "name": member.name,
        "email": member.email,
        "actor": actor,
        "for_good": for_good,
    }
    await tx.execute(queries.SHUT_OUT, shut_out)


async def _has_crm(tx: Transaction) -> bool:
    return bool((await tx.execute(queries.HAS_CRM)).scalar_one())


def _admin(tx: Transaction, admin: Person) -> str:
    return _actor(tx, admin.user_id, admin.name, Role.ADMIN)


def _actor(tx: Transaction, user_id: UUID, name: str, role: Role) -> str:
    """Who does it, for the CRM's audit log."""
    caller = tx.caller
    actor: dict[str, Any] = {
        "user_id": str(user_id),
        "user_name": name,
        "user_role": role.value,
        "ip_address": caller.address,
        "user_agent": caller.user_agent,
        "request_id": caller.request_id,
        "via": "api",
    }
    return json.dumps(actor)
