"""Access tokens as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta

from app.access.permissions import Scope
from app.web.structs import Body, Maybe, View, ViewType
from app.web.text import NAME

MOST_DAYS, USUAL_DAYS = 365, 90


class AccessToken(View):
    """A token with which a program acts as you. It is shown once, when it is made: elsewhere it is null. `last_used_at`
    is right to the minute.
    """

    id: int
    name: str
    scope: Scope
    token: str | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


TokenName = Annotated[str, Meta(max_length=255, **NAME, description="What it is for", examples=["Claude Desktop"])]
Days = Annotated[int, Meta(ge=1, le=MOST_DAYS, description=f"For how many days; {USUAL_DAYS} if left out")]


class AccessTokenCreate(Body, kw_only=True):
    """A new access token: it reads, or also proposes changes that you approve, or changes what you may change."""

    view: ClassVar[ViewType] = AccessToken

    name: TokenName
    scope: Annotated[Scope, Meta(description="What it may do of what you may", examples=["propose"])]
    expires_in_days: Maybe[Days] = UNSET
