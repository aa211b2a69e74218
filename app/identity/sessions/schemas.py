"""Bodies and answers of logging in."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta

from app.access.permissions import Role
from app.identity.links import Secret
from app.identity.organizations.schemas import Organization
from app.identity.passwords import Password
from app.web.email import Email
from app.web.structs import Body, Maybe, View


class Login(Body):
    """Who logs in."""

    email: Email
    password: Password
    # Of the mail that invites the person into an organization.
    invitation: Maybe[Secret] = UNSET


class RefreshToken(Body):
    """What the last answer gave."""

    refresh_token: Annotated[str, Meta(min_length=1, max_length=200, description="The session's refresh token")]


class Person(View):
    """Somebody who is logged in, with the role in the session's organization."""

    id: UUID
    email: str
    name: str
    role: Role


class Session(View):
    """A new pair of tokens. `token` and `access_token` are the same; `expires_in` is its seconds."""

    token: str
    access_token: str
    refresh_token: str
    expires_in: int
    user: Person
    organizations: list[Organization]


class Device(View):
    """A session: somebody on one device."""

    id: UUID
    user_agent: str | None
    address: str | None
    organization_id: str | None
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    is_current: bool
