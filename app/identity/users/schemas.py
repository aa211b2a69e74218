"""Bodies and answers of registration, passwords and who I am."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct

from app.identity.links import Secret
from app.identity.organizations.schemas import OrganizationName
from app.identity.passwords import NewPassword, Password
from app.identity.sessions.schemas import Person
from app.web.email import Email
from app.web.structs import Body, Maybe
from app.web.text import NAME

PersonName = Annotated[str, Meta(max_length=255, description="The person's name", **NAME)]


class Registration(Body):
    """A new person: either with a new organization, or with an invitation into one."""

    email: Email
    password: NewPassword
    name: PersonName
    organization: Maybe[OrganizationName] = UNSET
    invitation: Maybe[Secret] = UNSET


class Verification(Body):
    """The secret of the mail that came after the registration."""

    token: Secret


class Forgotten(Body):
    """Who wants a mail with a link for a new password."""

    email: Email


class Reset(Body):
    """A new password, with the secret of that mail."""

    token: Secret
    password: NewPassword


class Change(Body):
    """A new password in place of the present one."""

    current_password: Password
    new_password: NewPassword


class Whoami(Person):
    """Who I am in this session."""

    is_email_verified: bool


class Bearer(Struct):
    """The bearer of the token, in the form of the CRM's `/admin/me`."""

    id: str
    email: str
    name: str
    role: str
    roles: list[str]
    tenant_id: str
    is_active: bool = True


class Me(Struct):
    """Who is asking, in the form of the CRM's `/admin/me`, and what the role allows there."""

    user: Bearer
    permissions: list[str]
