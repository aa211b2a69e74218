"""The assistant's settings as JSON."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from msgspec import UNSET, Meta

from app.assistant.provider import Provider
from app.web.fields import Refused
from app.web.structs import Body, Maybe, View, ViewType
from app.web.text import LINE, NAME

MOST_TOKENS = 10**15
# What begins the part of a key that is shown.
SHOWN = "…"
KEY = re.compile(r"[\x21-\x7e]{1,500}")


def check_key(key: str) -> str:
    """The key, as it is sent in a header. Raises Refused."""
    if not KEY.fullmatch(key):
        raise Refused("must be 1 to 500 visible ASCII characters, as the provider shows it")
    return key


def check_own_key(key: str) -> str:
    """The key, or what is shown of it. Raises Refused."""
    return key if key.startswith(SHOWN) else check_key(key)


Tokens = Annotated[int, Meta(ge=0, le=MOST_TOKENS, description="Tokens in a month. Null is no limit")]
Secret = Annotated[
    str,
    Meta(
        max_length=500,
        extra={"check": check_own_key, "choice": True},
        extra_json_schema={"pattern": rf"^({SHOWN}?[\x21-\x7e]*)$"},
        examples=["sk-ant-api03-R2D2"],
    ),
]
BaseUrl = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=2000,
        **LINE,
        description="Where the provider's API is, if not at the provider. In production https. Its host must have"
        " public addresses only",
        examples=["https://models.example/v1"],
    ),
]


class AssistantSettings(View):
    """Who runs the model, and what it may cost. `by` says whose account it is: the organization's, the operator's, or
    nobody's, and then the assistant answers nothing. Of the key there are the last characters. `failure` is why the
    provider refuses the key. `used_tokens` are those of this month, which ends at `ends_at`.
    """

    by: Literal["organization", "operator"] | None
    provider: Provider | None
    model: str | None
    base_url: str | None
    key: str | None
    key_changed_at: datetime | None
    failure: Literal["key_refused", "quota"] | None
    failed_at: datetime | None
    monthly_tokens: int | None
    monthly_tokens_per_person: int | None
    used_tokens: int
    ends_at: datetime
    version: int


class AssistantSettingsChange(Body, kw_only=True):
    """The settings that can be written. Provider, model and key are tried by a question of a few words. A key is for
    one address: with another provider or base_url it has to be given again. What is sent back as it was read changes
    nothing.
    """

    view: ClassVar[ViewType] = AssistantSettings

    monthly_tokens: Maybe[Tokens | None] = UNSET
    monthly_tokens_per_person: Maybe[Tokens | None] = UNSET
    provider: Maybe[Provider | None] = UNSET
    model: Maybe[Annotated[str, Meta(max_length=200, **NAME, examples=["claude-sonnet-4-5"])] | None] = UNSET
    base_url: Maybe[BaseUrl | None] = UNSET
    key: Maybe[Secret | None] = UNSET
