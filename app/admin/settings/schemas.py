"""The organization's settings as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar

from msgspec import UNSET, Meta

from app.timezones import TIMEZONES
from app.web.country import Country
from app.web.currency import Currency
from app.web.fields import Refused
from app.web.structs import Body, Maybe, View, ViewType

MOST_DAYS = 36_500


def check_timezone(name: str) -> str:
    """The name as it is. Raises Refused."""
    if name not in TIMEZONES:
        raise Refused("must be an IANA time zone, such as Europe/Berlin")
    return name


class TenantSettings(View):
    """The currency that new deals get, the zone that says where a day begins in reports, and the country. What has been
    in the trash for `trash_days` is deleted for good, and so are audit entries after `audit_days`; null keeps them.
    """

    default_currency: str
    timezone: str
    country: str | None
    trash_days: int | None
    audit_days: int | None
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
    country: Maybe[Country | None] = UNSET
    trash_days: Maybe[Annotated[int, Meta(ge=7, le=MOST_DAYS, examples=[30])] | None] = UNSET
    audit_days: Maybe[Annotated[int, Meta(ge=365, le=MOST_DAYS, examples=[1095])] | None] = UNSET
