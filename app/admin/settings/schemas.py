"""The organization's settings as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta

from app.timezones import TIMEZONES
from app.web.currency import Currency
from app.web.fields import Refused
from app.web.structs import Body, Maybe, View, ViewType


def check_timezone(name: str) -> str:
    """The name as it is. Raises Refused."""
    if name not in TIMEZONES:
        raise Refused("must be an IANA time zone, such as Europe/Berlin")
    return name


class TenantSettings(View):
    """The currency that new deals get, and the zone that says where a day begins in reports."""

    default_currency: str
    timezone: str
    created_at: datetime
    updated_at: datetime
    version: int


class TenantSettingsChange(Body, kw_only=True):
    """The settings that can be written."""

    view: ClassVar[ViewType] = TenantSettings

    default_currency: Maybe[Currency] = UNSET
    timezone: Maybe[
        Annotated[str, Meta(examples=["Europe/Berlin"], extra={"check": check_timezone, "choice": True})]
    ] = UNSET
