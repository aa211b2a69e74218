"""Members as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, Struct

from app.access.permissions import Role
from app.web.email import Email
from app.web.paging import ListQuery, Search
from app.web.structs import Body, Maybe, RecordId, View, ViewType
from app.web.text import LINE

MemberName = Annotated[str, Meta(max_length=255, **LINE, examples=["Alan Agent"])]


class Member(View):
    """A person of the organization: somebody who was seen in a token, or who is expected (`user_id` is null).

    `role` is the one that counts: the lower one of the token's and of `narrowed_to`. The counts are of what you may
    see.
    """

    id: int
    user_id: int | str | None
    name: str | None
    email: str | None
    role: Role | None
    token_role: Role | None
    narrowed_to: Role | None
    is_active: bool
    signed_out_at: datetime | None
    invited_at: datetime | None
    last_seen_at: datetime | None
    customers: int
    open_deals: int
    open_activities: int
    created_at: datetime
    updated_at: datetime
    version: int


class MemberInvite(Body, kw_only=True):
    """Somebody who is expected: the first token with this email makes it that person's membership."""

    view: ClassVar[ViewType] = Member

    email: Email
    name: Maybe[MemberName | None] = UNSET
    role: Maybe[Role | None] = UNSET


class MemberChange(Body, kw_only=True):
    """What an organization says of a person. With `role` null the token's role counts."""

    view: ClassVar[ViewType] = Member

    role: Maybe[Role | None] = UNSET
    is_active: Maybe[bool] = UNSET


class MemberSort(StrEnum):
    """What a list of members can be sorted by."""

    NAME = "name"
    EMAIL = "email"
    LAST_SEEN_AT = "last_seen_at"


class MemberQuery(ListQuery):
    """Filters and order of a list of members. `role` is the one that counts."""

    sort_by: Maybe[MemberSort] = UNSET
    role: Maybe[list[Role]] = UNSET
    is_active: Maybe[bool] = UNSET
    search: Maybe[Search] = UNSET


class Handover(Body):
    """Who gets what is a person's."""

    to: Annotated[RecordId, Meta(description="The id of another member, who was seen and is active")]


class HandedOver(Struct):
    """How many records have another owner now."""

    customers: int
    deals: int
    activities: int
    projects: int
