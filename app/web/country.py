"""Country codes."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from app.countries import COUNTRIES
from app.web.fields import Refused


def check_country(code: str) -> str:
    """Return the code. Raises Refused if ISO 3166 does not list it."""
    if code not in COUNTRIES:
        raise Refused("must be an ISO 3166 code of two capital letters, such as DE")
    return code


Country = Annotated[
    str,
    Meta(
        description="ISO 3166, two letters",
        examples=["DE"],
        extra={"check": check_country, "choice": True},
        extra_json_schema={"pattern": "^[A-Z]{2}$"},
    ),
]
