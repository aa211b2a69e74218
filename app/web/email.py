"""Email addresses."""

from __future__ import annotations

from typing import Annotated

import email_validator
from msgspec import Meta

from app.web.errors import Code
from app.web.fields import Refused
from app.web.text import trimmed

# Companies have addresses in their own networks, such as printer@corp.local.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


def check_email(text: str) -> str:
    """Return the address. Raises Refused (INVALID_EMAIL) if the email-validator library does not accept it."""
    try:
        email_validator.validate_email(text, check_deliverability=False)
    except email_validator.EmailNotValidError as error:
        raise Refused(f"is not a valid address: {error}", Code.INVALID_EMAIL) from None
    return text


Email = Annotated[
    str,
    Meta(
        max_length=255,
        description="An email address",
        examples=["ada@example.com"],
        extra={"clean": trimmed, "check": check_email},
        extra_json_schema={"anyOf": [{"format": "email"}, {"maxLength": 0}]},
    ),
]
