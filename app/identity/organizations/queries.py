"""Statements of organizations, members and invitations."""

from __future__ import annotations

from sqlalchemy import (
    bindparam,
    delete,
    false,
    func,
    insert,
    literal_column,
    null,
    select,
    text,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.types import Text, Uuid

from app.identity.links import INVITATION_LIVES, IS_GOOD_INVITATION
from app.identity.models import Invitation, Membership, Organization, User
from app.identity.pages import Listing

c = Organization.__table__.c
membership, invitation, user = Membership.__table__.c, Invitation.__table__.c, User.__table__.c

_here = bindparam("here", type_=Text)
CREATE = insert(Organization).values(id=bindparam("new_id"), name=bindparam("called"), owner_id=bindparam("person"))
RENAME = update(Organization).where(c.id == _here).values(name=bindparam("called"))
NAME = select(c.name).where(c.id == _here)
FIND_BY_NAME = select(c.id).where(
    (c.id == bindparam("called", type_=Text)) | (c.name == bindparam("called", type_=Text))
)
LIST = (
    select(c.id, c.name, user.email, c.created_at, func.count(membership.user_id))
    .select_from(
        Organization.__table__.join(User.__table__, c.owner_id == user.id).join(
            Membership.__table__, membership.organization_id == c.id
        )
    )
    .group_by(c.id, user.email)
    .order_by(c.created_at, c.id)
)

JOIN = insert(Membership).values(
    organization_id=bindparam("here"), user_id=bindparam("person"), role=bindparam("as_role")
)
# Who is a member already keeps the role: an admin may change it.
ACCEPT = (
    upsert(Membership)
    .values(organization_id=bindparam("here"), user_id=bindparam("person"), role=bindparam("as_role"))
    .on_conflict_do_nothing()
)
ROLE = select(membership.role).where(membership.organization_id == _here, membership.user_id == bindparam("person"))
CHANGE = (
    update(Membership)
    .where(membership.organization_id == _here, membership.user_id == bindparam("person"))
    .values(role=bindparam("as_role"))
)
REMOVE = delete(Membership).where(membership.organization_id == _here, membership.user_id == bindparam("person"))
IS_MEMBER = (
    select(user.id)
    .join_from(Membership.__table__, User.__table__, membership.user_id == user.id)
    .where(membership.organization_id == _here, user.email_folded == bindparam("folded", type_=Text))
)
_members = (
    select(
        user.id.label("user_id"),
        user.email,
        user.name,
        membership.role,
        (c.owner_id == user.id).label("is_owner"),
        membership.joined_at,
        null().label("invitation_id"),
        null().label("invited_until"),
        false().label("is_invitation"),
        membership.joined_at.label("since"),
        user.id.label("place"),
    )
    .select_from(
        Membership.__table__.join(User.__table__, membership.user_id == user.id).join(
            Organization.__table__, membership.organization_id == c.id
        )
    )
    .where(membership.organization_id == _here)
)
MEMBER = _members.where(membership.user_id == bindparam("person", type_=Uuid)).with_for_update(of=Membership.__table__)
_invited = select(
    null(),
    invitation.email,
    null(),
    invitation.role,
    false(),
    null(),
    invitation.id,
    invitation.expires_at,
    true(),
    invitation.created_at,
    invitation.id,
).where(invitation.organization_id == _here, IS_GOOD_INVITATION)
# In the order in which they came; after them who is invited.
_everybody = union_all(_members, _invited).subquery()
MEMBERS = Listing("identity members", select(_everybody), ("is_invitation", "since", "place"))
PLACES = select(func.count()).where(membership.user_id == bindparam("person", type_=Uuid))

_invite = upsert(Invitation).values(
    organization_id=bindparam("here"),
    email=bindparam("to"),
    email_folded=bindparam("folded"),
    role=bindparam("as_role"),
    invited_by=bindparam("inviter"),
    expires_at=func.now() + INVITATION_LIVES,
)
_given = {each: _invite.excluded[each] for each in ("email", "role", "invited_by", "expires_at")}
# It takes the place of the one before, whose link is not good any more.
INVITE = _invite.on_conflict_do_update(
    constraint="invitations_email_key",
    set_=_given | {"id": func.gen_random_uuid(), "secret_hash": null(), "created_at": func.now()},
).returning(invitation.id, invitation.expires_at)
# Of somebody who may invite nobody any more: else they would be good again for whoever comes back.
FORGET_INVITED_BY = delete(Invitation).where(
    invitation.organization_id == _here, invitation.invited_by == bindparam("person", type_=Uuid)
)
FORGET_USELESS = delete(Invitation).where(invitation.organization_id == _here, ~IS_GOOD_INVITATION)
WITHDRAW = (
    delete(Invitation)
    .where(invitation.organization_id == _here, invitation.id == bindparam("invitation_id"))
    .returning(invitation.email)
)
_shown = (invitation.secret_hash == bindparam("hash"), invitation.email_folded == bindparam("folded", type_=Text))
USE_INVITATION = (
    delete(Invitation).where(*_shown, IS_GOOD_INVITATION).returning(invitation.organization_id, invitation.role)
)
IS_INVITED = select(invitation.id).where(*_shown, IS_GOOD_INVITATION)
# The CRM's functions, where it reads the same database.
HAS_CRM = select(
    func.to_regprocedure(literal_column("'public.crm_shut_out(text, text, text, text, jsonb, boolean)'")).is_not(None)
)
SHUT_OUT = text(
    "SELECT public.crm_shut_out(:tenant, :person, :name, :email, CAST(:actor AS jsonb), CAST(:for_good AS boolean))"
)
LET_IN = text("SELECT public.crm_let_in(:tenant, :person, CAST(:actor AS jsonb))")
