"""Bodies and answers of organizations and members."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar
from uuid import UUID

from msgspec import UNSET, Meta

from app.access.permissions import Role
from app.web.email import Email
from app.web.structs import Body, Maybe, View, ViewType
from app.web.text import NAME

OrganizationName = Annotated[str, Meta(max_length=255, description="The organization's name", **NAME)]


class Organization(View):
    """Where somebody may work, and as what. The id is the `tenant_id` of tokens."""

    id: str
    name: str
    role: Role


class Organizations(View):
    """Where I may work."""

    data: list[Organization]
    total: int


class NewOrganization(Body):
    """Another organization of mine."""

    name: OrganizationName


class ChangedOrganization(Body):
    """What is to be different."""

    view: ClassVar[ViewType | None] = Organization

    name: Maybe[OrganizationName] = UNSET


class Member(View):
    """Somebody of the organization, or, without `user_id` and `joined_at`, somebody who is invited."""

    user_id: UUID | None
    email: str
    name: str | None
    role: Role
    is_owner: bool
    joined_at: datetime | None
    # Of an invitation, by which it is withdrawn as a member is removed; and until when it is good.
    invitation_id: UUID | None
    invited_until: datetime | None


class NewMember(Body):
    """Somebody to invite."""

    email: Email
    role: Role


class Invited(View):
    """An invitation. Where no mail can be sent, `invitation` is what the link would end with."""

    email: str
    role: Role
    expires_at: datetime
    invitation: str | None


class ChangedMember(Body):
    """What is to be different."""

    role: Role
