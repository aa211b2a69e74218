"""Currency codes."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from app.money import currency_decimals
from app.web.errors import Code
from app.web.fields import Refused


def check_currency(code: str) -> str:
    """Return the code. Raises Refused (INVALID_CURRENCY) if ISO 4217 does not list it."""
    if currency_decimals(code) is None:
        raise Refused("must be an ISO 4217 code, such as EUR", Code.INVALID_CURRENCY)
    return code


Currency = Annotated[
    str,
    Meta(
        description="ISO 4217",
        examples=["EUR"],
        extra={"check": check_currency, "choice": True},
        extra_json_schema={"pattern": "^[A-Z]{3}$"},
    ),
]
